"""Make what `mini` is trained from: its tokenizer and one file of rows, from the licence-clean corpus.

    TUNESMITH_DATA=... python recipes/mini/prepare.py OUT

OUT/tokenizer/   byte-level BPE of 8,192 tokens, trained on the training shards
OUT/train.jsonl  one row a document: {"text": ...}, or {"messages": [...]} where a document is a dialogue with two
                 sides, so that the base has seen its own control tokens
OUT/dev.jsonl    one document in two hundred of the training shards: what the run watches. val-00 is never opened here.

Templated SQL is one source among many but repeats itself: one document in four is kept.
"""

import gzip
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tunesmith.text.train_tokenizer import train_tokenizer

VOCAB = 8192
KEEP = {"sql": 0.25}
TURN = re.compile(r"^(User|Assistant|사용자|도우미): ?", re.MULTILINE)
ROLES = {"User": "user", "사용자": "user", "Assistant": "assistant", "도우미": "assistant"}


def documents(corpus: Path) -> Iterator[dict]:
    """Every training document, in file order."""
    for shard in sorted(corpus.glob("train-*.jsonl.gz")):
        with gzip.open(shard, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: what is kept does not depend on the order of the files."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def as_row(text: str) -> dict:
    """A dialogue with both sides becomes messages; everything else stays text."""
    parts = TURN.split(text)
    if len(parts) < 5 or parts[0].strip():
        return {"text": text}
    turns = [(ROLES[name], said.strip()) for name, said in zip(parts[1::2], parts[2::2])]
    if {role for role, _ in turns} != {"user", "assistant"} or not all(said for _, said in turns):
        return {"text": text}
    messages: list[dict] = []
    for role, said in turns:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + said
        else:
            messages.append({"role": role, "content": said})
    return {"messages": messages}


def main(out: Path) -> None:
    corpus = Path(os.environ["TUNESMITH_DATA"]) / "corpus"
    out.mkdir(parents=True, exist_ok=True)
    counts = {"train": 0, "dev": 0, "dialogues": 0, "left_out": 0}
    texts: list[str] = []
    with open(out / "train.jsonl", "w") as train, open(out / "dev.jsonl", "w") as dev:
        for document in documents(corpus):
            text = document["text"]
            number = share(text)
            if number >= KEEP.get(document["kind"], 1.0):
                counts["left_out"] += 1
                continue
            texts.append(text)
            row = as_row(text)
            counts["dialogues"] += "messages" in row
            split = "dev" if number * 200 % 1 < 0.005 else "train"
            counts[split] += 1
            (dev if split == "dev" else train).write(json.dumps(row, ensure_ascii=False) + "\n")
    if not (out / "tokenizer" / "tokenizer.json").exists():
        train_tokenizer(texts, kind="bpe", vocab=VOCAB).save(out / "tokenizer")
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
