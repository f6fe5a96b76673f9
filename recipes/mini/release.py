"""Put a pre-trained `mini` where the package reads it: bf16 weights, tokenizer, model card.

    python recipes/mini/release.py OUT [FOLDER]      # FOLDER: default the package's own

Takes the run's last checkpoint. The card's figures are read from the run, none is typed in.
"""

import json
import sys
from pathlib import Path

import torch

from tunesmith.model import embedded
from tunesmith.model.load import fresh
from tunesmith.model.save import save
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.train import checkpoint

LIMIT = 24_000_000


def main(out: Path, folder: Path) -> None:
    tokenizer = Tokenizer(out / "tokenizer")
    model = fresh(embedded.mini_config, tokenizer, name="mini")
    step, tensors, _ = checkpoint.load_latest(out / "run" / "checkpoints")
    where = dict(model.net.named_parameters())
    with torch.no_grad():
        for key, value in tensors.items():
            if key.startswith(("master.", "param.")):
                where[key.split(".", 1)[1]].copy_(value)
    save(model.net, tokenizer, folder, dtype="bf16")
    card = Path(__file__).parent / "CARD.md"
    (folder / "README.md").write_text(fill(card.read_text(), out, step, model))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        raise SystemExit(f"{folder} has {size:,} bytes, the limit is {LIMIT:,}")
    print(f"step {step}: {size:,} bytes in {folder}")


def fill(card: str, out: Path, step: int, model) -> str:
    """Write the run's own figures into the card's {places}."""
    events = [json.loads(line) for line in (out / "run" / "events.jsonl").open()]
    steps = [event for event in events if event["kind"] == "step" and event["step"] <= step]
    evals = [event for event in events if event["kind"] == "eval" and event["step"] <= step]
    curve = "\n".join(
        f"| {e['step']:,} | {next(s['total_tokens'] for s in steps if s['step'] == e['step']):,} | {e['dev_loss']:.3f} |"
        for e in evals
    )
    values = {
        "parameters": f"{sum(p.numel() for p in model.net.parameters()):,}",
        "steps": f"{step:,}",
        "tokens": f"{steps[-1]['total_tokens']:,}",
        "hours": f"{sum(s['seconds'] for s in steps) / 3600:.1f}",
        "curve": curve,
    }
    for name, value in values.items():
        card = card.replace("{" + name + "}", value)
    return card


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else embedded.folder("mini"))
