"""Cells: learning from text. Continued pre-training on a field, filling blanks in code and prose, a longer context, vectors."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_folder
from benchmarks.methods.bank import EPOCHS, accuracy, as_labels, corpus, files, rows_of
from benchmarks.methods.context import Context, spread, write_rows
from benchmarks.methods.preferences import lines_of

CODE = ("TheAlgorithms/Python", "python/cpython")  # the other rows of the corpus' code are dialogues and lists


def few(ctx: Context, number: int) -> list[dict[str, str]]:
    """The first `number` labelled rows of each intent."""
    of: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(ctx, "train"):
        of.setdefault(row["category"], []).append(row)
    return [row for same in of.values() for row in same[:number]]


def pretrain_bank(ctx: Context) -> dict[str, Any]:
    """Customers' questions without labels, then a classifier from 5 labelled rows an intent: from the field's model and from the base.

    The base also learns from 10 rows an intent: how many labels were saved?
    """
    from tunesmith.evals.perplexity import perplexity

    known = {row["text"] for row in few(ctx, 5)}
    texts = [{"text": row["text"]} for row in rows_of(ctx, "train") if row["text"] not in known]
    field = write_rows(ctx.out / "data" / "bank-texts.jsonl", texts[: ctx.rows(5000)])
    keys = {"data.path": field, "data.dev": 60, "data.shape": "text", "train.epochs": 3, "train.lr": 5e-4}
    run = ctx.train("field", method="pretrain", adapter="full", **keys, **{"train.batch_size": 64})
    unseen = [row["text"] for row in lines_of(Path(files(ctx)[1]))]
    before, after = (perplexity(model, unseen).bits_per_byte for model in (ctx.open(), ctx.open(run)))
    shares = {}
    for name, model, number in (("base", ctx.model, 5), ("from_field", run, 5), ("base_of_10", ctx.model, 10)):
        labelled = write_rows(ctx.out / "data" / f"bank-{number}-each.jsonl", few(ctx, number))
        columns = {**as_labels(ctx), "data.path": labelled, "data.dev": 0, "model": model}
        more = {**EPOCHS, "train.epochs": 15, "train.lr": 1e-3}
        shares[name] = accuracy(ctx.train(name, method="classify", adapter="full", **more, **columns))
    return {
        "bits_saved": before - after,
        "accuracy_gain": shares["from_field"] - shares["base"],
        "gain_over_10": shares["from_field"] - shares["base_of_10"],
        "accuracy": shares["from_field"],
    }


def infilled(ctx: Context, texts: list[str], blanks: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Train on texts with blanks; bits a byte of the middles of `blanks`, which are no part of them.

    The tuned model sees the suffix, or reads what comes before from left to right, as the base does.
    """
    source = write_rows(ctx.out / "data" / f"{ctx.cell}.jsonl", [{"text": text} for text in texts])
    keys = {"data.path": source, "data.dev": 20, "data.shape": "text", "length": 512, "too_long": "split"}
    run = ctx.train(method="infill", adapter="full", **keys, **{"train.epochs": 1, "train.lr": 5e-4})
    tuned, base = ctx.open(run), ctx.open()
    before = [(prefix, middle) for prefix, middle, _ in blanks]
    seen, plain, left = middles(tuned, blanks), following(tuned, before), following(base, before)
    a_byte = math.log(2) * sum(len(middle.encode()) for _, middle, _ in blanks)
    return {"bits_saved": (left - seen) / a_byte, "suffix_saves": (plain - seen) / a_byte, "bits": seen / a_byte}


def infill_code(ctx: Context) -> dict[str, Any]:
    """Python of the corpus with blanks; measured on the missing lines of HumanEval."""
    rows = lines_of(data_folder("data", "code_humaneval") / "HumanEval-SingleLineInfilling.jsonl.gz")
    rows = [row for row in rows if row["canonical_solution"].strip()][: ctx.rows(300)]
    blanks = [(row["prompt"], row["canonical_solution"], row["suffix"]) for row in rows]
    return infilled(ctx, corpus("train-code-00", ctx.rows(400), CODE), blanks)


def infill_text(ctx: Context) -> dict[str, Any]:
    """Running text of the corpus with blanks; measured on eight missing words of paragraphs of WikiText-2."""
    unseen = (data_folder("data", "raw_en_wikitext2") / "test.txt").read_text(encoding="utf-8")
    blanks = spread(blanks_of(unseen), ctx.rows(300))
    return infilled(ctx, corpus("train-prose-en-01", ctx.rows(300)), blanks)


def blanks_of(text: str, missing: int = 8, least: int = 60) -> list[tuple[str, str, str]]:
    """(prefix, middle, suffix) of each line of at least `least` words: the words from its middle on are missing."""
    made = []
    for words in (line.split() for line in text.splitlines()):
        half = len(words) // 2
        parts = words[:half], words[half : half + missing], words[half + missing :]
        if len(words) >= least:
            made.append((" ".join(parts[0]), " " + " ".join(parts[1]), " " + " ".join(parts[2])))
    return made


def middles(model: Any, blanks: list[tuple[str, str, str]]) -> float:
    """Sum of -log p of the middles, without their end, given prefix and suffix."""
    from tunesmith.text.infill import blank_of

    blank = blank_of(model.tokenizer)
    examples = [blank.example(*each, middle_only=True, room=model.context) for each in blanks]
    return nats(model, examples, ends=False)


def following(model: Any, texts: list[tuple[str, str]]) -> float:
    """Sum of -log p of each second text after its first, read left to right with as much of the first as fits."""
    from tunesmith.text.example import Example

    examples = []
    for before, words in texts:
        ids = model.tokenizer.encode(words)
        start = [*model.tokenizer.prefix_ids, *model.tokenizer.encode(before)][-(model.context - len(ids)) :]
        examples.append(Example.of([*start, *ids], [0.0] * len(start) + [1.0] * len(ids)))
    return nats(model, examples, ends=True)


def nats(model: Any, examples: list[Any], *, ends: bool) -> float:
    """Sum of -log p over trained-on tokens; ends=False leaves out each Example's last one."""
    import torch

    from tunesmith.step.step import cut
    from tunesmith.text.example import Unit

    model.net.eval()
    policy, total = model.policy, 0.0
    units = [Unit((example,)) for example in examples]
    with torch.no_grad():
        for chosen in cut(units, 8192, padded=policy.layout == "padded"):
            batch = policy.batch([units[i] for i in chosen])
            logp = policy.logprobs(batch).double()
            if not ends:
                last = torch.ones_like(logp)
                last[(batch.lengths.cumsum(0) - 1).long()] = 0.0
                logp = logp * last
            total -= float(logp.sum())
    return total


def long_context(ctx: Context) -> dict[str, Any]:
    """Articles at twice the context: stretched by YaRN and tuned there, against stretched only; the loss in eighths of it.

    What is saved beyond the old context is set against what is saved within: to know the field better helps both alike.
    """
    from tunesmith.evals.positions import by_position
    from tunesmith.model.load import load

    old = ctx.open().context
    texts = {
        part: articles(data_folder("data", "raw_en_wikitext2") / f"{part}.txt", 2 * old) for part in ("valid", "test")
    }
    rows = [{"text": text} for text in texts["valid"]]
    source = write_rows(ctx.out / "data" / f"articles-{old}.jsonl", rows[: ctx.rows(400)])
    rope = {"kind": "yarn", "factor": 2.0}
    keys = {"data.path": source, "data.dev": 4, "data.shape": "text", "length": 2 * old, "rope": rope}
    run = ctx.train(method="pretrain", adapter="full", **keys, **{"train.epochs": 1, "train.lr": 3e-4, "train.batch_size": 8})  # fmt: skip
    unseen = texts["test"][: ctx.rows(60)]
    stretched, tuned = (by_position(model, unseen, length=2 * old) for model in (load(ctx.model, rope=rope), ctx.open(run)))  # fmt: skip
    saved = stretched.loss() - tuned.loss()
    half = len(saved) // 2
    near, far = float(np.nanmean(saved[:half])), float(np.nanmean(saved[half:]))
    curves = {"stretched": stretched.loss(), "tuned": tuned.loss()}
    eighths = {f"{name}_loss_{i}": value for name, losses in curves.items() for i, value in enumerate(losses)}
    return {"far_over_near": far - near, "far_saved": far, "near_saved": near, **eighths}


def articles(path: Path, length: int) -> list[str]:
    """Pieces of running text long enough for `length` tokens of any tokenizer here (5 characters a token)."""
    text = path.read_text(encoding="utf-8")
    size = 5 * length
    return [text[start : start + size] for start in range(0, len(text) - size, size)]


def embed_ko(ctx: Context) -> dict[str, Any]:
    """Korean paraphrases, 700 groups to learn from, 300 unseen: does a question find the nine others, against BM25?"""
    lines = (data_folder("data", "dup_ko_parakqc") / "paraKQC_v1.txt").read_text(encoding="utf-8").splitlines()
    said = [line.split("\t")[2].strip() for line in lines]
    groups = [said[start : start + 10] for start in range(0, len(said) - 9, 10)]
    order = np.random.default_rng(0).permutation(len(groups))
    rows = [{"texts": groups[i], "group": str(i)} for i in order[300:]]
    source = write_rows(ctx.out / "data" / "paraphrases.jsonl", rows[: ctx.rows(700)])
    method = {"embed": {"pairs_of_group": 5}}
    keys = {"data.path": source, "data.dev": 20, "train.epochs": 3, "train.lr": 5e-4, "train.batch_size": 64}
    run = ctx.train(method=method, adapter="full", **keys)
    unseen = [groups[i] for i in order[:300]][: ctx.rows(300)]
    texts = [text for group in unseen for text in group]
    owner = np.repeat(np.arange(len(unseen)), [len(group) for group in unseen])
    found, words = recall(likeness(run, texts), owner), recall(by_words(texts), owner)
    return {"recall_gain": found - words, "recall": found, "recall_bm25": words}


def likeness(run: str, texts: list[str]) -> np.ndarray:
    """Cosine of every two texts by a run's vectors."""
    import torch

    from tunesmith.adapters.store import open_run
    from tunesmith.model.vectors import vectors
    from tunesmith.text.encode import Text
    from tunesmith.text.example import Unit

    model = open_run(run)
    model.net.eval()
    text, made = Text(model.tokenizer, length=model.context, too_long="split"), []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            units = [Unit((text.whole(words)[0],)) for words in texts[start : start + 64]]
            made.append(torch.nn.functional.normalize(vectors(model.policy, model.policy.batch(units)), dim=1))
    whole = torch.cat(made)
    return (whole @ whole.T).numpy()


def by_words(texts: list[str]) -> np.ndarray:
    """BM25 scores of every two texts."""
    from tunesmith.retrieve.bm25 import Bm25

    index = Bm25(texts)
    return np.stack([index.scores(text) for text in texts])


def recall(scores: np.ndarray, owner: np.ndarray, k: int = 10) -> float:
    """Mean share of a text's group that is among the k nearest others."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = (owner[nearest] == owner[:, None]).sum(1)
    others = np.bincount(owner)[owner] - 1
    return float((hits / np.minimum(others, k)).mean())


def masked_encoder(ctx: Context) -> dict[str, Any]:
    """A small encoder: six thousand questions and texts with hidden words, then a classifier, against one with fresh weights."""
    name = "pico-encoder" if ctx.smoke else "mini-encoder"
    asked = [row["text"] for row in rows_of(ctx, "train") if len(row["text"]) > 20][: ctx.rows(3000)]
    texts = [{"text": text[:600]} for text in (*asked, *corpus("train-prose-en-00", ctx.rows(3000)))]
    source = write_rows(ctx.out / "data" / "for-encoder.jsonl", texts)
    keys = {"data.path": source, "data.dev": 60, "data.shape": "text", "length": 128, "too_long": "split"}
    more = {"train.epochs": 2, "train.lr": 1e-3, "train.batch_size": 64}
    run = ctx.train("masked", model=name, method="masked", adapter="full", **keys, **more)
    shares = {}
    for start, model in (("fresh", name), ("from_masked", run)):
        learn = {**EPOCHS, "train.epochs": 8, "train.lr": 1e-3, "model": model}
        shares[start] = accuracy(ctx.train(start, method="classify", adapter="full", **learn, **as_labels(ctx)))
    return {"accuracy_gain": shares["from_masked"] - shares["fresh"], "accuracy": shares["from_masked"]}


CELLS = (pretrain_bank, infill_code, infill_text, long_context, masked_encoder, embed_ko)
