"""Cells: preferences. Polite against rude answers (pref_en_small), and whole dialogues (pref_en_hh_harmless); unseen prompts.

`sft_small` learns the answers of instruct_en_small, whose prompts are those of the votes; the others start from it. Whether a
prompt is for training or for testing depends on the prompt alone, so no prompt is on both sides.
"""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.common import data_folder
from benchmarks.methods.context import Context, write_rows

FULL = {"adapter": "full", "train.batch_size": 16, "data.dev": 60, "too_long": "drop"}


def for_testing(prompt: str, share: int = 5) -> bool:
    """One prompt in five, by its hash."""
    return int(hashlib.sha1(prompt.encode()).hexdigest(), 16) % share == 0


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, gzipped or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def asked(row: dict[str, Any]) -> str:
    """Instruction and input as one question."""
    return "\n".join(filter(None, (row["instruction"], row["input"])))


def small(ctx: Context, keys: tuple[str, str, str]) -> dict[str, Any]:
    """data.* keys of the small set; `keys` name the columns of the file that is written."""
    votes = lines_of(data_folder("data", "pref_en_small") / "instruction-data-with-preference.jsonl")
    split: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in votes:
        if row["chosen"] != row["rejected"]:
            values = {
                "prompt": asked(row),
                "chosen": row["chosen"],
                "rejected": row["rejected"],
                "answer": row["output"],
            }
            split[for_testing(asked(row))].append({key: values[key] for key in keys if key})
    name = "-".join(filter(None, keys))
    paths = {
        part: write_rows(ctx.out / "data" / f"small-{name}-{part}.jsonl", split[part == "test"][: ctx.rows(number)])
        for part, number in (("train", 2000), ("test", 240))
    }
    return {"data.path": paths["train"], "data.test": paths["test"]}


VOTES, ANSWERS = ("prompt", "chosen", "rejected"), ("prompt", "answer", "")


def dialogues(ctx: Context) -> dict[str, Any]:
    """data.* keys of HH: whole dialogues, split by their first question."""
    split: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in lines_of(data_folder("data", "pref_en_hh_harmless") / "test.jsonl.gz"):
        split[for_testing(row["chosen"].split("\n\nAssistant:")[0])].append(row)
    paths = {
        part: write_rows(ctx.out / "data" / f"hh-{part}.jsonl", split[part == "test"][: ctx.rows(number)])
        for part, number in (("train", 1000), ("test", 250))
    }
    # a few dialogues end where the assistant says nothing
    return {"data.path": paths["train"], "data.test": paths["test"], "data.bad_rows": "drop", "length": 384}


def judged(ctx: Context, model: Any, run: str, name: str) -> dict[str, Any]:
    """Pairs of the run's test rows by a language model's likelihood; means over pairs of log p a token beside it."""
    from tunesmith.evals.preference import answer_logprobs, evaluate_pairs

    rows = fitting(ctx, model, run)
    folder = Path(run) / "evals"
    found = evaluate_pairs(answer_logprobs(model), rows, folder=folder, name=name, model=model)
    per_token = answer_logprobs(model, per_token=True)(rows, [row["chosen"] for row in rows])
    return {
        "preferred": found["metrics"]["preferred"]["value"],
        "margin": found["metrics"]["margin"]["value"],
        "likelihood": sum(per_token) / len(per_token),
        "pairs": found["n"],
    }


def fitting(ctx: Context, model: Any, run: str) -> list[dict[str, Any]]:
    """The test rows that fit the model's context and have two different answers; how many do not is in the facts."""
    from tunesmith.objectives._pairs import pair_units
    from tunesmith.text.encode import Text

    rows = ctx.test_rows(run)
    text = Text(model.tokenizer, length=model.context, too_long="drop")
    kept = [row for row in rows if pair_units(row, text)]
    ctx.facts["test_rows_left_out"] = len(rows) - len(kept)
    return kept


def learned(ctx: Context, start: str, **keys: Any) -> dict[str, Any]:
    """Train from `start` (a run, or "" for the base) and say what changed on the test pairs."""
    run = ctx.train(**({"model": start} if start else {}), **FULL, **keys)
    before = judged(ctx, ctx.open(start or ctx.model), run, "before")
    after = judged(ctx, ctx.open(run), run, "after")
    gains = {f"{name}_gain": after[name] - before[name] for name in ("preferred", "margin", "likelihood")}
    return {**gains, "preferred": after["preferred"], "preferred_before": before["preferred"], "pairs": after["pairs"]}


def sft_small(ctx: Context) -> dict[str, Any]:
    """The liked kind of answers, without the votes; `likelihood_gain` is in nats a token of the liked answers."""
    run = ctx.train(method="sft", **{"train.epochs": 4, "train.lr": 1e-3}, **FULL, **small(ctx, ANSWERS))
    votes = ctx.train("votes", method="dpo", **{"train.steps": 1}, **FULL, **small(ctx, VOTES))  # its test pairs
    before, after = judged(ctx, ctx.open(), votes, "before"), judged(ctx, ctx.open(run), votes, "after")
    return {
        "likelihood_gain": after["likelihood"] - before["likelihood"],
        "preferred_gain": after["preferred"] - before["preferred"],
        "preferred": after["preferred"],
    }


def of_sft(ctx: Context, method: Any, lr: float, epochs: int = 3) -> dict[str, Any]:
    """A method on the votes, from the sft model of this seed."""
    keys = {"method": method, "train.epochs": epochs, "train.lr": lr}
    return learned(ctx, ctx.run_of("sft_small"), **keys, **small(ctx, VOTES))


def dpo_small(ctx: Context) -> dict[str, Any]:
    """dpo, its defaults."""
    return of_sft(ctx, "dpo", 1e-4)


def dpo_sft_small(ctx: Context) -> dict[str, Any]:
    """dpo with the liked answers' cross-entropy beside it."""
    return of_sft(ctx, {"dpo": {"sft_weight": 0.5}}, 1e-4)


def ipo_small(ctx: Context) -> dict[str, Any]:
    """ipo."""
    return of_sft(ctx, {"dpo": {"form": "ipo"}}, 1e-4)


def simpo_small(ctx: Context) -> dict[str, Any]:
    """simpo, its defaults."""
    return of_sft(ctx, "simpo", 1e-4)


def kto_small(ctx: Context) -> dict[str, Any]:
    """kto, its defaults."""
    return of_sft(ctx, "kto", 1e-4)


def orpo_small(ctx: Context) -> dict[str, Any]:
    """orpo straight from the base, with the epochs and rate of sft; what it gains is over sft."""
    run = ctx.train(method="orpo", **{"train.epochs": 4, "train.lr": 1e-3}, **FULL, **small(ctx, VOTES))
    before, after = (judged(ctx, ctx.open(name), run, part) for name, part in ((ctx.run_of("sft_small"), "sft"), (run, "after")))  # fmt: skip
    return {**{f"{name}_gain": after[name] - before[name] for name in ("preferred", "margin", "likelihood")}, "preferred": after["preferred"]}  # fmt: skip


def scored(ctx: Context, **keys: Any) -> dict[str, Any]:
    """A reward model, and the share of unseen pairs it tells apart."""
    from tunesmith.evals.preference import evaluate_pairs
    from tunesmith.evals.reward import RewardModel

    run = ctx.train(method="reward", **FULL, **keys)
    judge = RewardModel.open(run)
    rows = fitting(ctx, judge.model, run)
    found = evaluate_pairs(judge.score_answers, rows, folder=Path(run) / "evals", name="test", model=judge.model)
    return {
        "accuracy": found["metrics"]["preferred"]["value"],
        "margin": found["metrics"]["margin"]["value"],
        "pairs": found["n"],
    }


def reward_small(ctx: Context) -> dict[str, Any]:
    """Polite against rude, from the sft model."""
    return scored(ctx, model=ctx.run_of("sft_small"), **{"train.epochs": 3, "train.lr": 3e-4}, **small(ctx, VOTES))


def reward_hh(ctx: Context) -> dict[str, Any]:
    """Whole dialogues, from the base."""
    return scored(ctx, **{"train.epochs": 2, "train.lr": 3e-4}, **dialogues(ctx))


def dpo_hh(ctx: Context) -> dict[str, Any]:
    """Whole dialogues, from the base."""
    return learned(ctx, "", method="dpo", **{"train.epochs": 1, "train.lr": 1e-4}, **dialogues(ctx))


def kto_hh(ctx: Context) -> dict[str, Any]:
    """Whole dialogues, each pair as one good and one bad answer."""
    return learned(ctx, "", method="kto", **{"train.epochs": 1, "train.lr": 1e-4}, **dialogues(ctx))


def orpo_hh(ctx: Context) -> dict[str, Any]:
    """Whole dialogues, from the base."""
    return learned(ctx, "", method="orpo", **{"train.epochs": 1, "train.lr": 5e-4}, **dialogues(ctx))


CELLS = (
    sft_small, dpo_small, dpo_sft_small, ipo_small, simpo_small, kto_small, orpo_small, reward_small,
    reward_hh, dpo_hh, kto_hh, orpo_hh,
)  # fmt: skip
