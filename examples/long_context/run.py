"""A longer context for mini: 1,024 tokens become 4,096 by YaRN, then a few steps on long texts.

    python run.py                  # the whole thing, some minutes on two cores
    python run.py --smoke          # the same road with a one-layer model, seconds

Measured are the loss by position on long texts and the panel of short texts, which may get worse. The long texts are inventories made
here: what stands where is told once and asked again much later, so that only a model that reads its whole context can know. As a
control the same steps are done on the same texts cut at the old length, and that model is stretched afterwards: what it lacks is what
only long texts teach.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from tunesmith.evals.panel import compare_panels, run_panel
from tunesmith.evals.positions import by_position, compare
from tunesmith.model.load import Model, load
from tunesmith.model.save import save
from tunesmith.objectives.pretrain import Pretrain
from tunesmith.step.step import backward
from tunesmith.text.encode import Text
from tunesmith.train.optim import Optimizer
from tunesmith.train.run import embedding_names
from tunesmith.train.schedule import learning_rate

COLOURS = ["red", "blue", "green", "white", "black", "brown", "grey", "golden", "silver", "copper"]
THINGS = [
    "kettle",
    "lamp",
    "clock",
    "chair",
    "radio",
    "mirror",
    "basket",
    "blanket",
    "hammer",
    "ladder",
    "bottle",
    "drum",
    "violin",
    "carpet",
    "helmet",
]


def inventory(seed: int, words: int) -> str:
    """A text of about `words` words: every thing is put on a numbered shelf in its first third, and asked for again after it."""
    draw = random.Random(seed)
    things = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    draw.shuffle(things)
    shelf = {thing: draw.randrange(100, 1000) for thing in things[: max(4, words // 60)]}
    told = [f"The {thing} is on shelf {number}." for thing, number in shelf.items()]
    asked: list[str] = []
    while 8 * len(told) + 10 * len(asked) < words:
        thing = draw.choice([*shelf])
        asked.append(f"Where is the {thing}? On shelf {shelf[thing]}.")
    return "Inventory.\n" + "\n".join(told) + "\nQuestions.\n" + "\n".join(asked)


def tune(model: Model, texts: list[str], *, length: int, lr: float) -> Model:
    """A step on each text, cut at `length` tokens."""
    text = Text(model.tokenizer, length=length, too_long="split")
    draw, objective, began = np.random.default_rng(0), Pretrain(), time.perf_counter()
    optimizer = Optimizer(model.net.named_parameters(), lr=lr, embeddings=embedding_names(model.net))
    model.net.train()
    for number, words in enumerate(texts):
        units = objective.units({"text": words, "origin": f"inventory:{number}"}, text, draw)
        torch.manual_seed(number)
        stats = backward(model.policy, objective, units[:4], pass_tokens=4096)
        rate = learning_rate(step=number, steps=len(texts), lr=lr, schedule="cosine", warmup=0.1, min_lr=0.1)
        optimizer.step(lr=rate, clip=1.0)
        if number % 10 == 0 or number + 1 == len(texts):
            took = time.perf_counter() - began
            print(
                f"length {length:,}, step {number + 1:>3} of {len(texts)}  loss {stats.loss:.3f}  {took:.0f} s",
                flush=True,
            )
    model.net.eval()
    return model


def stretched(model: Model, folder: Path, rope: dict) -> Model:
    """The same weights with a stretched context."""
    save(model.net, model.tokenizer, folder, dtype="fp32")
    return load(folder, rope=rope)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="pico, two steps")
    parser.add_argument("--kind", default="yarn", choices=("linear", "ntk", "yarn"))
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--out", default="long-context")
    given = parser.parse_args()
    name, steps = ("pico", 2) if given.smoke else ("mini", given.steps)
    rope, out = {"kind": given.kind, "factor": given.factor}, Path(given.out)
    model, base = load(name, rope=rope), load(name)
    length, short = model.context, base.context
    print(f"{name} reads {short:,} tokens, stretched by {given.kind} x {given.factor:g}: {length:,}")
    words = length if name == "mini" else length // 3  # a text of more tokens than fit
    held_out = [inventory(-1 - number, words) for number in range(4)]
    texts = [inventory(number, words) for number in range(steps)]
    panel_before = run_panel(base)

    measured = {"stretched, not tuned": by_position(model, held_out, length=length)}
    on_short = stretched(tune(base, texts, length=short, lr=given.lr), out / "short", rope)
    measured["tuned short, then stretched"] = by_position(on_short, held_out, length=length)
    tune(model, texts, length=length, lr=given.lr)
    measured["tuned long"] = by_position(model, held_out, length=length)
    print("Loss by position, nats per token; differences from the first column, 95 % over texts:")
    print(compare([*measured.items()]))
    print("Tuned long against tuned short, then stretched: what the long texts themselves taught")
    print(compare([*measured.items()][1:]))
    panel = compare_panels(panel_before, run_panel(model))
    for change in panel:
        print(f"short texts, {change['task']}: {change['verdict']}")
    save(model.net, model.tokenizer, out / "model", dtype="fp32")
    facts = {"rope": rope, "positions": {label: one.as_dict() for label, one in measured.items()}, "panel": panel}
    (out / "report.json").write_text(json.dumps(facts, indent=2, default=str) + "\n")
    again = load(out / "model")
    same = by_position(again, held_out[:1], length=length).nats - by_position(model, held_out[:1], length=length).nats
    print(
        f"Saved to {out / 'model'}, which reads {again.context:,} tokens; reloaded, the loss differs by {abs(same).max():.1g}."
    )


if __name__ == "__main__":
    main()
