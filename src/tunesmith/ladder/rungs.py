"""The rungs below tuning: ways of asking the same untuned model, each scored on the same frozen rows.

    asks = {"prompt": plain(instruction), "examples": with_fixed(...), "picked": with_picked(...)}
    evaluate(model, text, rows, metrics, ask=asks["examples"].ask, ...)

A rung only says which messages the model sees; who asks and who scores is evals/run.py.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.prompts.shots import answer_of, fit_fixed, fit_picked, fixed_order, last_user, question_of, with_examples
from tunesmith.retrieve.bm25 import Bm25, pick

Row = Mapping[str, Any]
Ask = Callable[[Row], list[dict[str, Any]]]


@dataclass(frozen=True)
class Rung:
    """A way of asking. num_examples: how many stand in the prompt (the most, where it varies); note: in words."""

    ask: Ask
    num_examples: int
    note: str


def instructed(row: Row, instruction: str) -> list[dict[str, Any]]:
    """The row's question under an instruction; a row may still end with its answer."""
    question = asked(row)["messages"]
    return [{"role": "system", "content": instruction}, *question] if instruction else question


def asked(row: Row) -> dict[str, Any]:
    """The row as it is put to a model: without the answer that a test row ends with."""
    answered = row["messages"][-1]["role"] == "assistant"
    return {**row, "messages": question_of(row) if answered else [dict(message) for message in row["messages"]]}


def said(row: Row) -> str:
    """What the user said last: the query that examples are picked by."""
    return next((str(m["content"]) for m in reversed(asked(row)["messages"]) if m["role"] == "user"), "")


def plain(instruction: str) -> Rung:
    """Ask with the instruction alone."""
    return Rung(lambda row: instructed(row, instruction), 0, "instruction only")


def with_fixed(
    text: Any, train: Sequence[Row], rows: Sequence[Row], instruction: str, *, context: int, max_tokens: int, seed: int
) -> Rung:
    """The same examples before every question: one of each kind of answer first, as many as fit the context."""
    questions = [instructed(row, instruction) for row in rows]
    shots = fit_fixed(text, fixed_order(train, seed=seed), questions, context=context, max_tokens=max_tokens)
    return Rung(
        lambda row: with_examples(shots.examples, instructed(row, instruction)),
        len(shots.examples),
        f"{len(shots.examples)} examples, as many as fit {context} tokens",
    )


def with_picked(
    text: Any, train: Sequence[Row], instruction: str, *, context: int, max_tokens: int, count: int
) -> Rung:
    """For each question the `count` nearest examples by BM25 (fewer where they do not fit), the nearest last."""
    index = Bm25(train, text=last_user)

    def ask(row: Row) -> list[dict[str, Any]]:
        near = [hit.item for hit in pick(index, said(row), count)]
        question = instructed(row, instruction)
        try:
            shots = fit_picked(text, near, question, context=context, max_tokens=max_tokens, count=count).examples
        except SpaceError:  # long messages: as many as fit
            shots = fit_picked(text, near, question, context=context, max_tokens=max_tokens).examples
        return with_examples(shots, question)

    return Rung(ask, count, f"{count} examples picked by BM25 for each message")


def stratified_sample(rows: Sequence[Row], number: int, *, seed: int) -> list[Row]:
    """`number` rows with as even a share of every answer as there is, fixed by seed and ids, in the order of the rows.

    Raises DataError when there are fewer rows than asked for.
    """
    if number > len(rows):
        raise DataError(f"{number} rows were asked for, there are {len(rows)}.")
    draw = random.Random(seed)
    kinds: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        kinds[answer_of(row)].append(place)
    for name in sorted(kinds):
        kinds[name].sort(key=lambda place: str(rows[place].get("id", place)))
        draw.shuffle(kinds[name])
    chosen: list[int] = []
    turn = 0
    while len(chosen) < number:
        layer = [kinds[name][turn] for name in sorted(kinds) if turn < len(kinds[name])]
        draw.shuffle(layer)
        chosen += layer[: number - len(chosen)]
        turn += 1
    return [rows[place] for place in sorted(chosen)]
