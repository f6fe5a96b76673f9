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
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.names import nearest, unknown
from tunesmith.data.fitting import fits
from tunesmith.data.judged import CANONICAL
from tunesmith.data.messages import (
    BadRow,
    missing,
    read_history,
    read_label,
    read_messages,
    read_number,
    read_text,
    read_tools,
    wrong,
)
from tunesmith.data.rows import Row

__all__ = ["NAMES", "SHAPES", "BadRow", "Shape", "canonical", "columns_read", "pick", "recognise", "templates"]

# Our word for a column, and the names it goes by in published sets (compared in lower case).
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "conversations": ("conversations", "conversation"),
    "instruction": ("instruction", "instructions", "지시", "지시문", "지시사항", "명령", "명령어"),
    "prompt": ("prompt", "프롬프트"),
    "question": ("question", "q", "질문", "질의", "문의"),
    "input": ("input", "context", "입력", "맥락", "문맥"),
    "output": ("output", "출력"),
    "completion": ("completion", "response", "canonical_solution"),
    "answer": ("answer", "a", "답변", "대답", "응답", "답", "정답"),
    "system": ("system", "system_prompt", "시스템"),
    "history": ("history",),
    "tools": ("tools",),
    "text": ("text", "document", "content", "sentence", "본문", "문장", "텍스트", "내용", "문서"),
    "text2": ("text2", "sentence2", "hypothesis", "text_b", "question2", "positive", "pos", "문장2", "가설"),
    "negative": ("negative", "neg"),
    "texts": ("texts", "paraphrases"),
    "group": ("group", "group_id", "cluster", "cluster_id"),
    "label": ("label", "gold_label", "category", "class", "intent", "라벨", "레이블", "분류", "범주", "의도"),
    "score": ("score", "similarity", "similarity_score", "점수", "유사도"),
    "chosen": ("chosen", "선호", "선택"),
    "rejected": ("rejected", "비선호", "거절"),
    "margin": ("margin",),
    "answers": ("answers", "responses", "completions"),
    "scores": ("scores", "ratings"),
    "prefix": ("prefix",),
    "middle": ("middle",),
    "suffix": ("suffix",),
}
# The second text of a pair -> what the first is called beside it.
_FIRST: dict[str, tuple[str, ...]] = {
    "sentence2": ("sentence1",), "hypothesis": ("premise",), "text2": ("text1", "text"), "text_b": ("text_a",),
    "question2": ("question1",), "positive": ("query", "anchor", "question", "text"), "pos": ("query", "anchor"),
    "문장2": ("문장1",), "가설": ("전제",),
}  # fmt: skip
_ROLES = {"instruction": "prompt", "question": "prompt", "output": "answer", "completion": "answer"}
_PAIRS = {
    "instruction": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
}
# Shapes beyond conversations and texts -> the columns they need, as told to who names such a shape.
_NEEDS = {
    "preference": "chosen and rejected (and a prompt, unless both are whole dialogues)",
    "rated": "a prompt, an answer and label (true or false); or messages and label",
    "scored": "a prompt, answers (a list) and scores (a list, or inside the answers)",
    "prompts": "prompt, question, instruction or messages",
    "infill": "prefix, middle and suffix; or prompt, suffix and completion",
    "pair": "text and text2; sentence1 and sentence2; query and positive",
    "group": "texts (a list); or text and group",
}
_ROLES_OF = {
    "preference": ("prompt", "chosen", "rejected"), "rated": ("prompt", "answer", "label"),
    "scored": ("prompt", "answers", "scores"), "prompts": ("prompt",), "infill": ("prefix", "middle", "suffix"),
    "pair": ("text", "text2"), "group": ("text", "group"),
}  # fmt: skip
SHAPES = (
    "messages", "sharegpt", "instruction", "prompt_completion", "question_answer", "text_label", "text", *_NEEDS,
)  # fmt: skip
_WANTED = (
    "Known shapes: messages; conversations (ShareGPT); instruction (+ input) and output; prompt and completion; "
    "question and answer; text (+ label); chosen and rejected; prompt, answer and label (true or false); "
    "answers with scores; prompts; prefix, middle and suffix; sentence1 and sentence2; texts that mean the same."
)
_ASKS, _REPLIES = ("instruction", "prompt", "question"), ("output", "completion", "answer")
_BESIDE = re.compile(r"(.*_)?(id|guid|idx|index|source|url|license|lang|language|split|date|__index_level_0__)")


@dataclass(frozen=True)
class Shape:
    """What a source's columns mean.

    name       one of SHAPES, "template", or "named" (columns named by the user that fit none)
    kind       what the rows become: one of kinds.KINDS
    columns    our word -> the source's column: {"prompt": "Q", "answer": "A"}
    templates  our word -> a function of the record, where the user gave a template
    """

    name: str
    kind: str
    columns: Mapping[str, str]
    templates: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)

    @property
    def roots(self) -> set[str]:
        """The record's own columns that it reads: of `instances.0.output` the first part."""
        return {part for column in self.columns.values() for part in (column, column.partition(".")[0])}

    def __str__(self) -> str:
        used = {**self.columns, **{word: f"data.{word}" for word in self.templates}}
        asks = [used[word] for word in ("system", "history", "messages", "prompt", "input") if word in used]
        if self.kind == "preference":
            told = " -> ".join(filter(None, [" + ".join(asks), f"{used['chosen']} > {used['rejected']}"]))
        elif self.kind in ("rated", "scored"):
            told = " -> ".join([" + ".join(asks), " + ".join(name for name in used.values() if name not in asks)])
        elif self.kind == "infill":
            told = f"{used['prefix']} [{used['middle']}] {used['suffix']}"
        elif self.kind not in ("chat", "prompt") or "messages" in used:
            told = " + ".join(used.values())
        else:
            told = " + ".join(asks) + (" -> " + used.get("answer", "nothing") if self.kind == "chat" else "")
        return f"{self.name} ({told})"


def recognise(
    found: Sequence[str],
    *,
    where: str,
    named: Mapping[str, str] | None = None,
    shape: str | None = None,
    templates: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None,
    sample: Sequence[Mapping[str, Any]] = (),
    kinds: Sequence[str] = (),
) -> Shape:
    """The shape of a source with the columns `found`; `where` is the row an error points at.

    named      our word -> column, as the user named them: {"answer": "reply"}
    shape      one of SHAPES, when the user says which
    templates  "prompt", "answer", "system" (or "text") -> function of the record
    sample     some records: whether a label is true or false, and whether answers are a list, only they can say
    kinds      what the method learns from: decides where the columns can be read in more than one way

    Raises DataError when nothing fits, when two shapes fit equally, or when a named column is not there.
    """
    if shape is not None and shape not in SHAPES:
        raise unknown("shape", shape, SHAPES)
    if not found:
        raise DataError(f"{where} has no columns.", wanted=_WANTED)
    named, templates = named or {}, templates or {}
    fields = _fields(found, named, where)
    special = _special(fields, found, named, shape, templates, sample, kinds)
    if shape in _NEEDS:
        if special is None:
            raise DataError(
                f"{where} is not {shape}. Found: {', '.join(found)}.",
                wanted=f"Columns: {_NEEDS[shape]}.",
                fix="Say which: " + " ".join(f"data.columns.{word}: NAME" for word in _ROLES_OF[shape]),
            )
        return special
    if special is not None and fits(special.kind, kinds):
        return special
    try:
        plain = _plain(fields, found, shape, templates, where)
    except DataError:
        if special is None:
            raise
        return special
    return special if special is not None and not (kinds and fits(plain.kind, kinds)) else plain


def _plain(
    fields: dict[str, list[str]], found: Sequence[str], shape: str | None, templates: Mapping[str, Any], where: str
) -> Shape:
    """Conversations, and texts with or without labels."""
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
    used = (
        set()
        if shape.templates.keys() - {"system"}
        else {column for column in shape.columns.values() if column in record}
    )
    rest = {name: item for name, item in record.items() if name not in used}
    notes = notes if notes is not None else Counter()
    row: Row
    if shape.kind == "chat":
        row = _chat(record, shape, texts, value, need_answer, notes)
    elif shape.kind in CANONICAL:
        row = CANONICAL[shape.kind](record, shape.columns, value, _asked(record, shape, texts, value, notes), notes)
    else:
        row = _texts(record, shape, texts, value)
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


def _special(
    fields: dict[str, list[str]],
    found: Sequence[str],
    named: Mapping[str, str],
    shape: str | None,
    templates: Mapping[str, Any],
    sample: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
) -> Shape | None:
    """The first of the shapes in _NEEDS that the columns make up; of these `shape`, where it is given."""
    if shape is not None and shape not in (*_NEEDS, "text_label") or "text" in templates or "answer" in templates:
        return None
    prompt = _prompt_columns(fields, templates)
    replies = [fields[word][0] for word in _REPLIES if word in fields]
    only: dict[str, str] = {word: columns[0] for word, columns in fields.items()}
    text_columns, second = _text_columns(fields, found, named)
    made: dict[str, Shape] = {}

    def add(name: str, kind: str, columns: Mapping[str, str], with_templates: bool = False) -> None:
        if shape in (None, name):
            made.setdefault(name, Shape(name, kind, dict(columns), templates if with_templates else {}))

    if "chosen" in only and "rejected" in only and not named.keys() & set(_REPLIES):
        extra = {word: only[word] for word in only if word in ("chosen", "rejected", "margin")}
        add("preference", "preference", {**(prompt or {}), **extra}, True)
    if "suffix" in only and "middle" in only and "prefix" in only:
        add("infill", "infill", {word: only[word] for word in ("prefix", "middle", "suffix")})
    elif "suffix" in only and "prompt" in only and replies and not templates:
        add("infill", "infill", {"prefix": only["prompt"], "middle": replies[0], "suffix": only["suffix"]})
    if prompt and "answers" in only and _listed(sample, only["answers"]):
        inside = _holds(sample, only["answers"])
        if "scores" in only or inside or shape == "scored":
            extra = {word: only[word] for word in only if word in ("answers", "scores")}
            add("scored", "scored", {**prompt, **extra}, True)
    if "texts" in only:
        add("group", "group", {"texts": only["texts"]})
    elif "group" in only and "text" in only and ("group" in named or shape == "group" or "group" in kinds):
        add("group", "group", {"text": only["text"], "group": only["group"]})
    if second is not None:
        pair = {"text": text_columns[0], "text2": second}
        if "label" in only and "score" not in named and shape != "pair":
            add("text_label", "text+label", {**pair, "label": only["label"]})
        extra = {word: only[word] for word in only if word in ("negative", "score")}
        add("pair", "pair", {**pair, **extra})
    if prompt and "label" in only and (replies or "messages" in prompt):
        reply = {} if "messages" in prompt else {"answer": replies[0]}
        if shape == "rated" or _verdicts(sample, only["label"]):
            add("rated", "rated", {**prompt, **reply, "label": only["label"]}, True)
    if prompt and (shape == "prompts" or (not replies and "messages" not in prompt and _alone(fields, found, kinds))):
        add("prompts", "prompt", {**prompt, **({"answer": replies[0]} if replies else {})}, True)
    fitting = [one for one in made.values() if fits(one.kind, kinds)]
    return next(iter(fitting or made.values()), None)


def _prompt_columns(fields: Mapping[str, list[str]], templates: Mapping[str, Any]) -> dict[str, str] | None:
    """Columns that make up the prompt: messages, or a question with what stands before and after it."""
    columns = {word: fields[word][0] for word in ("system", "tools") if word in fields}
    if "prompt" in templates:
        return columns
    for word in ("messages", "conversations"):
        if word in fields:
            return {**columns, "messages": fields[word][0]}
    asks = [fields[word][0] for word in _ASKS if word in fields]
    if not asks and "input" in fields:
        return {**columns, "prompt": fields["input"][0]}
    if not asks:
        return None
    return {**columns, "prompt": asks[0], **{word: fields[word][0] for word in ("input", "history") if word in fields}}


def _text_columns(
    fields: Mapping[str, list[str]], found: Sequence[str], named: Mapping[str, str]
) -> tuple[list[str], str | None]:
    """The columns of a pair of texts: ([first], second), or second None where there is no pair."""
    lower = {column.strip().lower(): column for column in found}
    for second in fields.get("text2", ()):
        if "text" in named:
            return [named["text"]], second
        firsts = [lower[name] for name in _FIRST.get(second.strip().lower(), ("text",)) if name in lower]
        if firsts and firsts[0] != second:
            return firsts[:1], second
    return [], None


def _alone(fields: Mapping[str, list[str]], found: Sequence[str], kinds: Sequence[str]) -> bool:
    """Whether a prompt without answers stands alone; where another column might hold the answer, that is asked for."""
    taken = {column for columns in fields.values() for column in columns}
    rest = [column for column in found if column not in taken and not _BESIDE.fullmatch(column.strip().lower())]
    return not rest or "prompt" in kinds


def _listed(sample: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [pick(record, column) for record in sample]
    return all(value is None or isinstance(value, list) for value in values)


def _holds(sample: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether the lists in a column hold objects, which may carry their scores."""
    lists = [pick(record, column) for record in sample]
    return any(isinstance(value, list) and value and isinstance(value[0], Mapping) for value in lists)


def _verdicts(sample: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column says true or false, and nothing else. 0 and 1 may as well be classes."""
    values = [pick(record, column) for record in sample]
    told = [value for value in values if value is not None and value != ""]
    return bool(told) and all(
        isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false"))
        for value in told
    )


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
                fix=f"Did you mean: data.columns.{word}: {close[0]}"
                if close
                else "A table in a text file is read as one by: data.format: tsv (or csv)"
                if list(found) == ["text"]
                else "",
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
        fix=f"Say which column holds {meaning}: data.columns.{missing}: {guess}"
        + ("\nIf these are prompts alone: data.shape: prompts" if meaning == "the answer" else ""),
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
    row = _asked(record, shape, texts, value, notes, must=True)
    messages: list[dict[str, Any]] = row["messages"]
    if "messages" not in value:
        given = value.get("answer")
        if "answer" in texts:
            messages.append({"role": "assistant", "content": _said(record, shape, texts, value, "answer")})
        elif isinstance(given, list) and given and all(isinstance(item, Mapping) for item in given):
            messages += read_messages(record, shape.columns["answer"], given, notes)
        elif given is not None or (need_answer and "answer" in shape.columns):
            messages.append({"role": "assistant", "content": _said(record, shape, texts, value, "answer")})
    trained_on = any(
        message["role"] == "assistant" and message.get("train", True) and message.get("weight", 1)
        for message in messages
    )
    if need_answer and not trained_on:
        raise BadRow("nothing to train on", "no assistant message that is trained on")
    return row


def _asked(
    record: Mapping[str, Any],
    shape: Shape,
    texts: Mapping[str, str],
    value: Mapping[str, Any],
    notes: Counter[str],
    must: bool = False,
) -> Row:
    """{"messages", "tools"?} of the columns that make up a prompt (or a whole conversation); `must` there be one."""
    messages: list[dict[str, Any]] = []
    column = shape.columns
    system = read_text(record, column["system"], value["system"]) if value.get("system") else ""
    if not system.strip():
        system = texts.get("system", "")
    if system.strip():
        messages.append({"role": "system", "content": system})
    row: Row = {"messages": messages}
    asked = value.get("prompt")
    listed = isinstance(asked, list) and asked and all(isinstance(item, Mapping) for item in asked)
    if "messages" in value or ("prompt" not in texts and listed):
        word = "messages" if "messages" in value else "prompt"
        said_before = read_messages(record, column[word], value[word], notes)
        if said_before and said_before[0]["role"] == "system":
            messages.clear()
        messages += said_before
        tools = read_tools(column.get("tools", ""), value.get("tools"))
        if tools:
            row["tools"] = tools
    elif must or "prompt" in texts or "prompt" in column:
        if value.get("history"):
            messages += read_history(column["history"], value["history"])
        prompt = _said(record, shape, texts, value, "prompt")
        if value.get("input") is not None:
            context = read_text(record, column["input"], value["input"])
            prompt = f"{prompt}\n\n{context}" if context.strip() else prompt
        messages.append({"role": "user", "content": prompt})
    return row


def _said(
    record: Mapping[str, Any], shape: Shape, texts: Mapping[str, str], value: Mapping[str, Any], word: str
) -> str:
    """The text of a word, by its template or column; it must say something."""
    text = texts[word] if word in texts else read_text(record, shape.columns[word], value[word])
    if not text.strip():
        raise BadRow(f"empty {word}", f"{shape.columns.get(word, f'the template of {word}')}: empty")
    return text


def _texts(record: Mapping[str, Any], shape: Shape, texts: Mapping[str, str], value: Mapping[str, Any]) -> Row:
    """Rows without messages: texts, pairs, gaps, groups."""
    column = shape.columns
    row: Row = {}
    if shape.kind == "infill":
        row = {word: read_text(record, column[word], value[word]) for word in ("prefix", "middle", "suffix")}
        if not row["middle"].strip():
            raise BadRow("empty middle", f"{column['middle']}: empty")
        if not (row["prefix"] + row["suffix"]).strip():
            raise BadRow("empty prefix and suffix", f"{column['prefix']} and {column['suffix']}: empty")
        return row
    if "texts" in column:
        return {"texts": _several(record, column["texts"], value["texts"], least=2)}
    for word in ("text", "text2"):
        if word in column or word in texts:
            given = value.get(word)
            one = given[0] if word == "text2" and isinstance(given, list) and len(given) == 1 else given
            row[word] = texts[word] if word in texts else read_text(record, column[word], one)
            if not row[word].strip():
                raise BadRow("empty text", f"{column.get(word, 'data.text')}: empty")
    if value.get("negative") not in (None, "", []):
        given = value["negative"]
        row["negatives"] = _several(record, column["negative"], [given] if isinstance(given, str) else given, least=1)
    if value.get("score") is not None:
        row["score"] = read_number(record, column["score"], value["score"])
    if "label" in column:
        row["label"] = read_label(record, column["label"], value["label"])
    if "group" in column:
        row["group"] = str(read_label(record, column["group"], value["group"]))
    return row


def _several(record: Mapping[str, Any], column: str, value: Any, *, least: int) -> list[str]:
    if value is None and column.split(".")[0] not in record:
        raise missing(record, column)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise wrong(column, "a list of texts", value)
    if len(value) < least:
        raise BadRow("too few texts", f"{column}: {len(value)}, at least {least}")
    if not all(text.strip() for text in value):
        raise BadRow("empty text", f"{column}: one is empty")
    return list(value)


def _tojson(value: Any, indent: int | None = None) -> str:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        str(value)  # raises, naming the column
    return json.dumps(value, ensure_ascii=False, indent=indent)


def columns_read(*templates: str | None) -> set[str] | None:
    """The columns that templates read; None where one takes the row as a whole, and so perhaps any of them.

    >>> sorted(columns_read("{{ question }} ({{ row['a b'] }})", None))
    ['a b', 'question']
    """
    from jinja2 import meta, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    found: set[str] = set()
    for source in filter(None, templates):
        tree = environment.parse(source)
        names = meta.find_undeclared_variables(tree)
        if "row" in names:
            parts = [part for part in tree.find_all(nodes.Getitem) if getattr(part.node, "name", "") == "row"]
            named = [part.arg.value for part in parts if isinstance(part.arg, nodes.Const)]
            if len(named) < sum(name.name == "row" for name in tree.find_all(nodes.Name)):
                return None
            found |= {str(name) for name in named}
        found |= names - {"row", *environment.globals}
    return found


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
