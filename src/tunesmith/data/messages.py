"""Values of a record's columns as messages, texts and labels, each checked; what is wrong is a BadRow that says where.

>>> read_messages({"chat": 0}, "chat", [{"from": "human", "value": "Hi"}], Counter())
[{'role': 'user', 'content': 'Hi'}]
>>> dialogue("chosen", "\\n\\nHuman: Hi\\n\\nAssistant: Hello", Counter())
[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any

_SPEAKERS = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
_KEPT = ("train", "weight", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking")
_TURN = re.compile(r"(?:^|\n\n)\s*(Human|Assistant):")
_VERDICTS = {
    **dict.fromkeys(("true", "1", "yes", "good", "좋음"), True),
    **dict.fromkeys(("false", "0", "no", "bad", "나쁨"), False),
}
_READ = {"role", "from", "content", "value", "function_call", *_KEPT}


class BadRow(Exception):
    """A row that cannot be used: `reason` is a few words it is counted under, `detail` says what is wrong in it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_messages(record: Mapping[str, Any], column: str, value: Any, notes: Counter[str]) -> list[dict[str, Any]]:
    """A list of messages (or its JSON) with our names for roles. `notes` counts what was left out."""
    if column.split(".")[0] not in record:
        raise missing(record, column)
    value = parsed(column, value) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise wrong(column, "a list of messages", value)
    if not value:
        raise BadRow("no messages", f"{column}: an empty list")
    messages = []
    for number, item in enumerate(value):
        at = f"{column}[{number}]"
        if not isinstance(item, Mapping):
            raise wrong(at, "an object with role and content", item)
        message = read_message(at, item)
        for key in item.keys() - _READ:
            notes[f'message key "{key}" not used'] += 1
        if message["role"] == "system" and not message["content"].strip():
            notes["empty system messages left out"] += 1
            continue
        messages.append(message)
    return messages


def read_message(at: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """One message; `at` is where an error says it stands."""
    speaker_key = "role" if "role" in item else "from"
    speaker = item.get(speaker_key)
    if not isinstance(speaker, str):
        if speaker is None:
            raise BadRow("missing field", f"{at}.role: missing. Found: {', '.join(map(str, item))}")
        raise wrong(f"{at}.{speaker_key}", "text", speaker)
    role = _SPEAKERS.get(speaker.strip().lower())
    if role is None:
        raise BadRow("unknown role", f'{at}.{speaker_key}: expected user, assistant, system or tool, got "{speaker}"')
    content_key = "content" if "content" in item else "value"
    content = _content(f"{at}.{content_key}", item.get(content_key))
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(f"{at}.{content_key}", content)}
    message: dict[str, Any] = {"role": role, "content": content}
    message.update({key: item[key] for key in _KEPT if item.get(key) is not None})
    if item.get("function_call") and role == "assistant":
        message["tool_calls"] = [item["function_call"]]
    if "tool_calls" in message:
        message["tool_calls"] = _calls(f"{at}.tool_calls", message["tool_calls"])
    if not isinstance(message.get("train", True), bool):
        raise wrong(f"{at}.train", "true or false", message["train"])
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise wrong(f"{at}.weight", "a number >= 0", weight)
    if not content.strip() and role in ("user", "assistant") and not message.get("tool_calls"):
        raise BadRow("empty answer" if role == "assistant" else "empty prompt", f"{at}.{content_key}: empty")
    return message


def _content(at: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong(at, "text", value)
    parts = []
    for number, part in enumerate(value):
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif isinstance(kind, str) and kind != "text":
            raise BadRow(f"{kind} part", f"{at}[{number}]: a part of type {kind}; only text can be trained on")
        else:
            raise wrong(f"{at}[{number}]", "a text part", part)
    return "".join(parts)


def _calls(at: str, value: Any) -> list[dict[str, Any]]:
    """Tool calls as chat templates take them: [{"type": "function", "function": {"name", "arguments": {...}}}]."""
    value = parsed(at, value) if isinstance(value, str) else value
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise wrong(at, "a call with name and arguments", call)
        arguments = function.get("arguments", function.get("parameters", {}))
        arguments = parsed(f"{at}.arguments", arguments) if isinstance(arguments, str) else arguments
        if not isinstance(arguments, Mapping):
            raise wrong(f"{at}.arguments", "an object", arguments)
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": function["name"], "arguments": dict(arguments)},
        }
        if isinstance(call.get("id"), str):
            made["id"] = call["id"]
        calls.append(made)
    return calls


def read_tools(column: str, value: Any) -> list[dict[str, Any]]:
    """Tools as chat templates take them; none for an empty value."""
    if value is None or value == "":
        return []
    value = parsed(column, value) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise wrong(column, "a list of tools", value)
    tools = []
    for number, tool in enumerate(value):
        if not isinstance(tool, Mapping) or not isinstance(tool.get("function", tool), Mapping):
            raise wrong(f"{column}[{number}]", "a tool", tool)
        if not isinstance(tool.get("function", tool).get("name"), str):
            raise wrong(f"{column}[{number}].name", "text", tool.get("function", tool).get("name"))
        tools.append(dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)})
    return tools


def read_history(column: str, value: Any) -> list[dict[str, Any]]:
    """Earlier turns as pairs of texts: [["Hi", "Hello"]]."""
    messages = []
    for number, turn in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise wrong(f"{column}[{number}]", "a pair of texts", turn)
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return messages


def parsed(at: str, text: str) -> Any:
    """JSON inside a text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRow("not JSON", f"{at}: expected JSON, got {short(text)} ({error})") from None


def read_text(record: Mapping[str, Any], column: str, value: Any) -> str:
    """A text; nothing is an empty one, a missing column a BadRow."""
    if isinstance(value, str):
        return value
    if value is None and column.split(".")[0] not in record:
        raise missing(record, column)
    if value is None:
        return ""
    raise wrong(column, "text", value)


def read_label(record: Mapping[str, Any], column: str, value: Any) -> Any:
    """A label: text, a number, true or false, or a list of these where a row has several."""
    if value is None and column.split(".")[0] not in record:
        raise missing(record, column)
    if value is None or value == "":
        raise BadRow("empty label", f"{column}: empty")
    several = isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
    if not several and not isinstance(value, str | int | float):
        raise wrong(column, "a label (text or number, or a list of these)", value)
    return value


def read_number(record: Mapping[str, Any], column: str, value: Any) -> float:
    """A finite number, also written as text."""
    if value is None and column.split(".")[0] not in record:
        raise missing(record, column)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise wrong(column, "a number", value)
    return number


def read_verdict(record: Mapping[str, Any], column: str, value: Any) -> bool:
    """true or false, also as 1 or 0 or as text."""
    if value is None and column.split(".")[0] not in record:
        raise missing(record, column)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    found = _VERDICTS.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise wrong(column, "true or false", value)
    return found


def dialogue(at: str, text: str, notes: Counter[str]) -> list[dict[str, Any]]:
    """A dialogue written as one text with "\\n\\nHuman:" and "\\n\\nAssistant:", as Anthropic's HH sets are."""
    first, *rest = _TURN.split(text)
    turns = [{"role": "system", "content": first.strip()}] if first.strip() else []
    for number, (speaker, content) in enumerate(zip(rest[::2], rest[1::2])):
        role, content = _SPEAKERS[speaker.lower()], content.strip()
        if not content:
            raise BadRow(f"empty {'answer' if role == 'assistant' else 'prompt'}", f"{at}: turn {number + 1} is empty")
        if turns and turns[-1]["role"] == role:
            turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n\n{content}"}
            notes["turns of one speaker in a row joined"] += 1
        else:
            turns.append({"role": role, "content": content})
    return turns


def is_dialogue(text: str) -> bool:
    """Whether a text begins as HH dialogues do."""
    return re.match(r"\s*Human:", text) is not None and "\n\nAssistant:" in text


def missing(record: Mapping[str, Any], column: str) -> BadRow:
    """The error for a column that a record does not have."""
    return BadRow("missing field", f'has no "{column}". Found: {", ".join(map(str, record))}')


def wrong(at: str, expected: str, value: Any) -> BadRow:
    """The error for a value that is something else than expected."""
    names = {dict: "an object", list: "a list", bool: "true/false", int: "a number", float: "a number", str: "text"}
    got = "nothing" if value is None else f"{names.get(type(value), type(value).__name__)} {short(value)}"
    return BadRow("wrong type", f"{at}: expected {expected}, got {got}")


def short(value: Any) -> str:
    """A value in at most 40 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
