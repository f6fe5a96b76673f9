"""Cells: learning from a reward. Intents of Banking77 by a model that was shown few of them: it finds some, and is paid for each.

The reward is the right intent; its mean is that over answers drawn at temperature 1, as training draws them, and greedy ones stand
beside. The start is stopped early, at 3 epochs: at 6 its answers are all but certain, and nothing is drawn that could be learned
from. Epochs and learning rates were chosen on training rows that no cell uses. What nobody pays for is text that the task says nothing about: `hidden_gain` is what is left of
it, bits a byte before minus after, so below 0 when it was lost. The form of the answer would hide nothing: an intent that is
right was read out of JSON that is.
"""

from typing import Any

from benchmarks.methods.bank import ANSWER, accuracy, published, surprise
from benchmarks.methods.context import Context, write_rows

INTENTS, SHOWN, ASKED, TEST, STEPS, DRAWN = 12, 120, 600, 240, 60, 2
PAID = {"reward": {"accuracy": {"field": "intent"}}, "max_tokens": 32}


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
        "metrics": [{"accuracy": {"field": "intent"}}], "generate.max_tokens": 32, "generate.batch": 64,
    }  # fmt: skip


def measured(ctx: Context, run: str) -> dict[str, float]:
    """Mean reward of answers to the test rows, drawn and greedy (what is paid for), and bits a byte of other text (what is not)."""
    drawn = [
        accuracy(run, **{"eval.name": f"drawn-{seed}", "generate.temperature": 1.0, "generate.seed": seed})
        for seed in range(DRAWN)
    ]
    reward = sum(drawn) / DRAWN
    return {"reward": reward, "greedy": accuracy(run), "other_bits": surprise(ctx, ctx.open(run))}


def sft_shown(ctx: Context) -> dict[str, Any]:
    """The start of the others."""
    more = {"train.epochs": 3, "train.lr": 1e-3, "train.batch_size": 16}
    return measured(ctx, ctx.train(method="sft", **more, **keys(ctx, "shown")))


def paid(ctx: Context, method: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Train from sft_shown by a reward; what was gained over it.

    Nothing is evaluated before the end: the last weights count, and no luck of sampled answers picks others.
    """
    start = ctx.run_of("sft_shown")
    steps = {"train.steps": STEPS, "train.eval_every": STEPS}
    run = ctx.train(model=start, method=method, **steps, **more, **keys(ctx, "asked"))
    before, after = measured(ctx, start), measured(ctx, run)
    return {
        "reward_gain": after["reward"] - before["reward"],
        "greedy_gain": after["greedy"] - before["greedy"],
        "hidden_gain": before["other_bits"] - after["other_bits"],
        **after,
    }


def rejection(ctx: Context) -> dict[str, Any]:
    """Eight answers, the best one kept if it is right."""
    method = {"rejection": {**PAID, "n": 8, "threshold": 0.5}}
    return paid(ctx, method, **{"train.batch_size": 32, "train.lr": 3e-4})


def grpo(ctx: Context) -> dict[str, Any]:
    """Groups of eight."""
    return paid(ctx, {"grpo": {**PAID, "n": 8}}, **{"train.batch_size": 16, "train.lr": 2e-4})


def ppo(ctx: Context) -> dict[str, Any]:
    """Eight answers, a value head, two passes."""
    method = {"ppo": {**PAID, "n": 8, "reuse": 2}}
    return paid(ctx, method, **{"train.batch_size": 16, "train.lr": 5e-5})


CELLS = (sft_shown, rejection, grpo, ppo)
