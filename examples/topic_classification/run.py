"""Topic classification of Korean headlines, twice: by our loop and by a loop written by hand.

    python run.py --size smoke                                   # a minute or less, on film reviews that come with Tunesmith
    python run.py --data ynat_dev.jsonl --corpus CORPUS          # a small encoder is pre-trained first: 15 minutes
    python run.py --data ynat_dev.jsonl --model klue/roberta-base

The settings are those of the notes: 1 epoch, batch 8 for training and evaluation, AdamW, lr 5e-5, evaluation each epoch.
`--data` is a file of {"title", "label", "split"?} ($TUNESMITH_DATA/class_ko_ynat/ynat_dev.jsonl when that is set), `--corpus`
a file or folder of {"text"} to pre-train on ($TUNESMITH_CORPUS). Everything is written under `--out`, the figures to results.json.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import by_hand
import torch
from custom_pipeline import CustomPipeline

import tunesmith

NOTES = {"Trainer": 0.84, "loop by hand": 0.82}  # klue/roberta-base, as the notes' comments state them
ID = "me/roberta-base-klue-ynat-classification"
SIZES = {
    "smoke": {"train": 320, "dev": 80, "test": 120, "encoder": "pico-encoder", "pretrain": {"steps": 30}, "texts": 300, "equal": 12},
    "full": {"train": None, "dev": 600, "test": None, "encoder": "mini-encoder", "pretrain": {"minutes": 14.0}, "texts": None, "equal": None},
}  # fmt: skip


def main() -> None:
    asked = arguments()
    size, out = SIZES[asked.size], Path(asked.out)
    if out.exists():
        sys.exit(f"{out} is there already: give another folder with --out, or remove it.")
    out.mkdir(parents=True)
    data = split_files(asked.data, out, size)
    encoder, stand_in = the_encoder(asked, out, size)
    print(f"\nEncoder: {encoder}" + (" (a local stand-in, not klue/roberta-base)" if stand_in else ""))

    keys: dict[str, Any] = {
        "model": encoder, "data": data, "method": "classify", "adapter": "full", "too_long": "trim_prompt",
        "train": {"epochs": 1, "batch_size": 8, "eval_batch": 8, "lr": asked.lr, "eval_every": "epoch"},
    }  # fmt: skip
    trained = tunesmith.train(out=str(out / "ours"), quiet=True, **keys)
    print(trained.text)
    scored = tunesmith.eval(str(out / "ours"), quiet=True)
    ours = scored["metrics"]["accuracy"]["value"]
    print(scored.text)

    suited = suited_rate(keys, out) if stand_in and asked.size == "full" else None

    equal = equal_settings(keys, out, size["equal"])
    whole = Path(encoder) / "model"  # of a run of ours; a folder or a hub name is taken as it is
    start = str(whole) if whole.is_dir() else encoder
    print("\nThe loop by hand, with its own defaults:")
    hand = by_hand.main(out / "ours", start, lr=asked.lr)
    trace = trace_the_gap(out, start, ours, hand["test_accuracy"], asked.lr) if asked.size == "full" else []
    pipes = pipelines(out, data)
    reload = publish_and_reload(out, data)
    results = {
        "encoder": encoder, "stand_in": stand_in, "size": asked.size, "ours": ours, "ours_at_a_rate_for_small_models": suited, "by_hand": hand, "notes": NOTES,
        "gap": ours - hand["test_accuracy"], "trace": trace, "equal_settings": equal, "pipelines": pipes, "reload": reload,
    }  # fmt: skip
    (out / "results.json").write_text(json.dumps(results, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(report(results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("TUNESMITH_DATA")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--data", default=f"{folder}/class_ko_ynat/ynat_dev.jsonl" if folder else None)
    parser.add_argument("--corpus", default=os.environ.get("TUNESMITH_CORPUS"))
    parser.add_argument("--model", help="an encoder to start from, such as klue/roberta-base, a folder or a run")
    parser.add_argument("--minutes", type=float, help="how long the stand-in is pre-trained")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--out", default="results")
    asked = parser.parse_args()
    if asked.size == "smoke":
        asked.data = asked.corpus = None
    elif asked.data is None:
        sys.exit("Give --data, a file of titles and labels, or --size smoke.")
    return asked


def split_files(data: str | None, out: Path, size: dict[str, Any]) -> dict[str, Any]:
    """train.jsonl and test.jsonl of {"title", "label"} under `out`, and what `data:` is for our loop. Test rows: the file's own, else a third."""
    lines = Path(data).read_text(encoding="utf-8").splitlines() if data else []
    rows = [json.loads(line) for line in lines] if data else list(reviews())
    held = [row.get("split", "test" if third(row["title"]) else "train") == "test" for row in rows]
    parts = {name: [row for row, test in zip(rows, held) if test == (name == "test")] for name in ("train", "test")}
    parts["train"] = parts["train"][: size["train"] and size["train"] + size["dev"]]
    parts["test"] = parts["test"][: size["test"]]
    for name, some in parts.items():
        kept = [json.dumps({"title": row["title"], "label": str(row["label"])}, ensure_ascii=False) for row in some]
        (out / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return {
        "path": str(out / "train.jsonl"),
        "test": str(out / "test.jsonl"),
        "dev": size["dev"],
        "columns": {"text": "title"},
    }


def reviews() -> Iterator[dict[str, str]]:
    """Film reviews that come with Tunesmith (NSMC, CC0), as titles."""
    path = Path(tunesmith.__file__).parent / "data" / "bundled" / "nsmc" / "train.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield {"title": row["document"], "label": ("부정", "긍정")[int(row["label"])]}


def third(text: str) -> bool:
    return hashlib.sha1(text.encode()).digest()[0] % 3 == 0


def the_encoder(asked: argparse.Namespace, out: Path, size: dict[str, Any]) -> tuple[str, bool]:
    """(the encoder to start from, whether it is a stand-in that was pre-trained here)."""
    if asked.model:
        return asked.model, not asked.model.startswith("klue/")
    texts = out / "corpus.jsonl"
    with open(texts, "w", encoding="utf-8") as file:
        for number, text in enumerate(korean_texts(asked.corpus)):
            if number == size["texts"]:
                break
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    print(f"Pre-training {size['encoder']} on {texts} (masked: 15 % of the tokens are hidden) ...")
    length = {"minutes": asked.minutes} if asked.minutes else size["pretrain"]
    done = tunesmith.train(
        model=size["encoder"], data={"path": str(texts), "dev": 0.01 if size["texts"] is None else 20}, method="masked",
        adapter="full", length=128, out=str(out / "encoder"), quiet=True,
        train={**length, "lr": 1e-3, "batch_size": 32, "warmup": 0.06, "weight_decay": 0.01, "eval_every": None},
    )  # fmt: skip
    print(done.text)
    return str(out / "encoder"), True


def korean_texts(corpus: str | None) -> Iterator[str]:
    """Texts with Hangul of a .jsonl or .jsonl.gz file or a folder of them; the reviews when there is none. Never a test row."""
    if corpus is None:
        yield from (row["title"] for row in reviews() if not third(row["title"]))
        return
    files = sorted(Path(corpus).glob("*.jsonl*")) if Path(corpus).is_dir() else [Path(corpus)]
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                if sum("가" <= letter <= "힣" for letter in text[:400]) > 0.3 * len(text[:400]):
                    yield text


def suited_rate(keys: dict[str, Any], out: Path) -> float:
    """Test accuracy at ten times the notes' learning rate, which was chosen for 110 million weights, not for three."""
    train = {**keys["train"], "lr": 10 * keys["train"]["lr"], "epochs": 3}
    tunesmith.train(out=str(out / "suited"), quiet=True, **{**keys, "train": train})
    return tunesmith.eval(str(out / "suited"), quiet=True)["metrics"]["accuracy"]["value"]


def equal_settings(keys: dict[str, Any], out: Path, steps: int | None) -> dict[str, float]:
    """The same start, order, optimiser and schedule in both loops: the largest differences of losses and of final scores."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith.model.save import save

    plain = {**keys["train"], "schedule": "constant", "warmup": 0.0, "clip": None, "weight_decay": 0.0}
    parts = tunesmith.build(
        {**keys, "train": {**plain, **({"steps": steps, "epochs": None} if steps else {})}}, out=str(out / "equal")
    )
    net = parts.model.net
    for module in net.modules():  # dropout draws other numbers in another loop
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    start = save(net, parts.model.tokenizer, out / "start")
    done = list(parts.steps())

    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForSequenceClassification.from_pretrained(start)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rows = by_hand.read(out / "equal", "train")
    order = [step.indices.tolist() for step in done]
    batches = by_hand.loader(rows, tokenizer, model.config.label2id, batch_sampler=order)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plain["lr"], weight_decay=0.0)
    losses = by_hand.train_epoch(model, batches, optimizer)
    dev = tokenizer(
        [row["text"] for row in by_hand.read(out / "equal", "dev")[:64]],
        padding=True,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        scores = [network.eval()(**dev).logits for network in (net, model)]
    return {
        "steps": len(done),
        "loss": max(abs(step.stats.loss - loss) for step, loss in zip(done, losses)),
        "scores": float((scores[0] - scores[1]).abs().max()),
    }


def trace_the_gap(out: Path, start: str, ours: float, hand: float, lr: float) -> list[dict[str, Any]]:
    """From the hand-written loop's defaults to ours, one difference at a time; each line is an epoch of its own."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows, test = by_hand.read(out / "equal", "train"), by_hand.read(out / "ours", "test")
    seen = [json.loads(line) for line in (out / "ours" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [event["lr"] for event in seen if event.get("kind", event.get("event")) == "step" and "lr" in event]
    found = [{"change": "the loop by hand, its own defaults", "accuracy": hand}]
    for change, head, decay, ramp, clip in (
        ("+ the new head's first weights are ours", True, 0.01, False, None),
        ("+ no weight decay", True, 0.0, False, None),
        ("+ learning rate rises, then falls to 0", True, 0.0, True, None),
        ("+ gradients clipped at norm 1", True, 0.0, True, 1.0),
    ):
        torch.manual_seed(0)
        where = str(out / "start") if head else start
        tokenizer, model = (
            AutoTokenizer.from_pretrained(where),
            AutoModelForSequenceClassification.from_pretrained(where),
        )
        labels = model.config.label2id
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
        batches = by_hand.loader(rows, tokenizer, labels, batch_size=8, shuffle=True)
        by_hand.train_epoch(model, batches, optimizer, rates if ramp else (), clip)
        found.append(
            {
                "change": change,
                "accuracy": by_hand.evaluate(model, by_hand.loader(test, tokenizer, labels, batch_size=8))[1],
            }
        )
    found.append({"change": "+ the order of the rows is ours = our loop", "accuracy": ours})
    return found


def pipelines(out: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The first five test titles through transformers' pipeline and through ours by hand."""
    from transformers import pipeline

    titles, folder = first_titles(data), str(out / "ours" / "model")
    theirs = pipeline("text-classification", model=folder, tokenizer=folder)(titles)
    own = CustomPipeline(folder)(titles)
    same = [a["label"] for a in theirs] == [b["label"] for b in own]
    return {
        "found": theirs,
        "same_labels": same,
        "score": max(abs(a["score"] - b["score"]) for a, b in zip(theirs, own)),
    }


def publish_and_reload(out: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Put the model into a registry, which is a folder here, and load it by its id in a new process."""
    place = out / "registry" / ID
    shutil.copytree(out / "ours" / "model", place)
    titles = first_titles(data)
    code = [sys.executable, str(Path(__file__).with_name("custom_pipeline.py").resolve()), ID, *titles]
    told = subprocess.run(code, cwd=out / "registry", check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in told.splitlines()]
    return {"id": ID, "identical": found == CustomPipeline(str(place))(titles)}


def first_titles(data: dict[str, Any]) -> list[str]:
    with open(data["test"], encoding="utf-8") as file:
        return [json.loads(next(file))["title"] for _ in range(5)]


def report(results: dict[str, Any]) -> str:
    """What a person reads at the end."""
    equal, pipes, hand = results["equal_settings"], results["pipelines"], results["by_hand"]["test_accuracy"]
    kind = "a small stand-in encoder, pre-trained here" if results["stand_in"] else results["encoder"]
    lines = [
        "",
        f"test accuracy           here ({kind})    the notes (klue/roberta-base)",
        f"  our loop / Trainer    {results['ours']:.4f}    {NOTES['Trainer']}",
        f"  loop by hand          {hand:.4f}    {NOTES['loop by hand']}",
        *(
            []
            if results["ours_at_a_rate_for_small_models"] is None
            else [
                f"  our loop, 3 epochs at ten times the rate, as suits a small model: {results['ours_at_a_rate_for_small_models']:.4f}"
            ]
        ),
        f"the two differ by {abs(results['gap']):.4f} (each with its own defaults)",
        *(f"  {line['accuracy']:.4f}  {line['change']}" for line in results["trace"]),
        f"equal settings, {equal['steps']} steps: losses differ by at most {equal['loss']:.1e}, scores by {equal['scores']:.1e}"
        + ("  (less than 1e-4: the same)" if max(equal["loss"], equal["scores"]) < 1e-4 else "  (NOT the same)"),
        f"pipeline() and the custom pipeline: {'the same labels' if pipes['same_labels'] else 'OTHER labels'}, scores differ "
        + f"by at most {pipes['score']:.1e}",
        f"{results['reload']['id']} loaded in a new process: predictions {'identical' if results['reload']['identical'] else 'DIFFER'}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
