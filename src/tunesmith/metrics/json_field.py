"""json_field: the answer is JSON and its fields have the reference's values.

Use it for extraction and tool calls, where an answer is an object.

Formula: answers whose fields all have the reference's values / answers.

Source: joint goal accuracy of dialogue states: Henderson et al. 2014, ACL W14-4337.

JSON 필드: 답이 JSON이고 지정한 필드의 값이 기준 답과 같은 비율입니다. 정보 추출과 도구 호출에 씁니다.

>>> metric = JsonField(fields=("intent", "city"))
>>> metric.score('{"intent": "book", "city": "Busan"}', {"answer": '{"intent": "book", "city": "Seoul"}'})["score"]
0.0
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.metrics._json import NotJson, at, read_json, same
from tunesmith.metrics._values import Summary, mean_summary, origin_of, references


@dataclass(frozen=True)
class JsonField:
    """Share of answers whose named fields all equal the reference's; each field's own share is in `extra`."""

    fields: tuple[str, ...] = ()
    """Dotted names of the fields to compare; empty means all top-level fields of the reference, and no others.

    비교할 필드의 이름(점으로 이어 씀). 비우면 기준 답의 맨 위 필드 모두이며, 그 밖의 필드는 틀린 것으로 봅니다."""
    inside_text: bool = False
    """Accept the first JSON object inside other text; otherwise the whole answer must be JSON.

    다른 글 속에 든 첫 JSON 객체도 받아들입니다. 아니면 답 전체가 JSON이어야 합니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose own answer is not JSON or lacks a field."""
        self._wanted(row)

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Score 1.0 or 0.0, whether it was JSON, and each field's 1 or 0."""
        wanted = self._wanted(row)
        try:
            said = read_json(prediction, inside_text=self.inside_text)
        except NotJson as error:
            return {"score": 0.0, "json": 0, "fields": dict.fromkeys(wanted, 0), "reason": str(error)}
        right = {field: int(_equal_at(said, self._path(field), value)) for field, value in wanted.items()}
        value: dict[str, Any] = {"json": 1, "fields": right}
        wrong = [field for field, is_right in right.items() if not is_right]
        if not self.fields and isinstance(said, dict):
            wrong += [f"{key} (not in the reference)" for key in said if key not in wanted]
        return {"score": float(not wrong), **value, **({"reason": "wrong: " + ", ".join(wrong)} if wrong else {})}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Share with its Wilson interval; `extra`: share of valid JSON, share right per field."""
        names = list(dict.fromkeys(name for value in values for name in value["fields"]))
        per_field = {}
        for name in names:
            seen = [value["fields"][name] for value in values if name in value["fields"]]
            per_field[name] = {"right": sum(seen) / len(seen), "n": len(seen)}
        valid = sum(value["json"] for value in values) / max(1, len(values))
        return mean_summary(values, extra={"valid_json": valid, "per_field": per_field})

    def _path(self, name: str) -> str | tuple[str, ...]:
        """Named fields are dotted paths; the reference's own keys may have dots in them."""
        return name if self.fields or not name else (name,)

    def _wanted(self, row: Mapping[str, Any]) -> dict[str, Any]:
        answer = references(row)[0]
        try:
            gold = read_json(answer, inside_text=self.inside_text)
            names = self.fields or (tuple(gold) if isinstance(gold, dict) else ("",))
            return {name: at(gold, self._path(name)) for name in names}
        except NotJson as error:
            raise DataError(
                f"{origin_of(row)}: json_field cannot read its answer ({error}): {answer[:80]}",
                wanted="JSON with the fields to compare.",
                fix=""
                if self.inside_text
                else "Where it stands inside other text, as a tool call between its tags:  inside_text: true",
            ) from None


def _equal_at(said: Any, path: str | tuple[str, ...], wanted: Any) -> bool:
    try:
        return same(at(said, path), wanted)
    except NotJson:
        return False
