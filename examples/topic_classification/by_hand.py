"""The same classifier without our loop: a DataLoader, zero_grad, forward, backward, step, as one writes it by hand.

    python by_hand.py RUN START     # RUN: a finished run of ours, whose split is read; START: the model folder to start from

`run.py` calls the functions below with other settings, to show where two loops differ and where they do not.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tunesmith.data.prepare import open_test


def read(run: Path, split: str) -> list[dict[str, Any]]:
    """Rows {"text", "label"} of a split of the run; reading test rows is written into the run's manifest."""
    if split == "test":
        return list(open_test(run, by="by_hand"))
    return [json.loads(line) for line in (run / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def loader(rows: Sequence[dict[str, Any]], tokenizer: Any, labels: dict[str, int], **how: Any) -> DataLoader:
    """Batches {"input_ids", "attention_mask", ..., "labels"}: `label` is renamed, the title is dropped."""

    def collate(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = tokenizer([row["text"] for row in some], padding=True, truncation=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor([labels[str(row["label"])] for row in some])}

    return DataLoader(list(rows), collate_fn=collate, **how)


def train_epoch(
    model: Any,
    batches: Iterable[dict[str, torch.Tensor]],
    optimizer: Any,
    rates: Sequence[float] = (),
    clip: float | None = None,
) -> list[float]:
    """One pass over the training rows; the loss of every batch. `rates`, `clip`: what other loops do besides."""
    model.train()
    losses = []
    for number, batch in enumerate(batches):
        if number < len(rates):
            for group in optimizer.param_groups:
                group["lr"] = rates[number]
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def evaluate(model: Any, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """(mean loss, accuracy) over all rows; no weight changes."""
    model.eval()
    total = right = rows = 0.0
    for batch in batches:
        out = model(**batch)
        total += out.loss.item() * len(batch["labels"])
        right += (out.logits.argmax(-1) == batch["labels"]).sum().item()
        rows += len(batch["labels"])
    return total / rows, right / rows


def main(run: Path, start: str, *, epochs: int = 1, lr: float = 5e-5, seed: int = 0) -> dict[str, float]:
    """Train from `start` on the run's training rows with AdamW, evaluate each epoch, test at the end."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    train, dev = read(run, "train"), read(run, "dev")
    names = sorted({str(row["label"]) for row in train})
    labels = {name: number for number, name in enumerate(names)}
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForSequenceClassification.from_pretrained(
        start, num_labels=len(names), id2label=dict(enumerate(names)), label2id=labels
    )
    batches = loader(train, tokenizer, labels, batch_size=8, shuffle=True)
    dev_batches = loader(dev, tokenizer, labels, batch_size=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        losses = train_epoch(model, batches, optimizer)
        dev_loss, dev_accuracy = evaluate(model, dev_batches)
        print(f"Epoch {epoch}/{epochs}: training loss {sum(losses) / len(losses):.4f}, validation loss {dev_loss:.4f}, "
              f"validation accuracy {dev_accuracy:.4f}")  # fmt: skip
    _, accuracy = evaluate(model, loader(read(run, "test"), tokenizer, labels, batch_size=8))
    print(f"Test accuracy {accuracy:.4f}")
    return {"validation_loss": dev_loss, "validation_accuracy": dev_accuracy, "test_accuracy": accuracy}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
