"""The fixed list of rows: 6,000 pieces of the Python standard library's docstrings as token ids.

Lengths are lognormal (mean 122, median 88, as real chat data is long-tailed), at most 1,024; ids are those of the byte
tokenizer of `pico`. The list depends on the Python version's docstrings only; results carry its hash.

    rows = load(work, cut=256, num=1500)      # list of int lists, each at most 256 long
"""

import ast
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

NUM_ROWS = 6000
MEAN, MEDIAN, SHORTEST, LONGEST = 122, 88, 8, 1024
ANSWER_SHARE = 0.25


def docstrings() -> Iterator[str]:
    """Every docstring of the standard library's modules, in order of path; tests and installed packages left out."""
    root = Path(os.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"} & set(parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
        yield from (text for text in texts if text)


def build(work: Path) -> Path:
    """Write the list once; returns the file."""
    path = work / "rows.npz"
    if path.exists():
        return path
    from tunesmith.text.tokenizer import byte_tokenizer

    work.mkdir(parents=True, exist_ok=True)
    stream = np.array(byte_tokenizer().encode("\n\n".join(docstrings())), dtype=np.int32)
    sigma = math.sqrt(2 * math.log(MEAN / MEDIAN))
    drawn = np.random.default_rng(0).lognormal(math.log(MEDIAN), sigma, NUM_ROWS)
    lengths = np.clip(np.round(drawn), SHORTEST, LONGEST).astype(np.int64)
    if lengths.sum() > len(stream):
        stream = np.tile(stream, -(-int(lengths.sum()) // len(stream)))
    np.savez_compressed(path, ids=stream[: lengths.sum()].astype(np.int16), lengths=lengths)
    return path


def load(work: Path, *, cut: int, num: int) -> list[list[int]]:
    """The first `num` rows, each cut to `cut` tokens: every side gets exactly these."""
    stored = np.load(work / "rows.npz")
    ends = np.cumsum(stored["lengths"])
    rows = np.split(stored["ids"].astype(np.int64), ends[:-1])[:num]
    return [row[:cut].tolist() for row in rows]


def answer_start(row: list[int]) -> int:
    """Where the trained-on part begins when only answers are trained on."""
    return min(len(row) - 1, math.ceil(len(row) * (1 - ANSWER_SHARE)))


def fingerprint(rows: list[list[int]]) -> str:
    """sha256 of a row list, to tell that two runs saw the same one."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.array([len(row), *row], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
