"""Cells: ways of tuning on one task. Banking77, 1,000 training and 400 test rows; answers generated as JSON, or a classifier's label.

Besides accuracy: seconds and peak memory (every cell has them), bytes of the weights, and what was forgotten - bits a byte of
other text (corpus/val-00), after minus before.
"""

import csv
import hashlib
from pathlib import Path
from typing import Any

from benchmarks.common import data_folder
from benchmarks.methods.context import Context, spread, write_rows
from benchmarks.methods.preferences import lines_of

TRAIN, TEST = 1000, 400
ANSWER = '{"intent": "{{ category }}"}'
EPOCHS: dict[str, Any] = {"train.epochs": 5, "train.batch_size": 32}


def published(part: str) -> list[dict[str, str]]:
    """Rows of train.csv or test.csv in an order fixed by their text: a part of them is a fair sample."""
    with data_folder("data", "class_en_banking77", f"{part}.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"].strip(), "category": row["category"]} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: hashlib.sha1(row["text"].encode()).hexdigest())


def rows_of(ctx: Context, part: str) -> list[dict[str, str]]:
    """The published rows; of three intents only when smoking, so that a few rows hold them all."""
    rows = published(part)
    names = sorted({row["category"] for row in rows})[: 3 if ctx.smoke else None]
    return [row for row in rows if row["category"] in names]


def files(ctx: Context, number: int = TRAIN) -> tuple[str, str]:
    """(training file, test file)."""
    train = write_rows(ctx.out / "data" / f"bank-{number}.jsonl", rows_of(ctx, "train")[: ctx.rows(number)])
    return train, write_rows(ctx.out / "data" / "bank-test.jsonl", rows_of(ctx, "test")[: ctx.rows(TEST)])


def as_chat(ctx: Context, number: int = TRAIN) -> dict[str, Any]:
    """data.* keys: a question is answered by JSON that names the intent."""
    train, test = files(ctx, number)
    return {
        "data.path": train, "data.test": test, "data.dev": 40, "data.prompt": "{{ text }}", "data.answer": ANSWER,
        "metrics": [{"accuracy": {"field": "intent"}}, "exact_match"], "generate.max_tokens": 32, "generate.batch": 64,
        "train.sample": 0,
    }  # fmt: skip


def as_labels(ctx: Context, number: int = TRAIN) -> dict[str, Any]:
    """data.* keys: texts with labels."""
    train, test = files(ctx, number)
    columns = {"text": "text", "label": "category"}
    return {"data.path": train, "data.test": test, "data.dev": 40, "data.shape": "text_label", "data.columns": columns}


def corpus(shard: str, number: int, sources: tuple[str, ...] = ("",)) -> list[str]:
    """Texts of a shard of the corpus, a fair part of it (its rows lie sorted by source); of some sources only, by how they begin."""
    rows = lines_of(data_folder("corpus", f"{shard}.jsonl.gz"))
    texts = [row["text"] for row in rows if len(row["text"]) > 200 and row["source"].startswith(sources)]
    return spread(texts, number)


def other_text(ctx: Context) -> list[str]:
    """A sample of text the task says nothing about."""
    return [text[:1200] for text in corpus("val-00", ctx.rows(150))]


def surprise(ctx: Context, model: Any) -> float:
    """Bits a byte of other text."""
    from tunesmith.evals.perplexity import perplexity

    return perplexity(model, other_text(ctx)).bits_per_byte


def accuracy(run: str, **keys: Any) -> float:
    """Share of test rows answered right, by the public API."""
    import tunesmith

    return tunesmith.eval(run, quiet=True, **keys)["metrics"]["accuracy"]["value"]


def weight_bytes(run: str) -> float:
    """Bytes of everything the opened model holds, its adapter included."""
    from tunesmith.adapters.store import open_run

    net = open_run(run).net
    held = {t.data_ptr(): t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers())}
    return float(sum(held.values()))


def tuned(ctx: Context, adapter: Any, **keys: Any) -> dict[str, Any]:
    """sft with one adapter."""
    run = ctx.train(method="sft", adapter=adapter, **{**EPOCHS, **keys}, **as_chat(ctx))
    before = surprise(ctx, ctx.open())
    from tunesmith.adapters.store import open_run

    return {
        "accuracy": accuracy(run),
        "forgetting": surprise(ctx, open_run(run)) - before,
        "weight_bytes": weight_bytes(run),
    }


def top(ctx: Context) -> dict[str, Any]:
    """The adapter of the last two layers; pico has one."""
    return {"top": {"layers": 1 if ctx.smoke else 2}}


def bank_full(ctx: Context) -> dict[str, Any]:
    """Every weight."""
    return tuned(ctx, "full", **{"train.lr": 1e-3})


def bank_lora(ctx: Context) -> dict[str, Any]:
    """LoRA, rank 16."""
    return tuned(ctx, {"lora": {"rank": 16}})


def bank_dora(ctx: Context) -> dict[str, Any]:
    """DoRA, rank 16."""
    return tuned(ctx, {"dora": {"rank": 16}})


def bank_pissa(ctx: Context) -> dict[str, Any]:
    """PiSSA, rank 16."""
    return tuned(ctx, {"pissa": {"rank": 16}})


def bank_qlora(ctx: Context) -> dict[str, Any]:
    """LoRA of rank 16 over a base in four bits."""
    return tuned(ctx, {"qlora": {"rank": 16}})


def bank_ia3(ctx: Context) -> dict[str, Any]:
    """IA3, its defaults."""
    return tuned(ctx, "ia3")


def bank_layernorm(ctx: Context) -> dict[str, Any]:
    """The norms alone."""
    return tuned(ctx, "layernorm")


def bank_top(ctx: Context) -> dict[str, Any]:
    """The last two layers."""
    return tuned(ctx, top(ctx), **{"train.lr": 1e-3})


def bank_bottleneck(ctx: Context) -> dict[str, Any]:
    """Small layers put between, their defaults."""
    return tuned(ctx, "bottleneck")


def bank_prefix(ctx: Context) -> dict[str, Any]:
    """Trained keys and values in every layer, their defaults."""
    return tuned(ctx, "prefix")


def bank_prompt(ctx: Context) -> dict[str, Any]:
    """Twenty trained vectors before every text."""
    return tuned(ctx, "prompt")


def classified(ctx: Context, adapter: Any, **keys: Any) -> dict[str, Any]:
    """A classifier with one adapter."""
    run = ctx.train(method="classify", adapter=adapter, **{**EPOCHS, **keys}, **as_labels(ctx))
    return {"accuracy": accuracy(run)}


def classify_full(ctx: Context) -> dict[str, Any]:
    """Body and head."""
    return classified(ctx, "full", **{"train.lr": 1e-3})


def classify_lora(ctx: Context) -> dict[str, Any]:
    """LoRA and head."""
    return classified(ctx, {"lora": {"rank": 16}})


def classify_top(ctx: Context) -> dict[str, Any]:
    """The last two layers and head."""
    return classified(ctx, top(ctx), **{"train.lr": 1e-3})


def classify_prompt(ctx: Context) -> dict[str, Any]:
    """Twenty trained vectors before every text, and head."""
    return classified(ctx, "prompt")


def classify_head(ctx: Context) -> dict[str, Any]:
    """The head alone. It forgets nothing: the body is frozen."""
    return classified(ctx, "head")


def classify_features(ctx: Context) -> dict[str, Any]:
    """Logistic regression on the base's vectors; the model stays as it is, so it forgets nothing."""
    run = ctx.train(method="features", **as_labels(ctx))
    return {"accuracy": accuracy(run)}


def bank_multitask(ctx: Context) -> dict[str, Any]:
    """Every weight, with raw text of the kind the base was made of beside: what it read before is kept in mind."""
    train, test = files(ctx)
    texts = [{"text": text[:1200]} for text in corpus("train-prose-en-00", ctx.rows(150))]
    kept = write_rows(ctx.out / "data" / "prose.jsonl", texts)
    asked = write_rows(
        ctx.out / "data" / "bank-asked.jsonl",
        [{"question": row["text"], "answer": said(row)} for row in lines_of(Path(train))],
    )
    keys = {**as_chat(ctx), "data.path": [asked, kept], "too_long": "split"}
    for name in ("data.test", "data.prompt", "data.answer"):
        del keys[name]
    method = {"multitask": {"tasks": {Path(asked).stem: "sft", Path(kept).stem: "pretrain"}, "balance": "tasks"}}
    run = ctx.train(method=method, adapter="full", **{**EPOCHS, "train.lr": 1e-3}, **keys)
    model = ctx.open(run)
    share = answered(model, lines_of(Path(test)), Path(run) / "evals", "bank")
    return {"accuracy": share, "forgetting": surprise(ctx, model) - surprise(ctx, ctx.open())}


def answered(model: Any, rows: list[dict[str, str]], folder: Path, name: str) -> float:
    """Share of published rows whose intent a model says."""
    from tunesmith.evals.run import evaluate
    from tunesmith.metrics.accuracy import Accuracy
    from tunesmith.text.encode import Text

    asked = [
        {"messages": [{"role": "user", "content": row["text"]}], "answer": said(row), "id": str(number)}
        for number, row in enumerate(rows)
    ]
    metrics = {"accuracy": Accuracy(field="intent")}
    found = evaluate(model, Text(model.tokenizer), asked, metrics, folder=folder, name=name, max_tokens=32, batch=64)
    return float(found["metrics"]["accuracy"]["value"])


def npo_bank(ctx: Context) -> dict[str, Any]:
    """The fully tuned model unlearns every fourth intent and is held to the others, both by its own training rows.

    beta and weight were chosen on training rows that no cell uses.
    """
    train, test = files(ctx)
    start = ctx.run_of("bank_full")
    names = sorted({row["category"] for row in lines_of(Path(train))})[::4]
    paths = {}
    for task, wanted in (("forget", True), ("keep", False)):
        rows = [row for row in lines_of(Path(train)) if (row["category"] in names) is wanted]
        asked = [{"question": row["text"], "answer": said(row)} for row in rows]
        paths[task] = write_rows(ctx.out / "data" / f"bank-{task}.jsonl", asked)
    forget, keep = (Path(paths[task]).stem for task in ("forget", "keep"))
    tasks = {forget: {"npo": {"beta": 0.5}}, keep: "sft"}
    method = {"multitask": {"tasks": tasks, "balance": "tasks", "weights": {forget: 0.05}}}
    keys = {"model": start, "data.path": list(paths.values()), "data.dev": 0, "train.sample": 0}
    run = ctx.train(method=method, adapter="full", **{**EPOCHS, "train.epochs": 1, "train.lr": 2e-4}, **keys)
    found = {}
    for when, name in (("before", start), ("after", run)):
        model = ctx.open(name)
        for task, wanted in (("forgotten", True), ("kept", False)):
            rows = [row for row in lines_of(Path(test)) if (row["category"] in names) is wanted]
            found[f"{task}_{when}"] = answered(model, rows, Path(run) / "evals", f"{task}-{when}")
    return {**found, "unlearned": found["forgotten_before"] - found["forgotten_after"], "kept_gain": found["kept_after"] - found["kept_before"]}  # fmt: skip


def said(row: dict[str, str]) -> str:
    """The answer of a published row."""
    return ANSWER.replace("{{ category }}", row["category"])


def student_rows(ctx: Context) -> dict[str, Any]:
    """A few rows, as chats."""
    return as_chat(ctx, 400)


def student_bank(ctx: Context) -> dict[str, Any]:
    """400 rows with their labels."""
    keys = {**EPOCHS, "train.epochs": 12, "train.lr": 1e-3}
    return {"accuracy": accuracy(ctx.train(method="sft", adapter="full", **keys, **student_rows(ctx)))}


def distill_bank(ctx: Context) -> dict[str, Any]:
    """The same 400 rows with the distributions of the model tuned on 1,000."""
    method = {"distill": {"teacher": str(Path(ctx.run_of("bank_full")).resolve()), "temperature": 2.0, "alpha": 0.5}}
    keys = {**EPOCHS, "train.epochs": 12, "train.lr": 1e-3}
    return {"accuracy": accuracy(ctx.train(method=method, adapter="full", **keys, **student_rows(ctx)))}


def gkd_bank(ctx: Context) -> dict[str, Any]:
    """The student of 400 rows answers the same questions again; the teacher shows at each token what it would have said."""
    teacher = str(Path(ctx.run_of("bank_full")).resolve())
    method = {"gkd": {"teacher": teacher, "max_tokens": 32, "temperature": 1.0}}
    keys = {"train.steps": 60, "train.batch_size": 32, "train.lr": 2e-4, "model": ctx.run_of("student_bank")}
    return {"accuracy": accuracy(ctx.train(method=method, adapter="full", **keys, **student_rows(ctx)))}


CELLS = (
    bank_full, bank_lora, bank_dora, bank_pissa, bank_qlora, bank_ia3, bank_layernorm, bank_top, bank_bottleneck,
    bank_prefix, bank_prompt, bank_multitask, classify_full, classify_lora, classify_top, classify_prompt, classify_head,
    classify_features, student_bank, distill_bank, gkd_bank, npo_bank,
)  # fmt: skip
