"""Evaluation of encoder-decoders: each row's text is read, another is written and compared with the reference.

evaluate_written(model, rows, {"chrf": Chrf()}, read=Seq2seq().texts, folder=run.file("evals"), name="test", max_tokens=64)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.evals.files import score_line, summarise, write_evaluation
from tunesmith.evals.run import check_rows, fingerprint
from tunesmith.model.seq2seq import answers


def evaluate_written(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    read: Callable[[Mapping[str, Any]], tuple[str, str]],
    folder: str | Path,
    name: str,
    max_tokens: int = 128,
    batch: int = 32,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write for every row (greedy), score with `metrics`, write folder/name.jsonl and .json. Returns the summary.

    read  row -> (what is read, the reference), as the method learned from it
    """
    texts = [read(row) for row in rows]
    asked = [{**row, "answer": wanted} for row, (_, wanted) in zip(rows, texts)]
    check_rows(asked, metrics)
    started = time.perf_counter()
    said = answers(model, [given for given, _ in texts], max_tokens=max_tokens, batch=batch)
    seconds = time.perf_counter() - started
    lines = [
        {
            "id": row.get("id"),
            "origin": row.get("origin"),
            "prompt": given,
            "answer": wanted,
            "prediction": answer,
            **score_line(metrics, answer, row),
        }
        for row, (given, wanted), answer in zip(asked, texts, said)
    ]
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": summarise(metrics, lines),
            "generate": {"max_tokens": max_tokens, "temperature": 0.0},
            "model": {"name": str(model.name), "hash": fingerprint(model.net)},
            "seconds_per_answer": seconds / max(1, len(lines)),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )
