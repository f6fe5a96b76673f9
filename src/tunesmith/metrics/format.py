"""format: the answer has the form that was asked for, whatever it says: share of answers that pass every rule given.

Use it beside a metric of what is said: a tuned model should keep its form, too.

Formula: answers that pass every rule / answers.

Source: verifiable instructions: Zhou et al. 2023 (IFEval), arXiv 2311.07911.

형식: 내용과 상관없이 요구한 형식을 지킨 답의 비율입니다. 내용의 지표 옆에 두고 봅니다.

>>> Format(regex=r"[A-Z]{2}\\d+", max_length=6).score("KE123", {})
{'score': 1.0}
>>> Format(language="ko", speech="haeyo").score("환불해 드립니다.", {})
{'score': 0.0, 'reason': 'speech: hapsyo'}
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.core.errors import SettingError
from tunesmith.metrics._json import NotJson, read_json
from tunesmith.metrics._json_schema import broken, check_schema
from tunesmith.metrics._korean import Speech, levels
from tunesmith.metrics._text import normalise
from tunesmith.metrics._values import Summary, mean_summary

SCRIPTS = {  # letters counted for each language; a language is told by its script, so `en` means Latin letters
    "ko": re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ]"),
    "en": re.compile(r"[A-Za-zÀ-ɏ]"),
    "ja": re.compile(r"[぀-ヿ]"),
    "zh": re.compile(r"[一-鿿]"),
}


@dataclass(frozen=True)
class Format:
    """Share of answers that pass all rules given; how many failed each rule is in `extra`."""

    regex: str = ""
    """The whole answer matches this regular expression (`.` matches newlines).

    답 전체가 이 정규식에 맞아야 합니다(`.`은 줄바꿈에도 맞음)."""
    json: bool = False
    """The answer is JSON.

    답이 JSON이어야 합니다."""
    schema: dict[str, Any] | None = None
    """The answer is JSON that fits this JSON Schema.

    답이 이 JSON Schema에 맞는 JSON이어야 합니다."""
    min_length: int = 0
    """At least so many `unit`.

    `unit`으로 세어 적어도 이만큼."""
    max_length: int = 0
    """At most so many `unit`; 0 means no limit.

    `unit`으로 세어 많아야 이만큼. 0이면 제한 없음."""
    unit: Literal["characters", "words", "sentences", "lines"] = "characters"
    """What length counts.

    길이를 무엇으로 셀지."""
    language: Literal["", "ko", "en", "ja", "zh"] = ""
    """The script most letters belong to: Hangul, Latin, kana or Chinese characters.

    글자 대부분이 속해야 하는 문자: 한글, 로마자, 가나, 한자."""
    share: float = 0.5
    """How large the part of letters in that script must be.

    그 문자의 글자가 차지해야 하는 몫."""
    speech: Literal["", "hapsyo", "haeyo", "banmal"] = ""
    """Korean speech level of every sentence: formal (hapsyo), polite (haeyo) or plain (banmal).

    모든 문장의 한국어 말투: 합쇼체, 해요체 또는 반말."""

    def __post_init__(self) -> None:
        rules = (
            self.regex,
            self.json,
            self.schema is not None,
            self.min_length,
            self.max_length,
            self.language,
            self.speech,
        )
        if not any(rules):
            raise SettingError(
                "The metric format has no rule.",
                wanted="At least one of regex, json, schema, min_length, max_length, language, speech.",
            )
        try:
            re.compile(self.regex)
        except re.error as error:
            raise SettingError(f"format.regex is no regular expression: {self.regex} ({error})") from None
        if self.schema is not None:
            check_schema(self.schema)

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Score 1.0, or 0.0 with the first rule that failed and why. The row is not needed."""
        reason = next(self._broken(normalise_ends(prediction)), None)
        return {"score": 1.0} if reason is None else {"score": 0.0, "reason": reason}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Pass rate with its Wilson interval; `extra`: how many failed which rule first."""
        failed = Counter(value["reason"].partition(":")[0] for value in values if not value["score"])
        return mean_summary(values, extra={"failed": dict(failed.most_common())})

    def _broken(self, text: str) -> Iterator[str]:
        if self.regex and not re.fullmatch(self.regex, text, re.DOTALL):
            yield "regex: no match"
        if self.json or self.schema is not None:
            try:
                value = read_json(text)
            except NotJson as error:
                yield f"json: {error}"
            else:
                for wrong in broken(value, self.schema) if self.schema is not None else ():
                    yield f"schema: {wrong}"
        size = count(text, self.unit)
        if size < self.min_length or self.max_length and size > self.max_length:
            yield f"length: {size} {self.unit}"
        if self.language and (part := share_of_script(text, self.language)) < self.share:
            yield f"language: {part:.0%} {self.language}"
        if self.speech and (wrong_levels := wrong_speech(text, self.speech)):
            yield f"speech: {wrong_levels}"


def normalise_ends(text: str) -> str:
    """NFC with white space trimmed at both ends; inside, layout is part of the form and stays."""
    import unicodedata

    return unicodedata.normalize("NFC", text).strip()


def count(text: str, unit: str) -> int:
    """How many characters, words, sentences (ended by . ! ? or a line's end) or lines that are not empty."""
    if unit == "characters":
        return len(text)
    if unit == "words":
        return len(text.split())
    if unit == "lines":
        return sum(bool(line.strip()) for line in text.splitlines())
    return sum(bool(re.search(r"\w", part)) for part in re.split(r"(?<=[.!?。！？…])\s+|\n+", text))


def share_of_script(text: str, language: str) -> float:
    """Part of the letters that belong to a language's script; 0 when there are no letters."""
    letters = sum(character.isalpha() for character in text)
    return len(SCRIPTS[language].findall(text)) / letters if letters else 0.0


def wrong_speech(text: str, speech: Speech) -> str:
    """The levels that are not the one wanted, or "no sentence with a level"; "" when all is as wanted."""
    found = levels(normalise(text) if "\n" not in text else text)
    if not found:
        return "no sentence with a level"
    return ", ".join(sorted(set(found) - {speech}))
