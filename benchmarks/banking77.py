"""Banking77: customer messages to one of 77 intents, as JSON. All 3,080 test rows, the embedded model tuned in full and by LoRA.

    TUNESMITH_DATA=... python -m benchmarks.banking77                         everything; parts already measured are kept
    TUNESMITH_DATA=... python -m benchmarks.banking77 --parts full --again    one part anew

Training goes through the public API, answers are generated greedily and count when the JSON names exactly the right intent.
Beside it, measured in the same run: the untuned model's answers, the untuned model choosing among the 77 answers by
likelihood, and TF-IDF with logistic regression. Training rows are the published 10,003 less 500 held out for choosing.
"""

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_folder, read_results, sha256, table, write_results

NAME = "banking77"
DEV_ROWS = 500
ANSWER = '{"intent": "{{ category }}"}'
# Learning rate of full tuning: one trial on an earlier `mini`; no search was made. LoRA: the second settings tried on this one, more
# epochs than the first; the 500 held-out rows chose.
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {
        "adapter": "full",
        "train.epochs": 4,
        "train.lr": 1e-3,
        "train.batch_size": 32,
        "train.precision": "auto",
        "train.sample": 0,
    },
    "lora": {
        "adapter": {"lora": {"rank": 64, "alpha": 64}},
        "train.epochs": 8,
        "train.lr": 2e-3,
        "train.batch_size": 32,
        "train.schedule": "cosine",
        "train.precision": "auto",
        "train.sample": 0,
    },
}
PARTS = ("tfidf", "untuned", "likelihood", "full", "lora")


def data_keys() -> dict[str, Any]:
    """The data section of every run here."""
    return {
        "data.path": str(data_folder("data", "class_en_banking77", "train.csv")),
        "data.test": str(data_folder("data", "class_en_banking77", "test.csv")),
        "data.dev": DEV_ROWS,
        "data.stratify": "category",
        "data.prompt": "{{ text }}",
        "data.answer": ANSWER,
    }


def published(part: str) -> list[dict[str, str]]:
    """The rows of train.csv or test.csv."""
    with data_folder("data", "class_en_banking77", f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def share(right: float, n: int, **facts: Any) -> dict[str, Any]:
    """A proportion with its Wilson interval."""
    from tunesmith.stats.intervals import wilson

    low, high = wilson(right, n)
    return {"accuracy": right / n, "low": low, "high": high, "n": n, **facts}


def tuned(part: str, model: str, out: Path, extra: dict[str, Any]) -> dict[str, Any]:
    """Train by the public API, then answer every test row."""
    import tunesmith

    keys = {**data_keys(), **SETTINGS[part], **extra}
    began = time.perf_counter()
    run = tunesmith.train(model=model, out=str(out / part), **keys)
    minutes = (time.perf_counter() - began) / 60
    found = answered(run["run"], Path(run["run"]), f"banking77 {part}")
    chosen = {key: run["chosen"][key] for key in ("lr", "steps", "epochs", "pass_tokens")}
    return {**found, "minutes": minutes, "train_tokens": run["tokens"], "steps": run["steps"], "settings": SETTINGS[part] | extra,
            "chosen": chosen, "best_dev_loss": run["best_dev_loss"]}  # fmt: skip


def answered(model_name: str, run: Path, by: str) -> dict[str, Any]:
    """Accuracy of generated answers on the test rows of a run folder."""
    import tunesmith
    from tunesmith.core.runs import RunFolder
    from tunesmith.data.rows import RowFile
    from tunesmith.evals.run import evaluate
    from tunesmith.metrics.accuracy import Accuracy
    from tunesmith.metrics.exact_match import ExactMatch
    from tunesmith.text.encode import Text

    model = tunesmith.load(model_name, merge=True)
    folder = RunFolder.open(run)
    folder.count_test_read(by=by)
    rows = RowFile(folder.file("data/test.jsonl"))
    metrics = {"intent": Accuracy(field="intent"), "exact": ExactMatch()}
    done = evaluate(
        model,
        Text(model.tokenizer),
        rows,
        metrics,
        folder=folder.file("evals"),
        name=by.replace(" ", "-"),
        max_tokens=32,
        batch=64,
    )
    found = done["metrics"]["intent"]
    exact = done["metrics"]["exact"]["value"]
    right = round(found["value"] * found["n"])
    cost = done["cost"]
    return share(right, found["n"], exact_match=exact, unreadable=found["extra"]["unreadable"], eval_cost=cost)


def by_likelihood(model: str, out: Path) -> dict[str, Any]:
    """The untuned model's likeliest of the 77 answers, by the sum of log p; by the mean per token beside it."""
    import tunesmith
    from tunesmith.evals.likelihood import answer_ids, likelihoods
    from tunesmith.text.encode import Text

    folder, rows = untuned_rows(model, out)
    folder.count_test_read(by="banking77 likelihood")
    loaded = tunesmith.load(model)
    text = Text(loaded.tokenizer)
    labels = sorted({row["category"] for row in published("train")})
    said = [ANSWER.replace("{{ category }}", label) for label in labels]
    prompts = [text.prompt(row["messages"][:1]) for row in rows]
    began = time.perf_counter()
    found = likelihoods(loaded, prompts, [answer_ids(text, rows[0]["messages"][:1], answer) for answer in said])
    minutes = (time.perf_counter() - began) / 60
    wanted = np.array([said.index(row["messages"][1]["content"]) for row in rows])
    right, by_mean = (int((found.choice(per_token=each) == wanted).sum()) for each in (False, True))
    return share(right, len(rows), per_token_mean=by_mean / len(rows), eval_minutes=minutes)


def tfidf() -> dict[str, Any]:
    """Word 1-2-grams and logistic regression, its C chosen on held-out training rows, then fitted on all of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    def fitted(strength: float, rows: list[dict[str, str]]) -> Any:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        pipeline = make_pipeline(words, LogisticRegression(C=strength, max_iter=1000))
        return pipeline.fit([row["text"] for row in rows], [row["category"] for row in rows])

    def score(model: Any, rows: list[dict[str, str]]) -> int:
        return int(np.sum(model.predict([row["text"] for row in rows]) == np.array([row["category"] for row in rows])))

    began = time.perf_counter()
    train, test = published("train"), published("test")
    part, dev = train_test_split(train, test_size=DEV_ROWS, random_state=0, stratify=[row["category"] for row in train])
    tried = {strength: score(fitted(strength, part), dev) / len(dev) for strength in (1.0, 10.0, 100.0)}
    best = max(tried, key=tried.__getitem__)
    right = score(fitted(best, train), test)
    return share(
        right, len(test), minutes=(time.perf_counter() - began) / 60, C=best, dev={str(c): v for c, v in tried.items()}
    )


def untuned_rows(model: str, out: Path) -> tuple[Any, Any]:
    """A run folder for the model as it is, and its test rows: the same ones as in training runs."""
    from tunesmith.core.runs import RunFolder
    from tunesmith.data.prepare import prepare
    from tunesmith.data.rows import RowFile

    path = out / "untuned"
    if not path.exists():
        folder = RunFolder.create(path, project={"model": model}, verb="benchmark")
        prepare(folder.path, seed=0, **{key.removeprefix("data."): value for key, value in data_keys().items()})
    folder = RunFolder.open(path)
    return folder, RowFile(folder.file("data/test.jsonl"))


def untuned(model: str, out: Path) -> dict[str, Any]:
    """Answers of the model as it is."""
    folder, _ = untuned_rows(model, out)
    return answered(model, folder.path, "banking77 untuned")


def show(found: dict[str, Any]) -> str:
    """The table of a results file."""
    parts = found["parts"]
    titles = {
        "tfidf": "TF-IDF 1-2-grams + logistic regression",
        "untuned": "mini as it is, generated answer",
        "likelihood": "mini as it is, likeliest of the 77 answers",
        "full": "mini, full tuning",
        "lora": "mini, LoRA",
    }
    lines = []
    for part in PARTS:
        if part in parts:
            one = parts[part]
            interval = f"{one['accuracy']:.4f} ({one['low']:.4f}-{one['high']:.4f})"
            tokens = f"{one['train_tokens'] / 1e6:.2f}M" if "train_tokens" in one else ""
            minutes = f"{one['minutes']:.1f}" if "minutes" in one else ""
            lines.append([titles[part], interval, str(one["n"]), minutes, tokens])
    return table(["Banking77 test", "accuracy (95 % Wilson)", "n", "training minutes", "training tokens"], lines)


def main() -> None:
    """See the top of the file."""
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--model", default="mini")
    ask.add_argument("--parts", default=",".join(PARTS))
    ask.add_argument("--again", action="store_true", help="measure the named parts anew")
    ask.add_argument(
        "--out",
        type=Path,
        default=Path("runs") / "banking77",
        help="run folders go here; --again replaces those of its parts",
    )
    ask.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another setting for the training parts"
    )
    ask.add_argument("--trial", action="store_true", help="print only; nothing is written to the results")
    given = ask.parse_args()
    import yaml

    extra = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in given.set)}
    wanted = given.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    weights = weights_of(given.model)
    earlier = read_results(NAME)
    parts = dict(earlier.get("parts", {})) if not given.trial else {}
    for part in list(parts):  # what an older model did says nothing about this one
        if part != "tfidf" and parts[part].get("weights") != weights:
            del parts[part]
    for part in wanted:
        if part in parts and not given.again:
            continue
        print(f"{part} ...", flush=True)
        if given.again:
            shutil.rmtree(given.out / part, ignore_errors=True)
        if part == "tfidf":
            parts[part] = tfidf()
        elif part == "untuned":
            parts[part] = untuned(given.model, given.out)
        elif part == "likelihood":
            parts[part] = by_likelihood(given.model, given.out)
        else:
            parts[part] = tuned(part, given.model, given.out, extra)
        parts[part]["weights"] = weights
        print(json.dumps(parts[part], default=str), flush=True)
        if not given.trial:
            write_results(NAME, {"model": given.model, "parts": parts})
    print(show({"parts": parts}))


def weights_of(model: str) -> str:
    """Hash of the base model's weights: results of another model are never mixed in."""
    from tunesmith.model.embedded import NAMES, folder

    place = folder(model) if model in NAMES else Path(model)
    return sha256(*sorted(place.glob("*.safetensors")))


if __name__ == "__main__":
    main()
