"""Chat messages in the shapes people have them, brought into the one shape that chat templates read.

    turns = read_messages([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello", "weight": 0.5}])
    turns[1].message  ->  {"role": "assistant", "content": "hello"}
    turns[1].weight   ->  0.5

Handled here: OpenAI `tool_calls` and the older `function_call`; `function_call` / `observation` turns as in ShareGPT;
text parts; arguments and tools written as JSON text; reasoning inside `<think>...</think>` or in its own field. Refused
by name: images and other parts that are not text, trained-on turns that are not the assistant's, weights below zero.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core.errors import DataError

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
OWN_FIELDS = ("train", "weight")  # ours; templates never see them
THINK = re.compile(r"^\s*(?:<think>|<\|think\|>)?(.*?)(?:</think>|<\|/think\|>)\s*(.*)$", re.DOTALL)
ROLES = {"function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool", "model": "assistant"}


@dataclass(frozen=True)
class Turn:
    """One message as a template reads it, and the weight of its tokens in the loss (0 = not trained on)."""

    message: dict[str, Any]
    weight: float

    @property
    def role(self) -> str:
        return self.message["role"]


def read_messages(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The turns of one conversation. Raises DataError, naming the message, for what cannot be used."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise DataError(f"messages is a {type(messages).__name__}.", wanted='A list of {"role": ..., "content": ...}.')
    if not messages:
        raise DataError("messages is empty.", wanted="At least one message.")
    turns: list[Turn] = []
    waiting: list[str] = []  # ids of tool calls not answered yet
    for index, message in enumerate(messages):
        turns.append(_turn(index, message, waiting))
    return turns


def read_tools(tools: Any) -> list[dict[str, Any]] | None:
    """Tool schemas as templates read them: `[{"type": "function", "function": {...}}]`, or None when there are none.

    read_tools('[{"name": "add"}]')  ->  [{"type": "function", "function": {"name": "add"}}]
    """
    if isinstance(tools, str):
        if not tools.strip():
            return None
        tools = _json(tools, "tools")
    if tools is None or tools == []:
        return None
    if isinstance(tools, Mapping):
        tools = [tools]
    if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"tools is not a list of objects: {tools!r:.80}", wanted='[{"name": ..., "parameters": {...}}]')
    wrapped = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return _plain(wrapped, "tools")


def split_reasoning(content: str) -> tuple[str, str] | None:
    """Reasoning and answer of a content that starts with its thinking, or None.

    split_reasoning("<think>\\n1+1\\n</think>\\n\\n2")  ->  ("1+1", "2")
    """
    if "think" not in content:
        return None
    match = THINK.match(content)
    return (match[1].strip(), match[2]) if match else None


def words_of(message: Mapping[str, Any]) -> str:
    """What a message says, for people and for telling answers apart: its content without the thinking, then each tool call as JSON.

    words_of({"role": "assistant", "content": "<think>1+1</think>2"})  ->  "2"
    words_of({"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]})
        ->  '{"name": "add", "arguments": {"a": 1}}'
    """
    content = str(message.get("content") or "")
    found = split_reasoning(content) if message.get("role") == "assistant" else None
    calls = _calls(message.get("tool_calls") or message.get("function_call") or [], "tool_calls", 0)
    said = [found[1] if found else content, *(json.dumps(call["function"], ensure_ascii=False) for call in calls)]
    return "\n".join(part for part in said if part)


def calls_tools(message: Mapping[str, Any]) -> bool:
    """Whether a message calls a tool, in today's field or the older one."""
    return bool(message.get("tool_calls") or message.get("function_call"))


def _turn(index: int, given: Any, waiting: list[str]) -> Turn:
    where = f"messages[{index}]"
    if not isinstance(given, Mapping):
        raise DataError(f"{where} is a {type(given).__name__}.", wanted='{"role": ..., "content": ...}')
    message = {key: value for key, value in given.items() if value is not None and key not in OWN_FIELDS}
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise DataError(f'{where} has no "role". Found: {", ".join(map(str, given)) or "nothing"}.')
    message["role"] = role = ROLES.get(role, role)
    if "content" in message:
        message["content"] = _text(message["content"], f"{where}.content")
    if role == "function_call":  # a ShareGPT turn: the call itself is the text
        message["role"] = role = "assistant"
        message["tool_calls"] = _json(message.pop("content", ""), where)
    if "function_call" in message:  # OpenAI before tool_calls
        message["tool_calls"] = message.pop("function_call")
    calls = message.get("tool_calls")
    if calls is not None:
        message["tool_calls"] = _calls(calls, f"{where}.tool_calls", index)
        if not message["tool_calls"]:
            del message["tool_calls"]
        waiting.extend(call["id"] for call in message.get("tool_calls", ()))
    if role == "tool" and waiting:
        message.setdefault("tool_call_id", waiting[0])
        if message["tool_call_id"] in waiting:
            waiting.remove(message["tool_call_id"])
    for field in REASONING_FIELDS:
        if field in message:
            message.setdefault("reasoning_content", _text(message.pop(field), f"{where}.{field}"))
    if "content" not in message and "tool_calls" not in message:
        raise DataError(f'{where} ({role}) has no "content". Found: {", ".join(map(str, given))}.')
    return Turn(message, _weight(given, role, where))


def _weight(given: Mapping[str, Any], role: str, where: str) -> float:
    train = given.get("train")
    weight = given.get("weight")
    if train is not None and not isinstance(train, bool):
        raise DataError(f"{where}.train is {train!r}.", wanted="true or false.")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        raise DataError(f"{where}.weight is {weight!r}.", wanted="A number, 0 or more.")
    if weight is not None and not (math.isfinite(weight) and weight >= 0):
        raise DataError(f"{where}.weight is {weight}.", wanted="A number, 0 or more.")
    if role != "assistant":
        if train or weight:
            raise DataError(
                f"{where} is the {role}'s and asks to be trained on.",
                wanted="Only the assistant's messages are trained on.",
                fix="Remove train / weight there, or write the text as an assistant's message.",
            )
        return 0.0
    return 0.0 if train is False else 1.0 if weight is None else float(weight)


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise DataError(f"{where} is a {type(content).__name__}.", wanted="Text.")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type", "text") == "text":
            texts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise DataError(
                f"{where} holds a part of type {kind}.",
                wanted="Text. Tunesmith trains language models on text; images, audio and files are not read.",
                fix="Remove the part, or the row.",
            )
    return "".join(texts)


def _calls(calls: Any, where: str, index: int) -> list[dict[str, Any]]:
    if isinstance(calls, str):
        calls = _json(calls, where)
    if isinstance(calls, Mapping):
        calls = [calls]
    if not isinstance(calls, Sequence):
        raise DataError(
            f"{where} is a {type(calls).__name__}.", wanted='[{"function": {"name": ..., "arguments": {}}}]'
        )
    result = []
    for number, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise DataError(
                f"{where}[{number}] names no function: {call!r:.80}", wanted='{"name": ..., "arguments": {}}'
            )
        arguments = function.get("arguments", function.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _json(arguments or "{}", f"{where}[{number}].arguments")
        # Some templates insist on ids of nine letters and digits (Mistral), so ours are.
        id = call.get("id") or f"call{index % 1000:03d}{number % 100:02d}"
        result.append({"id": id, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return _plain(result, where)


def _json(text: Any, where: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where} is not JSON ({error}): {text!r:.80}", wanted="JSON text, or the object itself."
        ) from error


def _plain(value: Any, where: str) -> Any:
    """Only JSON types reach a template: objects with methods have no business in a sandbox."""
    try:
        return json.loads(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} holds something that is not JSON: {error}") from error
