"""Which column says what: shapes are recognised by the names of the columns, shown, and turned into canonical rows.

>>> shape = recognise(["Q", "A", "label"], where="faq.csv:2")
>>> shape.name, shape.columns
('question_answer', {'prompt': 'Q', 'answer': 'A'})
>>> canonical({"Q": "12시 땡!", "A": "하루가 또 가네요.", "label": "0"}, shape)["messages"][1]
{'role': 'assistant', 'content': '하루가 또 가네요.'}

Columns with other names are named by the user, also inside nested values (`instances.0.output`); or templates make the
texts out of the columns: prompt="{{ text }}", answer='{"intent": "{{ category }}"}'.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.names import nearest, unknown
from tunesmith.data.rows import Row

# Our word for a column, and the names it goes by in published sets (compared in lower case).
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "conversations": ("conversations", "conversation"),
    "instruction": ("instruction", "instructions", "지시", "지시문", "지시사항", "명령", "명령어"),
    "prompt": ("prompt", "프롬프트"),
    "question": ("question", "q", "질문", "질의", "문의"),
    "input": ("input", "context", "입력", "맥락", "문맥"),
    "output": ("output", "출력"),
    "completion": ("completion", "response"),
    "answer": ("answer", "a", "답변", "대답", "응답", "답", "정답"),
    "system": ("system", "system_prompt", "시스템"),
    "history": ("history",),
    "tools": ("tools",),
    "text": ("text", "document", "content", "sentence", "본문", "문장", "텍스트", "내용", "문서"),
    "label": ("label", "category", "class", "intent", "라벨", "레이블", "분류", "범주", "의도"),
}
_ROLES = {"instruction": "prompt", "question": "prompt", "output": "answer", "completion": "answer"}
_PAIRS = {
    "instruction": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
}
SHAPES = ("messages", "sharegpt", "instruction", "prompt_completion", "question_answer", "text_label", "text")
_WANTED = (
    "Known shapes: messages; conversations (ShareGPT); instruction (+ input) and output; prompt and completion; "
    "question and answer; text (+ label)."
)
_SPEAKERS = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
_KEPT = ("train", "weight", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking")
_READ = {"role", "from", "content", "value", "function_call", *_KEPT}


class BadRow(Exception):
    """A row that cannot be used: `reason` is a few words it is counted under, `detail` says what is wrong in it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Shape:
    """What a source's columns mean.

    name       one of SHAPES, "template", or "named" (columns named by the user that fit none)
    kind       "chat", "text" or "text+label": what the rows become
    columns    our word -> the source's column: {"prompt": "Q", "answer": "A"}
    templates  our word -> a function of the record, where the user gave a template
    """

    name: str
    kind: str
    columns: Mapping[str, str]
    templates: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)

    def __str__(self) -> str:
        used = {**self.columns, **{word: f"data.{word}" for word in self.templates}}
        if self.kind != "chat" or "messages" in used:
            told = " + ".join(used.values())
        else:
            asks = [used[word] for word in ("system", "history", "prompt", "input") if word in used]
            told = " + ".join(asks) + " -> " + used.get("answer", "nothing")
        return f"{self.name} ({told})"


def recognise(
    found: Sequence[str],
    *,
    where: str,
    named: Mapping[str, str] | None = None,
    shape: str | None = None,
    templates: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None,
) -> Shape:
    """The shape of a source with the columns `found`; `where` is the row an error points at.

    named      our word -> column, as the user named them: {"answer": "reply"}
    shape      one of SHAPES, when the user says which
    templates  "prompt", "answer", "system" (or "text") -> function of the record

    Raises DataError when nothing fits, when two shapes fit equally, or when a named column is not there.
    """
    if shape is not None and shape not in SHAPES:
        raise unknown("shape", shape, SHAPES)
    if not found:
        raise DataError(f"{where} has no columns.", wanted=_WANTED)
    fields = _fields(found, named or {}, where)
    templates = templates or {}
    if templates.keys() - {"system"}:
        return _by_template(fields, templates, found, where)
    extra: dict[str, str] = {word: fields[word][0] for word in ("system", "tools") if word in fields}
    if "messages" in fields and "conversations" in fields and shape is None:
        raise _ambiguous(where, found, [fields["messages"][0], fields["conversations"][0]])
    for word, name in (("messages", "messages"), ("conversations", "sharegpt")):
        if word in fields and shape in (None, name):
            return Shape(name, "chat", {"messages": fields[word][0], **extra}, templates)
    pair = _pair(fields, found, shape, where) if shape in (None, *_PAIRS) else None
    if pair:
        name, ask, reply = pair
        columns = {"prompt": ask, "answer": reply}
        for word in ("input", "history", "system"):
            if word in fields and fields[word][0] != ask:
                columns[word] = fields[word][0]
        return Shape(name, "chat", columns, templates)
    if templates:
        raise SettingError(
            f"data.system is given, but {where} holds no conversation.", fix="Leave it out, or give data.prompt too."
        )
    if "text" in fields and shape in (None, "text", "text_label"):
        if "label" in fields and shape != "text":
            return Shape("text_label", "text+label", {"text": fields["text"][0], "label": fields["label"][0]})
        if shape != "text_label":
            return Shape("text", "text", {"text": fields["text"][0]})
    raise _nothing_fits(where, found, fields, shape)


def canonical(
    record: Mapping[str, Any], shape: Shape, *, need_answer: bool = True, notes: Counter[str] | None = None
) -> Row:
    """A record as a canonical row, without origin and id. Raises BadRow. `notes` counts what was left out of messages."""
    texts = {word: make(record) for word, make in shape.templates.items()}
    value = {word: pick(record, column) for word, column in shape.columns.items()}
    # What a template used stays among the columns: metrics may want the label that it put into words.
    used = set() if shape.name == "template" else {column for column in shape.columns.values() if column in record}
    rest = {name: item for name, item in record.items() if name not in used}
    row: Row
    if shape.kind == "chat":
        row = _chat(record, shape, texts, value, need_answer, notes if notes is not None else Counter())
    else:
        row = {"text": texts["text"] if "text" in texts else _text(record, shape.columns["text"], value["text"])}
        if not row["text"].strip():
            raise BadRow("empty text", f"{shape.columns.get('text', 'data.text')}: empty")
        if shape.kind == "text+label":
            row["label"] = _label(record, shape.columns["label"], value["label"])
    if rest:
        row["columns"] = rest
    return row


def pick(record: Mapping[str, Any], column: str) -> Any:
    """A record's value by column name, or by a path into nested values (`instances.0.output`); None when absent."""
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


# --- which columns


def _fields(found: Sequence[str], named: Mapping[str, str], where: str) -> dict[str, list[str]]:
    """Our word -> the columns that go by it; what the user named replaces every other column of that role."""
    fields: dict[str, list[str]] = {}
    for word, names in NAMES.items():
        columns = [column for name in names for column in found if column.strip().lower() == name]
        if columns:
            fields[word] = columns
    for word, column in named.items():
        if word not in NAMES:
            raise unknown("column meaning", word, NAMES)
        if column not in found and column.split(".")[0] not in found:
            close = nearest(column, found)
            raise DataError(
                f'{where} has no column "{column}". Found: {", ".join(found)}.',
                fix=f"Did you mean: data.columns.{word}: {close[0]}" if close else "",
            )
        role = _ROLES.get(word, word)
        for other in [other for other in fields if _ROLES.get(other, other) == role]:
            del fields[other]
        for columns in fields.values():
            if column in columns:
                columns.remove(column)
    fields = {word: columns for word, columns in fields.items() if columns}
    fields.update({word: [column] for word, column in named.items()})
    return fields


def _pair(
    fields: dict[str, list[str]], found: Sequence[str], shape: str | None, where: str
) -> tuple[str, str, str] | None:
    asks = [(word, column) for word in ("instruction", "prompt", "question") for column in fields.get(word, ())]
    replies = [(word, column) for word in ("output", "completion", "answer") for column in fields.get(word, ())]
    pairs = [
        (name, first, second)
        for name, pair in _PAIRS.items()
        for word, first in asks
        for other, second in replies
        if (word, other) == pair and shape in (None, name)
    ]
    if not pairs and shape is None:
        if not asks and "input" in fields:
            asks = [("input", fields["input"][0])]
        pairs = [("named", first, second) for _, first in asks for _, second in replies]
    if len(pairs) > 1:
        raise _ambiguous(where, found, [f"{first} -> {second}" for _, first, second in pairs])
    return pairs[0] if pairs else None


def _by_template(fields: dict[str, list[str]], templates: Mapping[str, Any], found: Sequence[str], where: str) -> Shape:
    if "text" in templates:
        return Shape("template", "text", {}, dict(templates))
    columns: dict[str, str] = {}
    for role, words in {
        "prompt": ("prompt", "instruction", "question", "text", "input"),
        "answer": ("answer", "output", "completion", "label"),
    }.items():
        if role in templates:
            continue
        there = [word for word in words if word in fields]
        if role == "answer" and not there:
            continue
        if not there:
            raise _nothing_fits(where, found, fields, None)
        columns[role] = fields[there[0]][0]
    if "system" in fields and "system" not in templates:
        columns["system"] = fields["system"][0]
    return Shape("template", "chat", columns, dict(templates))


def _ambiguous(where: str, found: Sequence[str], choices: list[str]) -> DataError:
    return DataError(
        f"{where} can be read in {len(choices)} ways: {'; '.join(choices)}. Found: {', '.join(found)}.",
        wanted="One way to read it.",
        fix="Say which columns: data.columns.question: NAME data.columns.answer: NAME (or data.shape: "
        + " | ".join(SHAPES)
        + ")",
    )


def _nothing_fits(where: str, found: Sequence[str], fields: Mapping[str, Any], shape: str | None) -> DataError:
    listed = ", ".join(found)
    if {"chosen", "rejected"} <= {column.lower() for column in found}:
        return DataError(
            f"{where} looks like preference pairs. Found: {listed}.",
            wanted=_WANTED,
            fix="To train on the chosen answers alone: data.columns.answer: chosen (and data.columns.prompt: NAME)",
        )
    taken = {column for columns in fields.values() for column in columns}
    free = [column for column in found if column not in taken]
    asks = next((word for word in ("instruction", "prompt", "question") if word in fields), None)
    replies = next((word for word in ("output", "completion", "answer") if word in fields), None)
    if shape is None and asks and not replies:
        missing = dict(_PAIRS.values())[asks]
    elif shape is None and replies and not asks:
        missing = {reply: ask for ask, reply in _PAIRS.values()}[replies]
    elif shape is None and "label" in fields:
        missing = "text"
    else:
        return DataError(
            f"{where} has no shape I know" + (f" as {shape}" if shape else "") + f". Found: {listed}.",
            wanted=_WANTED,
            fix="Say which columns: data.columns.question: NAME data.columns.answer: NAME, or data.columns.text: NAME"
            "\nIf the first row of a table is no header: data.header: false",
        )
    guess = free[0] if len(free) == 1 else "NAME"
    meaning = (
        "the text"
        if missing == "text"
        else "the answer"
        if missing in ("output", "completion", "answer")
        else "the question"
    )
    return DataError(
        f'{where} has no "{missing}". Found: {listed}.',
        fix=f"Say which column holds {meaning}: data.columns.{missing}: {guess}",
    )


# --- one row


def _chat(
    record: Mapping[str, Any],
    shape: Shape,
    texts: Mapping[str, str],
    value: Mapping[str, Any],
    need_answer: bool,
    notes: Counter[str],
) -> Row:
    messages: list[dict[str, Any]] = []
    column = shape.columns

    def said(word: str) -> str:
        text = texts[word] if word in texts else _text(record, column[word], value[word])
        if not text.strip():
            raise BadRow(f"empty {word}", f"{column.get(word, f'the template of {word}')}: empty")
        return text

    system = _text(record, column["system"], value["system"]) if value.get("system") else ""
    if not system.strip():
        system = texts.get("system", "")
    if system.strip():
        messages.append({"role": "system", "content": system})
    row: Row = {"messages": messages}
    if "messages" in value:
        said_before = _messages(record, column["messages"], value["messages"], notes)
        if said_before and said_before[0]["role"] == "system":
            messages.clear()
        messages += said_before
        tools = _tools(column.get("tools", ""), value.get("tools"))
        if tools:
            row["tools"] = tools
    else:
        if value.get("history"):
            messages += _history(column["history"], value["history"])
        prompt = said("prompt")
        if value.get("input") is not None:
            context = _text(record, column["input"], value["input"])
            prompt = f"{prompt}\n\n{context}" if context.strip() else prompt
        messages.append({"role": "user", "content": prompt})
        given = "answer" in texts or value.get("answer") is not None
        if given or (need_answer and "answer" in column):
            messages.append({"role": "assistant", "content": said("answer")})
    trained_on = any(
        message["role"] == "assistant" and message.get("train", True) and message.get("weight", 1)
        for message in messages
    )
    if need_answer and not trained_on:
        raise BadRow("nothing to train on", "no assistant message that is trained on")
    return row


def _messages(record: Mapping[str, Any], column: str, value: Any, notes: Counter[str]) -> list[dict[str, Any]]:
    if column.split(".")[0] not in record:
        raise _missing(record, column)
    value = _parsed(column, value) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise _wrong(column, "a list of messages", value)
    if not value:
        raise BadRow("no messages", f"{column}: an empty list")
    messages = []
    for number, item in enumerate(value):
        at = f"{column}[{number}]"
        if not isinstance(item, Mapping):
            raise _wrong(at, "an object with role and content", item)
        message = _message(at, item)
        for key in item.keys() - _READ:
            notes[f'message key "{key}" not used'] += 1
        if message["role"] == "system" and not message["content"].strip():
            notes["empty system messages left out"] += 1
            continue
        messages.append(message)
    return messages


def _message(at: str, item: Mapping[str, Any]) -> dict[str, Any]:
    speaker_key = "role" if "role" in item else "from"
    speaker = item.get(speaker_key)
    if not isinstance(speaker, str):
        if speaker is None:
            raise BadRow("missing field", f"{at}.role: missing. Found: {', '.join(map(str, item))}")
        raise _wrong(f"{at}.{speaker_key}", "text", speaker)
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
        raise _wrong(f"{at}.train", "true or false", message["train"])
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise _wrong(f"{at}.weight", "a number >= 0", weight)
    if not content.strip() and role in ("user", "assistant") and not message.get("tool_calls"):
        raise BadRow("empty answer" if role == "assistant" else "empty prompt", f"{at}.{content_key}: empty")
    return message


def _content(at: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong(at, "text", value)
    parts = []
    for number, part in enumerate(value):
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif isinstance(kind, str) and kind != "text":
            raise BadRow(f"{kind} part", f"{at}[{number}]: a part of type {kind}; only text can be trained on")
        else:
            raise _wrong(f"{at}[{number}]", "a text part", part)
    return "".join(parts)


def _calls(at: str, value: Any) -> list[dict[str, Any]]:
    """Tool calls as chat templates take them: [{"type": "function", "function": {"name", "arguments": {...}}}]."""
    value = _parsed(at, value) if isinstance(value, str) else value
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise _wrong(at, "a call with name and arguments", call)
        arguments = function.get("arguments", function.get("parameters", {}))
        arguments = _parsed(f"{at}.arguments", arguments) if isinstance(arguments, str) else arguments
        if not isinstance(arguments, Mapping):
            raise _wrong(f"{at}.arguments", "an object", arguments)
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": function["name"], "arguments": dict(arguments)},
        }
        if isinstance(call.get("id"), str):
            made["id"] = call["id"]
        calls.append(made)
    return calls


def _tools(column: str, value: Any) -> list[dict[str, Any]]:
    if value is None or value == "":
        return []
    value = _parsed(column, value) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise _wrong(column, "a list of tools", value)
    tools = []
    for number, tool in enumerate(value):
        if not isinstance(tool, Mapping) or not isinstance(tool.get("function", tool), Mapping):
            raise _wrong(f"{column}[{number}]", "a tool", tool)
        if not isinstance(tool.get("function", tool).get("name"), str):
            raise _wrong(f"{column}[{number}].name", "text", tool.get("function", tool).get("name"))
        tools.append(dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)})
    return tools


def _history(column: str, value: Any) -> list[dict[str, Any]]:
    messages = []
    for number, turn in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise _wrong(f"{column}[{number}]", "a pair of texts", turn)
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return messages


def _parsed(at: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRow("not JSON", f"{at}: expected JSON, got {_short(text)} ({error})") from None


def _text(record: Mapping[str, Any], column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None and column.split(".")[0] not in record:
        raise _missing(record, column)
    if value is None:
        return ""
    raise _wrong(column, "text", value)


def _label(record: Mapping[str, Any], column: str, value: Any) -> str | int | bool | float:
    if value is None and column.split(".")[0] not in record:
        raise _missing(record, column)
    if value is None or value == "":
        raise BadRow("empty label", f"{column}: empty")
    if not isinstance(value, str | int | bool | float):
        raise _wrong(column, "a label (text or number)", value)
    return value


def _missing(record: Mapping[str, Any], column: str) -> BadRow:
    return BadRow("missing field", f'has no "{column}". Found: {", ".join(map(str, record))}')


def _wrong(at: str, expected: str, value: Any) -> BadRow:
    names = {dict: "an object", list: "a list", bool: "true/false", int: "a number", float: "a number", str: "text"}
    got = "nothing" if value is None else f"{names.get(type(value), type(value).__name__)} {_short(value)}"
    return BadRow("wrong type", f"{at}: expected {expected}, got {got}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _tojson(value: Any, indent: int | None = None) -> str:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        str(value)  # raises, naming the column
    return json.dumps(value, ensure_ascii=False, indent=indent)


def templates(
    *, prompt: str | None = None, answer: str | None = None, system: str | None = None, text: str | None = None
) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """Sandboxed jinja templates over a record's columns, as functions; an unknown column is a BadRow.

    >>> templates(prompt="{{ text }}?")["prompt"]({"text": "왜"})
    '왜?'
    """
    given = {"prompt": prompt, "answer": answer, "system": system, "text": text}
    if not any(given.values()):
        return {}
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # tojson without HTML escapes and with Korean as it is: what is written is what is trained on
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["tojson"] = _tojson
    made: dict[str, Callable[[Mapping[str, Any]], str]] = {}
    for word, source in given.items():
        if not source:
            continue
        try:
            template = environment.from_string(source)
        except TemplateError as error:
            raise SettingError(
                f"data.{word} is not a template: {error}", fix="Columns stand in {{ }}: {{ text }}"
            ) from None

        def render(record: Mapping[str, Any], template: Any = template, word: str = word) -> str:
            try:
                return str(template.render(**{str(name): value for name, value in record.items()}, row=record))
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
                detail = f"data.{word}: {error}. Found: {', '.join(map(str, record))}"
                raise BadRow("template fails", detail) from None

        made[word] = render
    return made
