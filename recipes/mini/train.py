"""Pre-train `mini` with our own loop, on what prepare.py made. Resumable; pauses while OUT/pause exists.

    python recipes/mini/prepare.py OUT
    python recipes/mini/train.py OUT [key=value ...]         # goes on where it was stopped
    python recipes/mini/release.py OUT                       # bf16 weights and model card into the package

Keys: steps (default 1140, one pass over the corpus), batch_size, lr, minutes. The learning rate is held and falls in the
last fifth of `steps` (wsd), so a run can be stopped early by naming fewer steps when it is resumed, and a finished one goes on
when more are named: the rate then rises again. The package's own `mini` was made with steps=940, then steps=1900.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tunesmith.core.runs import RunFolder
from tunesmith.data.cache import UnitCache
from tunesmith.model.embedded import mini_config
from tunesmith.model.load import fresh
from tunesmith.objectives.pretrain import Pretrain
from tunesmith.text.example import Example, Unit
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.train.run import fit

LENGTH = 1024
SETTINGS = {"steps": 1140, "batch_size": 32, "lr": 2.5e-3, "pass_tokens": 16384, "seed": 0}


def units(path: Path, tokenizer: Tokenizer) -> Iterator[Unit]:
    """A Unit per piece of at most 1,024 tokens; dialogues carry their control tokens."""
    for number, line in enumerate(path.open(), start=1):
        row = json.loads(line)
        if "messages" in row:
            ids: list[int] = []
            for message in row["messages"]:
                ids += [tokenizer.id_of(f"<|{message['role']}|>"), *tokenizer.encode(message["content"])]
                ids.append(tokenizer.id_of("<|end|>"))
        else:
            ids = tokenizer.encode(row["text"])
        ids.append(tokenizer.eos)
        for start in range(0, len(ids), LENGTH):
            piece = ids[start : start + LENGTH]
            if len(piece) >= 16 or start == 0:
                yield Unit((Example.of(piece, [1.0] * len(piece)),), origin=f"{path.name}:{number}")


def main(out: Path, settings: dict) -> None:
    tokenizer = Tokenizer(out / "tokenizer")
    caches = {}
    for split in ("train", "dev"):
        place = out / "cache" / split
        caches[split] = UnitCache.open(place) or UnitCache.write(place, units(out / f"{split}.jsonl", tokenizer))
    print(f"{len(caches['train'])} units, {caches['train'].total_tokens:,} tokens", flush=True)
    model = fresh(mini_config, tokenizer, name="mini", seed=settings["seed"])
    run = out / "run"
    resume = (run / "manifest.json").exists()
    folder = RunFolder.open(run) if resume else RunFolder.create(run, project=settings, verb="train")
    outcome = fit(
        model, Pretrain(), caches["train"], caches["dev"], folder=folder, resume=resume,
        optimizer="muon", precision="bf16", betas=(0.9, 0.95), weight_decay=0.1, schedule="wsd", warmup=40, clip=1.0,
        eval_every=100, eval_pass_tokens=8192, keep=2, save_every=50, pause_file=out / "pause",
        listeners=[report], **settings,
    )  # fmt: skip
    print(outcome, flush=True)


def report(event: dict) -> None:
    """A line every ten steps."""
    if event["kind"] == "eval" or event["kind"] == "step" and event["step"] % 10 == 0:
        keys = ("step", "loss", "dev_loss", "lr", "grad_norm", "tokens_per_second", "total_tokens", "eta")
        print(event["kind"], {k: event[k] for k in keys if k in event}, flush=True)


if __name__ == "__main__":
    given = dict(item.split("=", 1) for item in sys.argv[2:])
    main(Path(sys.argv[1]), {**SETTINGS, **{k: type(SETTINGS[k])(v) for k, v in given.items()}})
