"""Examples in the prompt: which ones, how many fit, and how they are shown to the model.

    order = fixed_order(train_rows, seed=0)                               # one of each kind of answer, then the next of each, ...
    shots = fit_fixed(text, order, questions, context=1024, max_tokens=16)          # as many as fit before every question
    prompt = with_examples(shots.examples, questions[0])                  # messages, ready for text.prompt

    near = [hit.item for hit in pick(index, last_user(row), 20)]          # or examples picked for each question
    shots = fit_picked(text, near, question_of(row), context=1024, max_tokens=16)

A row is a chat: its last assistant message is the answer, what stands before it the question. Numbers of tokens are those of
the rendered prompt, not estimates.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.text.messages import words_of

Messages = Sequence[Mapping[str, Any]]
Row = Mapping[str, Any]
Style = Literal["turns", "inside"]
SLACK = 8  # tokens by which two prompts of like length may trade places once examples stand before them


class Prompts(Protocol):
    """Anything that renders messages to ids: tunesmith.text.encode.Text."""

    def prompt(self, messages: Messages, /) -> list[int]: ...


@dataclass(frozen=True)
class Shots:
    """Examples that fit, and the tokens of the longest prompt with them."""

    examples: tuple[Row, ...]
    num_tokens: int


def question_of(row: Row) -> list[dict[str, Any]]:
    """The messages before the last answer. A row whose last message is no answer, or the only one, is a DataError."""
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        raise DataError(
            f"{row.get('origin') or row.get('id') or 'A row'} does not end with a question and its answer.",
            wanted="A user's message, then the assistant's.",
        )
    return [dict(message) for message in messages[:-1]]


def answer_of(row: Row) -> str:
    """The last answer's words, its thinking taken out and tool calls as JSON; of a blank, what belongs in it."""
    if "middle" in row and "messages" not in row:
        return str(row["middle"])
    question_of(row)
    return words_of(row["messages"][-1])


def last_user(row: Row) -> str:
    """What the user said last before the answer: the query to pick examples by."""
    said = [str(message["content"]) for message in question_of(row) if message["role"] == "user"]
    return said[-1] if said else ""


def fixed_order(rows: Sequence[Row], *, seed: int, by: Callable[[Row], Any] = answer_of) -> list[Row]:
    """All rows in a seeded order in which every kind comes once before any comes twice.

    by  what makes the kinds; the answer by default, so that the first examples show as many different answers as possible. The
        order depends on the rows and the seed, not on the order the rows come in.
    """
    draw = random.Random(seed)
    shuffled = sorted(rows, key=lambda row: (str(row.get("id", "")), last_user(row), answer_of(row)))
    draw.shuffle(shuffled)
    turn: dict[Any, int] = {}
    numbered = []
    for place, row in enumerate(shuffled):
        kind = by(row)
        numbered.append((turn.setdefault(kind, 0), place, row))
        turn[kind] += 1
    return [row for _, _, row in sorted(numbered, key=lambda item: item[:2])]


def with_examples(
    examples: Sequence[Row], question: Messages, *, style: Style = "turns", ask: str = "Input: ", say: str = "Output: "
) -> list[dict[str, Any]]:
    """The question's messages with examples before it.

    style  "turns": each example is a user's turn and the assistant's answer, as if it had happened before.
           "inside": all stand in the question's own last user message, each as `ask` + question, `say` + answer.
    A system message of the question stays first; those of the examples are left out.
    """
    messages = [dict(message) for message in question]
    if not examples:
        return messages
    start = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if style == "turns":
        shown = [
            dict(message)
            for row in examples
            for message in [*question_of(row), row["messages"][-1]]
            if message["role"] != "system"
        ]
        return [*messages[:start], *shown, *messages[start:]]
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        raise DataError("A question has no user's message to put examples into.", fix="Use style: turns.")
    shown_text = "".join(f"{ask}{_asked(row)}\n{say}{answer_of(row)}\n\n" for row in examples)
    messages[last]["content"] = f"{shown_text}{ask}{messages[last]['content']}\n{say.rstrip()}"
    return messages


def fit_fixed(
    text: Prompts,
    order: Sequence[Row],
    questions: Sequence[Messages],
    *,
    context: int,
    max_tokens: int,
    count: int | None = None,
    style: Style = "turns",
    ask: str = "Input: ",
    say: str = "Output: ",
) -> Shots:
    """The first examples of `order`, the same before every question: `count` of them, or as many as fit with None.

    Fits means: the longest prompt + max_tokens for the answer <= context. A count that does not fit, or not even one example, is a
    SpaceError with the sum of tokens.
    """
    bare = [len(text.prompt(question)) for question in questions]
    longest = max(bare, default=0)
    long = [question for question, tokens in zip(questions, bare) if tokens >= longest - SLACK]

    def size(number: int) -> int:
        shown = order[:number]
        return max(len(text.prompt(with_examples(shown, q, style=style, ask=ask, say=say))) for q in long)

    return _fit(order, size, longest, context, max_tokens, count)


def fit_picked(
    text: Prompts,
    nearest: Sequence[Row],
    question: Messages,
    *,
    context: int,
    max_tokens: int,
    count: int | None = None,
    style: Style = "turns",
    ask: str = "Input: ",
    say: str = "Output: ",
) -> Shots:
    """The nearest examples of one question (best first, as BM25 gives them), turned round so that the best stands right before it.

    count  at most so many, refused with a SpaceError when they do not fit; None = as many as fit, which may be none.
    """

    def size(number: int) -> int:
        shown = nearest[:number][::-1]
        return len(text.prompt(with_examples(shown, question, style=style, ask=ask, say=say)))

    bare = len(text.prompt(question))
    if count is None and (not nearest or size(1) + max_tokens > context) and bare + max_tokens <= context:
        return Shots((), bare)
    found = _fit(nearest, size, bare, context, max_tokens, None if count is None else min(count, len(nearest)))
    return Shots(found.examples[::-1], found.num_tokens)


def _fit(
    order: Sequence[Row], size: Callable[[int], int], bare: int, context: int, max_tokens: int, count: int | None
) -> Shots:
    """The largest number that fits, by bisection: prompts grow with every example."""
    room = context - max_tokens
    if count is not None:
        if count > len(order):
            raise DataError(
                f"{count} examples were asked for, there are {len(order)}.", wanted="A smaller count, or more rows."
            )
        if (tokens := size(count) if count else bare) > room:
            raise _too_many(count, tokens, bare, context, max_tokens)
        return Shots(tuple(order[:count]), tokens)
    if not order:
        raise DataError("There are no examples to show.", wanted="At least one row of the training split.")
    if (tokens := size(1)) > room:
        raise _too_many(1, tokens, bare, context, max_tokens)
    low, high, fits = 1, 2, tokens
    while high <= len(order) and (tokens := size(high)) <= room:
        low, high, fits = high, high * 2, tokens
    high = min(high, len(order) + 1)  # the first known not to fit, or one past the end
    while high - low > 1:
        middle = (low + high) // 2
        if (tokens := size(middle)) <= room:
            low, fits = middle, tokens
        else:
            high = middle
    return Shots(tuple(order[:low]), fits)


def _too_many(count: int, tokens: int, bare: int, context: int, max_tokens: int) -> SpaceError:
    return SpaceError(
        f"{count} example{'s' if count > 1 else ''} in the prompt {'do' if count > 1 else 'does'} not fit: examples "
        f"{tokens - bare} + longest question {bare} + answer {max_tokens} = {tokens + max_tokens} tokens.",
        wanted=f"At most {context}, the model's context.",
        fix="Show fewer or shorter examples, lower generate.max_tokens, or take a model with a longer context.",
    )


def _asked(row: Row) -> str:
    return "\n".join(str(message["content"]) for message in question_of(row) if message["role"] == "user")
