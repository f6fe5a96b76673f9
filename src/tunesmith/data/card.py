"""The data card: what a set of rows is made of, counted while the rows pass by.

>>> card = Card()
>>> for row in rows: card.add(row)
>>> card.as_dict()["languages"]
{'korean': 0.97, 'english': 0.03, 'other': 0.0}

Memory: 8 bytes a row (a hash of its prompt). Words for people are made by `told`.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tunesmith.data.hashes import content_hash
from tunesmith.data.kinds import kind_of, pieces
from tunesmith.data.language import language
from tunesmith.data.rows import Row
from tunesmith.report.formats import padded
from tunesmith.report.labels import LABELS, speaker

_MOST_VALUES = 1000
_SHOWN_VALUES = 20
_AT_ONCE = 1 << 16


class Card:
    """Counts over the rows of one split."""

    def __init__(self) -> None:
        self.kind = ""
        self._rows = 0
        self._lengths: dict[str, Counter[int]] = {}
        self._prompt_hashes = array("Q")
        self._bytes = self._turns = self._systems = self._tools = self._lost = 0
        self._languages: Counter[str] = Counter()
        self._values: Counter[str] | None = Counter()

    def add(self, row: Row) -> None:
        """Count one row."""
        found = pieces(row)
        whole = "\n".join(piece.text for piece in found)
        kind = kind_of(row)
        self.kind = kind if self.kind in ("", kind) else "mixed"
        self._rows += 1
        self._bytes += len(whole.encode())
        self._languages[language(whole)] += 1
        self._lost += "\ufffd" in whole
        # Turns of one side count as one text, as they are read; the answers of a row that has several one by one.
        texts: dict[str, list[str]] = {"prompt": [], "answer": []} if kind in ("chat", "rated") else {}
        for piece in found:
            texts.setdefault(piece.name, []).append(piece.text)
        for name, several in texts.items():
            apart = name in ("text", "negative") or (name == "answer" and kind == "scored")
            for text in several if apart else ["\n".join(several)]:
                self._lengths.setdefault(name, Counter())[len(text)] += 1
        messages = row.get("messages")
        value = row.get("label")
        if messages is not None:
            self._turns += sum(message["role"] == "assistant" and message.get("train", True) for message in messages)
            self._turns += len(row.get("answers", ()))
            self._systems += any(message["role"] == "system" for message in messages)
            self._tools += "tools" in row
            value = "\n".join(texts["answer"]) if kind == "chat" else value
            self._prompt_hashes.append(content_hash(row, "prompt"))
        if self._values is not None and value is not None:
            for one in value if isinstance(value, list) else [value]:
                self._values[str(one)] += 1
            if len(self._values) > _MOST_VALUES:
                self._values = None

    def __len__(self) -> int:
        return self._rows

    def prompts_shared_with(self, other: "Card") -> int:
        """Rows here whose prompt (what comes before the last answer) is also in `other`, perhaps with another answer."""
        if not self._prompt_hashes or not other._prompt_hashes:
            return 0
        ours, theirs = np.frombuffer(self._prompt_hashes, np.uint64), np.frombuffer(other._prompt_hashes, np.uint64)
        found = np.zeros(len(ours), bool)
        for start in range(0, len(theirs), _AT_ONCE):  # comparing takes several times what is compared
            found |= np.isin(ours, theirs[start : start + _AT_ONCE])
        return int(found.sum())

    def as_dict(self) -> dict[str, Any]:
        """Everything counted, as JSON can hold it. Lengths are in characters, of prompt and answer or of the text."""
        num = len(self)
        chat = self.kind == "chat"
        lengths = self._lengths or {"text": Counter()}
        card: dict[str, Any] = {
            "rows": num,
            "kind": self.kind,
            "bytes": self._bytes,
            "characters": {name: _spread(sizes) for name, sizes in lengths.items()},
            "languages": {name: _share(self._languages[name], num) for name in ("korean", "english", "other")},
            "rows_with_lost_characters": self._lost,
        }
        if self._prompt_hashes:
            if self.kind in ("chat", "scored"):
                card["answers_per_row"] = _share(self._turns, num)
            else:
                hashes = np.frombuffer(self._prompt_hashes, np.uint64)
                hashes.sort()  # where they lie: their order says nothing
                card["prompts"] = 1 + int(np.count_nonzero(hashes[1:] != hashes[:-1]))
            card["rows_with_system"], card["rows_with_tools"] = self._systems, self._tools
        if self.kind == "group":
            card["texts_per_row"] = _share(lengths["text"].total(), num)
        # Labels, or answers so few that they are labels in disguise (a tenth of the rows at most).
        values = self._values
        if values and self.kind != "mixed" and (not chat or len(values) <= max(2, num // 10)):
            card["labels" if not chat else "answers"] = {
                "different": len(values),
                "most": dict(values.most_common(_SHOWN_VALUES)),
                "largest_share": _share(max(values.values()), num),
                "smallest": min(values.values()),
            }
        return card


def _spread(lengths: "Counter[int]") -> dict[str, int]:
    """Least, most, sum, and the lengths that half and 95 % of the texts do not exceed."""
    if not lengths:
        return {"least": 0, "median": 0, "p95": 0, "most": 0, "all": 0}
    sizes = np.array(sorted(lengths))
    up_to = np.cumsum([lengths[int(size)] for size in sizes])
    median, p95 = (int(sizes[np.searchsorted(up_to, share * up_to[-1])]) for share in (0.5, 0.95))
    total = sum(size * number for size, number in lengths.items())
    return {"least": int(sizes[0]), "median": median, "p95": p95, "most": int(sizes[-1]), "all": total}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def told(card: Mapping[str, Any], lang: str = "en") -> str:
    """A prepared data set's card (data/card.json) as text for people, English or Korean."""
    say = speaker(lang)
    counts = card["counts"]
    lines = []
    for source in card["sources"]:
        facts = [source.get("format"), source.get("encoding"), _header(source, say)]
        for name in ("rows_under", "outside_the_rows", "blank_lines", "sheet", "quotes_inside", "labels_named"):
            if name in source:
                facts.append(f"{name.replace('_', ' ')}: {_listed(source[name])}")
        lines.append(f"{source['name']}: " + ", ".join(fact for fact in facts if fact))
        lines.append("  " + say("card_shape", shape=source["reads_as"]))
        if source.get("not_used"):
            lines.append("  " + say("card_not_used", list=_listed(list(source["not_used"]))))
    columns = (say("card_in"), say("card_kept"), say("card_dropped"))
    lines += ["", " " * 24 + "".join(padded(name, 10, right=True) for name in columns)]
    for name, part in counts["by_origin"].items():
        lines.append(_counted(name[-24:], part) + _why(part["reasons"]))
    if len(counts["by_origin"]) > 1:
        lines.append(_counted(say("card_all"), counts))
    if "rows_joined" in counts:
        lines.append("  " + say("card_joined", n=f"{counts['rows_joined']:,}"))
    lines += [f"  {number:,} x {note}" for note, number in counts["notes"].items()]
    languages = "".join(
        padded(say(f"lang_{name}"), size, right=True) for name, size in (("korean", 8), ("english", 9), ("other", 7))
    )
    lines += [
        "",
        f"{'':10}{padded(say('rows').lower(), 9, right=True)}  {padded(say('card_characters'), 34)}{languages}",
    ]
    for name, part in card["splits"].items():
        if not part["rows"]:
            lines.append(f"{name:10}{0:>9,}")
            continue
        spread = "; ".join(
            f"{_part(what, say)} {n['median']:,} {n['p95']:,} {n['most']:,}" for what, n in part["characters"].items()
        )
        share = [f"{100 * part['languages'][language]:.0f} %" for language in ("korean", "english", "other")]
        lines.append(f"{name:10}{part['rows']:>9,}  {padded(spread, 34)}{share[0]:>8}{share[1]:>9}{share[2]:>7}")
    train = card["splits"]["train"]
    for what in ("labels", "answers"):
        if what in train:
            found = train[what]
            most = ", ".join(f"{name[:30]} {number:,}" for name, number in list(found["most"].items())[:5])
            values = {
                "n": found["different"],
                "share": f"{100 * found['largest_share']:.0f}",
                "smallest": f"{found['smallest']:,}",
                "most": most + (", ..." if found["different"] > 5 else ""),
            }
            lines.append(say("card_labels", **values) if what == "labels" else say("card_answers", **values))
    if "prompts" in train:
        lines.append(say("card_prompts", n=f"{train['prompts']:,}"))
    if "texts_per_row" in train:
        lines.append(say("card_group", n=f"{train['texts_per_row']:g}"))
    if card["duplicates"]:
        lines.append(say("card_repeats", n=f"{card['duplicates']:,}"))
    if card["prompts_in_train_and_test"]:
        lines.append(say("card_shared_prompts", n=f"{card['prompts_in_train_and_test']:,}"))
    if train.get("rows_with_lost_characters"):
        lines.append(say("card_lost", n=f"{train['rows_with_lost_characters']:,}"))
    return "\n".join(lines)


def _counted(name: str, part: Mapping[str, Any]) -> str:
    return padded(name, 24) + "".join(f"{part[key]:>10,}" for key in ("rows_in", "rows_out", "rows_dropped"))


def _part(what: str, say: Callable[..., str]) -> str:
    """What part of a row was measured, in words where there are any: prompt, answer, text."""
    return say(f"length_{what}") if f"length_{what}" in LABELS else what


def _header(source: Mapping[str, Any], say: Callable[..., str]) -> str:
    if "header" not in source:
        return ""
    delimiter = {"\t": say("card_tab"), None: ""}.get(source.get("delimiter"), source.get("delimiter"))
    told = say("card_delimiter", mark=delimiter) + ", " if delimiter else ""
    return told + (say("card_header") if source["header"] else say("card_no_header"))


def _why(reasons: Mapping[str, int]) -> str:
    return "   " + ", ".join(f"{reason} {number:,}" for reason, number in reasons.items()) if reasons else ""


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
