"""Keep rows by length, language and pattern.

Use it for what should not be learned: empty phrases, other languages, links (Rae et al. 2021, arXiv 2112.11446, appendix A).

    steps: [{filter: {least: 10, most: 2000}}]                      # characters of prompt and answer together
    steps: [{filter: {languages: [korean], part: answer}}]
    steps: [{filter: {without: "https?://"}}]

길이, 언어, 정규식으로 행을 거릅니다. 빠진 행은 이유와 함께 data/dropped.jsonl 에 남습니다.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tunesmith.core.errors import SettingError
from tunesmith.data.language import language
from tunesmith.data.rows import Row
from tunesmith.data.steps import Drop, said


@dataclass(frozen=True)
class Filter:
    """Drop rows that are too short or long, in another language, or that match a pattern (or do not)."""

    least: int = 0
    """Fewest characters.

    가장 적은 글자 수."""

    most: int | None = None
    """Most characters. Null = no limit.

    가장 많은 글자 수. null이면 제한이 없습니다."""

    languages: tuple[Literal["korean", "english", "other"], ...] = ()
    """Languages that stay. None given = all.

    남길 언어. 주지 않으면 모두 남깁니다."""

    matching: str | None = None
    """A regular expression that must be found.

    있어야 하는 정규식."""

    without: str | None = None
    """A regular expression that must not be found.

    없어야 하는 정규식."""

    part: Literal["all", "prompt", "answer"] = "all"
    """Where to look.

    어디를 보는지: 행 전체, 질문, 또는 답."""

    def __post_init__(self) -> None:
        for name, pattern in (("matching", self.matching), ("without", self.without)):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise SettingError(f'{name}: "{pattern}" is not a regular expression: {error}') from None
        if self.most is not None and self.most < self.least:
            raise SettingError(f"least is {self.least} and most {self.most}: no row can pass.")

    def apply(self, rows: Iterator[Row]) -> Iterator[Row | Drop]:
        for row in rows:
            reason, detail = self._objection(said(row, self.part))
            yield Drop(row, reason, detail) if reason else row

    def _objection(self, text: str) -> tuple[str, str]:
        if len(text) < self.least:
            return "too short", f"{len(text)} characters, at least {self.least}"
        if self.most is not None and len(text) > self.most:
            return "too long", f"{len(text)} characters, at most {self.most}"
        if self.languages and language(text) not in self.languages:
            return "other language", language(text)
        if self.matching is not None and not re.search(self.matching, text):
            return "pattern not found", self.matching
        if self.without is not None and (found := re.search(self.without, text)):
            return "pattern found", found[0][:80]
        return "", ""
