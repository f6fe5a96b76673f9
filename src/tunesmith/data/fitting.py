"""Which kinds of rows a method can learn from, and the words when they do not fit.

>>> fits("chat", ("prompt",)), fits("preference", ("chat",))
(True, False)
>>> raise refusal(("preference",), "chat", "faq.jsonl:1")
DataError: faq.jsonl:1: the rows are conversations; this method learns from preference pairs (...)
"""

from collections.abc import Mapping, Sequence

from tunesmith.core.errors import DataError
from tunesmith.data.kinds import KINDS

# A kind that a method asks for -> other kinds that hold what it needs. Conversations end with the reference answer.
_ALSO: dict[str, tuple[str, ...]] = {"prompt": ("chat", "preference"), "infill": ("text",)}

# (kind found, kind wanted) -> what to do about it; then kind wanted alone. {text}, {label}: columns as they are called.
_FIXES: dict[tuple[str, str], str] = {
    ("text+label", "chat"): "Say what is asked and answered, over your columns:  data.prompt='{{{{ {text} }}}}' data.answer='{{{{ {label} }}}}'",
    ("text", "chat"): "For raw text: method=pretrain. If a column is the answer, say which:  data.columns={{answer: COLUMN}}",
    ("preference", "chat"): "To learn the chosen answers alone:  data.columns.answer={chosen}    To learn from the pairs: method=dpo",
    ("rated", "chat"): "To learn all answers, whatever was thought of them:  data.shape=prompt_completion    To learn from the ratings: method=kto",
    ("scored", "chat"): "Take one answer of each row:  data.columns.answer={answers}.0    (or {answers}.0.content, if they are objects)",
    ("prompt", "chat"): "Say which column holds the answer:  data.columns.answer=COLUMN    Methods that need prompts only make their own answers: method=grpo",
    ("infill", "chat"): "To fill the gap: method=infill. As question and answer:  data.prompt='{{{{ {prefix} }}}}' data.answer='{{{{ {middle} }}}}'",
    ("chat", "preference"): "Say which columns hold the better and the worse answer:  data.columns={{chosen: COLUMN, rejected: COLUMN}}",
    ("chat", "text"): "For conversations: method=sft. To read a column as raw text:  data.shape=text data.columns={{text: COLUMN}}",
    ("chat", "rated"): "Say which column says true or false:  data.shape=rated data.columns.label=COLUMN",
    ("chat", "text+label"): "Say which column is the text and which the label:  data.shape=text_label data.columns={{text: COLUMN, label: COLUMN}}",
    ("text+label", "pair"): "If the label is a degree of likeness:  data.columns.score={label}",
    ("text+label", "group"): "Texts with one label as one group:  data.columns={{text: {text}, group: {label}}}",
    ("pair", "text+label"): "Say which column is the label:  data.columns.label=COLUMN",
    ("text", "group"): "Say which column tells the groups apart:  data.columns.group=COLUMN    (or data.group=10: ten rows that follow one another)",
}  # fmt: skip
_BY_WANTED: dict[str, str] = {
    "chat": "Say which columns are question and answer:  data.columns={{question: COLUMN, answer: COLUMN}}",
    "text": "To read a column as raw text:  data.shape=text data.columns={{text: COLUMN}}",
    "text+label": "Say which column is the text and which the label:  data.shape=text_label data.columns={{text: COLUMN, label: COLUMN}}",
    "preference": "Say which columns make a pair:  data.shape=preference data.columns={{prompt: COLUMN, chosen: COLUMN, rejected: COLUMN}}",
    "rated": "Say which columns are meant:  data.shape=rated data.columns={{prompt: COLUMN, answer: COLUMN, label: COLUMN}}",
    "scored": "Say which columns are meant:  data.shape=scored data.columns={{prompt: COLUMN, answers: COLUMN, scores: COLUMN}}",
    "prompt": "Say which column is the prompt:  data.shape=prompts data.columns.prompt=COLUMN",
    "infill": "Say which columns are meant:  data.columns={{prefix: COLUMN, middle: COLUMN, suffix: COLUMN}}    (raw text fits too)",
    "pair": "Say which columns make a pair:  data.shape=pair data.columns={{text: COLUMN, text2: COLUMN}}",
    "group": "Say which columns are meant:  data.columns={{text: COLUMN, group: COLUMN}}",
}  # fmt: skip


def fits(kind: str, wanted: str | Sequence[str]) -> bool:
    """Whether rows of a kind hold what a method asks for; nothing asked for fits always."""
    asked = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    return not asked or any(kind == one or kind in _ALSO.get(one, ()) for one in asked)


def refusal(
    wanted: str | Sequence[str], found: str, origin: str = "", used: Mapping[str, str] | None = None
) -> DataError:
    """The error for rows of the kind `found`, the first of which came from `origin`.

    wanted  the method's `shape`: a kind or several, the most usual first
    used    our word -> the source's column, as the data card holds it, so that the fix names the user's own columns
    """
    asked = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    names = {
        "text": "text",
        "label": "label",
        "chosen": "chosen",
        "answers": "answers",
        "prefix": "prefix",
        "middle": "middle",
    }
    names.update({word: column for word, column in (used or {}).items() if word in names})
    fix = next((_FIXES[found, kind] for kind in asked if (found, kind) in _FIXES), _BY_WANTED.get(asked[0], ""))
    told = " or ".join(KINDS.get(kind, kind) for kind in asked)
    return DataError(
        f"{origin}: the rows are {KINDS.get(found, found)}; this method learns from {told}".removeprefix(": "),
        fix=fix.format(**names),
    )
