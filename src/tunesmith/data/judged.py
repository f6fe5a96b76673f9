"""Records whose answers are judged, as canonical rows: preference pairs, rated and scored answers, prompts alone.

A pair may repeat its prompt inside both sides, as whole dialogues do; the prompt is then what both begin with, cut before
the first answer that differs. Turns of the prompt carry "train": False where they are the assistant's, so that
`Text.chat(row["messages"] + row["chosen"])` trains on the judged answer only.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.data.messages import (
    BadRow,
    dialogue,
    is_dialogue,
    read_message,
    read_messages,
    read_number,
    read_verdict,
    wrong,
)
from tunesmith.data.rows import Row

Turns = list[dict[str, Any]]
_CONTENT = ("content", "text", "response", "answer", "completion", "output")
_SCORE = ("score", "overall_score", "reward", "rating", "value")


def preference(
    record: Mapping[str, Any], columns: Mapping[str, str], value: Mapping[str, Any], asked: Row, notes: Counter[str]
) -> Row:
    """{"messages", "chosen", "rejected", "margin"?}. `asked` holds what other columns say of the prompt, perhaps nothing."""
    sides = {word: answer_turns(record, columns[word], value[word], notes) for word in ("chosen", "rejected")}
    chosen, rejected = sides["chosen"], sides["rejected"]
    whole = {word: turns[0]["role"] != "assistant" for word, turns in sides.items()}
    if whole["chosen"] != whole["rejected"]:
        with_prompt = columns["chosen" if whole["chosen"] else "rejected"]
        raise BadRow("prompt on one side only", f"{with_prompt}: repeats its prompt, the other side does not")
    prompt: Turns = asked["messages"]
    if whole["chosen"]:
        common, chosen, rejected = at_common_prefix(chosen, rejected)
        last = prompt[-1]["content"] if prompt else ""
        if last and not any(_same(last, turn["content"]) for turn in common):
            notes["prompt column differs from the dialogues, whose own is used"] += 1
        system = [turn for turn in prompt[:1] if turn["role"] == "system" and common[0]["role"] != "system"]
        prompt = system + common
    elif not any(turn["role"] != "system" for turn in prompt):
        raise BadRow(
            "no prompt", f'{columns["chosen"]}: no column holds the prompt, and no dialogue begins with "Human:"'
        )
    if _words(chosen) == _words(rejected):
        raise BadRow("chosen equals rejected", f"{columns['chosen']} and {columns['rejected']} are the same answer")
    row: Row = {**asked, "messages": before(prompt), "chosen": chosen, "rejected": rejected}
    if value.get("margin") is not None:
        row["margin"] = read_number(record, columns["margin"], value["margin"])
    return row


def at_common_prefix(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """Two dialogues as (prompt, chosen rest, rejected rest): both rests begin with an answer, at the first difference."""
    end = 0
    for one, other in zip(chosen, rejected):
        if _words([one]) != _words([other]):
            break
        end += 1
    while end and not (_answers(chosen[end:]) and _answers(rejected[end:]) and chosen[end - 1]["role"] != "assistant"):
        end -= 1
    if not end:
        raise BadRow("no common prompt", "chosen and rejected do not begin with the same turns before an answer")
    return chosen[:end], chosen[end:], rejected[end:]


def rated(
    record: Mapping[str, Any], columns: Mapping[str, str], value: Mapping[str, Any], asked: Row, notes: Counter[str]
) -> Row:
    """{"messages": prompt turns and the answer, "label": true or false}."""
    turns: Turns = asked["messages"]
    if "answer" in value:
        turns = turns + answer_turns(record, columns["answer"], value["answer"], notes)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise BadRow("no answer", "the messages do not end with an answer to rate")
    return {
        **asked,
        "messages": [*before(turns[:-1]), turns[-1]],
        "label": read_verdict(record, columns["label"], value["label"]),
    }


def scored(
    record: Mapping[str, Any], columns: Mapping[str, str], value: Mapping[str, Any], asked: Row, notes: Counter[str]
) -> Row:
    """{"messages", "answers": [{"content", "score"}]}, in the order of the source."""
    at, given = columns["answers"], value["answers"]
    if not isinstance(given, list):
        raise wrong(at, "a list of answers", given)
    if not given:
        raise BadRow("no answers", f"{at}: an empty list")
    scores = value.get("scores")
    if "scores" in columns and (not isinstance(scores, list) or len(scores) != len(given)):
        raise wrong(columns["scores"], f"a list of {len(given)} numbers", scores)
    answers = []
    for number, item in enumerate(given):
        place = f"{at}[{number}]"
        text, score = item, scores[number] if isinstance(scores, list) else None
        if isinstance(item, Mapping):
            text = next((item[name] for name in _CONTENT if name in item), None)
            score = next((item[name] for name in _SCORE if name in item), None) if score is None else score
        if not isinstance(text, str):
            raise wrong(place, "an answer (text, or an object with content and score)", item)
        if not text.strip():
            raise BadRow("empty answer", f"{place}: empty")
        if score is None:
            raise BadRow("no score", f"{place}: has no score")
        answers.append({"content": text, "score": read_number(record, at, score)})
    if not asked["messages"]:
        raise BadRow("no prompt", f"{at}: no column holds the prompt")
    return {**asked, "messages": before(asked["messages"]), "answers": answers}


def prompt_alone(
    record: Mapping[str, Any], columns: Mapping[str, str], value: Mapping[str, Any], asked: Row, notes: Counter[str]
) -> Row:
    """{"messages", "answer"?}. Where messages end with the assistant's turn, that is the reference answer."""
    turns: Turns = asked["messages"]
    row: Row = {**asked}
    if turns and turns[-1]["role"] == "assistant":
        row["answer"], turns = turns[-1]["content"], turns[:-1]
    given = value.get("answer")
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    if given is not None and given != "":
        row["answer"] = answer_turns(record, columns["answer"], given, notes)[-1]["content"]
    if not any(turn["role"] != "system" for turn in turns):
        raise BadRow("no prompt", "the messages hold no question")
    row["messages"] = before(turns)
    return row


CANONICAL: dict[str, Callable[..., Row]] = {
    "preference": preference, "rated": rated, "scored": scored, "prompt": prompt_alone,
}  # fmt: skip


def answer_turns(record: Mapping[str, Any], column: str, value: Any, notes: Counter[str]) -> Turns:
    """One side of a pair, or an answer, as turns: a text, a dialogue in one text, a message, or a list of messages."""
    if column.split(".")[0] not in record:
        raise BadRow("missing field", f'has no "{column}". Found: {", ".join(map(str, record))}')
    if isinstance(value, str):
        if is_dialogue(value):
            return dialogue(column, value, notes)
        if not value.strip():
            raise BadRow("empty answer", f"{column}: empty")
        return [{"role": "assistant", "content": value}]
    if isinstance(value, Mapping):
        turns = [read_message(column, value)]
    elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        turns = read_messages(record, column, value, notes)
    elif value is None:
        raise BadRow("empty answer", f"{column}: empty")
    else:
        raise wrong(column, "text", value)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRow("no answer", f"{column}: no message of the assistant")
    return turns


def before(turns: Sequence[Mapping[str, Any]]) -> Turns:
    """Turns of a prompt: what the assistant said there is read only."""
    return [{**turn, "train": False} if turn["role"] == "assistant" else dict(turn) for turn in turns]


def _answers(turns: Turns) -> bool:
    return bool(turns) and turns[0]["role"] == "assistant"


def _words(turns: Turns) -> list[tuple[Any, ...]]:
    return [(turn["role"], turn["content"].strip(), turn.get("tool_calls")) for turn in turns]


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()) in " ".join(other.split())
