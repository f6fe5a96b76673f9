"""Cells: learning from a reward. Intents of Banking77 by a model that was shown few of them: it finds some, and is paid for each.

The reward is the right intent; the hidden metric, never paid for, is that the answer is exactly as it was taught (its form as
JSON, nothing before or after).
"""

from typing import Any

from benchmarks.methods.bank import ANSWER, published
from benchmarks.methods.context import Context, write_rows

INTENTS, SHOWN, ASKED, TEST = 12, 120, 600, 240
PAID = {"reward": {"accuracy": {"field": "intent"}}, "hidden": "exact_match", "max_tokens": 24}


def keys(ctx: Context, part: str) -> dict[str, Any]:
    """data.* keys of the rows that are shown (sft) or asked (the others); both are tested on the same rows."""
    rows = published("train")
    names = sorted({row["category"] for row in rows})[:INTENTS]
    some = [row for row in rows if row["category"] in names]
    test = [row for row in published("test") if row["category"] in names]
    chosen = some[:SHOWN] if part == "shown" else some[SHOWN : SHOWN + ASKED]
    source = write_rows(ctx.out / "data" / f"intents-{part}.jsonl", chosen[: ctx.rows(ASKED)])
    return {
        "data.path": source,
        "data.test": write_rows(ctx.out / "data" / "intents-test.jsonl", test[: ctx.rows(TEST)]),
        "data.dev": 20, "data.prompt": "{{ text }}", "data.answer": ANSWER, "adapter": "full", "train.sample": 0,
        "metrics": [{"accuracy": {"field": "intent"}}, "exact_match"], "generate.max_tokens": 24, "generate.batch": 64,
    }  # fmt: skip


def measured(run: str) -> dict[str, float]:
    """Accuracy (what is paid for) and exact match (what is not) of greedy answers to the test rows."""
    import tunesmith

    found = tunesmith.eval(run, quiet=True)["metrics"]
    return {"reward": found["accuracy"]["value"], "hidden": found["exact_match"]["value"]}


def sft_shown(ctx: Context) -> dict[str, Any]:
    """The start of the others."""
    more = {"train.epochs": 6, "train.lr": 1e-3, "train.batch_size": 16}
    return measured(ctx.train(method="sft", **more, **keys(ctx, "shown")))


def paid(ctx: Context, method: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Train from sft_shown by a reward; what was gained over it."""
    start = ctx.run_of("sft_shown")
    run = ctx.train(model=start, method=method, **more, **keys(ctx, "asked"))
    before, after = measured(start), measured(run)
    return {**{f"{name}_gain": after[name] - before[name] for name in before}, **after}


def rejection(ctx: Context) -> dict[str, Any]:
    """Eight answers, the best one kept if it is right."""
    method = {"rejection": {**PAID, "n": 8, "threshold": 0.5}}
    return paid(ctx, method, **{"train.steps": 60, "train.batch_size": 32, "train.lr": 3e-4})


def grpo(ctx: Context) -> dict[str, Any]:
    """Groups of eight."""
    return paid(ctx, {"grpo": {**PAID, "n": 8}}, **{"train.steps": 60, "train.batch_size": 16, "train.lr": 2e-4})


def ppo(ctx: Context) -> dict[str, Any]:
    """Eight answers, a value head, two passes."""
    method = {"ppo": {**PAID, "n": 8, "reuse": 2}}
    return paid(ctx, method, **{"train.steps": 60, "train.batch_size": 16, "train.lr": 2e-4})


CELLS = (sft_shown, rejection, grpo, ppo)
