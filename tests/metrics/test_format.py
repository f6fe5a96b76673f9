"""format: every rule on its own, JSON Schema keywords, Korean speech levels."""

import pytest

from tunesmith.core.errors import SettingError
from tunesmith.metrics._json_schema import broken, check_schema
from tunesmith.metrics._korean import level, levels
from tunesmith.metrics.format import Format, count


@pytest.mark.parametrize(
    "settings, good, bad",
    [
        ({"regex": r"\d{3}-\d{4}"}, " 123-4567\n", "tel 123-4567"),
        ({"json": True}, '{"a": [1]}', "{'a': 1}"),
        ({"schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
        ({"max_length": 5}, "네 좋아요", "네 아주 좋아요"),
        ({"min_length": 2, "max_length": 3, "unit": "words"}, "one two", "one"),
        ({"max_length": 2, "unit": "sentences"}, "One is 3.5. Two!", "One. Two. Three."),
        ({"min_length": 2, "unit": "lines"}, "- a\n\n- b", "- a"),
        ({"language": "ko"}, "주문 번호는 KR12 입니다", "Your order number 주문"),
        ({"language": "en"}, "The café is open", "카페가 열렸어요"),
        ({"speech": "haeyo"}, "네, 확인했어요. 잠시만 기다려 주세요!", "확인했어요. 기다려 주십시오."),
        ({"speech": "hapsyo"}, "안녕하십니까? 처리되었습니다.", "처리됐어요."),
        ({"speech": "banmal"}, "나 지금 가고 있어. 기다려!", "가고 있어요."),
    ],
)
def test_each_rule(settings, good, bad):
    metric = Format(**settings)
    assert metric.score(good, {}) == {"score": 1.0}
    value = metric.score(bad, {})
    assert value["score"] == 0.0 and value["reason"]


def test_pass_rate_with_interval_and_what_failed():
    metric = Format(json=True, max_length=10)
    summary = metric.summary([metric.score(text, {}) for text in ("[1]", "[1", '"0123456789"', "[2]")])
    assert summary.value == 0.5 and summary.n == 4 and summary.extra["failed"] == {"json": 1, "length": 1}
    assert summary.low == pytest.approx(0.15, abs=0.01)


def test_a_format_without_rules_or_with_broken_ones_is_refused():
    for settings in ({}, {"regex": "("}, {"schema": {"typ": "object"}}, {"schema": {"type": "objekt"}}):
        with pytest.raises(SettingError):
            Format(**settings)


SENTENCES = {
    "hapsyo": ["감사합니다.", "무엇을 도와 드릴까요? 는 아니고 도와 드리겠습니다", "확인하셨습니까?", "이쪽으로 오십시오!", "같이 갑시다.", "그렇습니다^^", "입니다 ㅎㅎ"],
    "haeyo": ["고마워요!", "같이 가요.", "많이 답답하신가요?", "주문하셨나요?", "그렇죠.", "제가 할게요~", "도와 드릴까요?", "확인해 주세요 :)", "맞아요ㅎㅎ", "학생이에요."],
    "banmal": ["고마워.", "뭐 해?", "나는 학교에 갔다.", "비가 온다", "이것은 책이다", "같이 가자", "그게 아니거든", "네가 했잖아!", "먹었어", "그렇구나", "빨리 와!"],
    None: ["주문 번호: 12", "회원 가입 필요", "서울 바다", "배송 정보", "Thank you.", "", "참고 이미지", "결제 금지.", "1. 환불 신청"],
}  # fmt: skip


@pytest.mark.parametrize("wanted, sentence", [(wanted, s) for wanted, several in SENTENCES.items() for s in several])
def test_speech_level_of_a_sentence(wanted, sentence):
    assert level(sentence) == wanted


def test_speech_levels_of_a_text():
    assert levels("안녕하세요. 문의 감사합니다.\n- 배송 정보\n내일 도착해요") == ["haeyo", "hapsyo", "haeyo"]
    assert Format(speech="haeyo").score("Thank you.", {})["reason"] == "speech: no sentence with a level"


@pytest.mark.parametrize(
    "schema, good, bad",
    [
        ({"type": ["string", "null"]}, [None, "a"], [1, True]),
        ({"type": "integer"}, [1, 2.0], [1.5, True, "1"]),
        ({"enum": [1, "a", None]}, [1.0, "a", None], [True, "b"]),
        ({"const": {"a": [1]}}, [{"a": [1.0]}], [{"a": [2]}]),
        ({"minimum": 0, "exclusiveMaximum": 1}, [0, 0.5], [-1, 1]),
        ({"multipleOf": 0.1}, [0.3, 7], [0.25]),
        ({"minLength": 2, "maxLength": 3, "pattern": "^[가-힣]+$"}, ["서울"], ["서", "서울특별시", "ab"]),
        ({"properties": {"a": {"type": "string"}}, "additionalProperties": False}, [{"a": "x"}, {}], [{"a": 1}, {"b": 1}]),
        ({"patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": {"type": "string"}},
         [{"n_a": 1, "b": "x"}], [{"n_a": "x"}, {"b": 1}]),
        ({"propertyNames": {"maxLength": 2}, "minProperties": 1, "maxProperties": 2}, [{"ab": 1}], [{}, {"abc": 1}]),
        ({"required": ["a", "b"]}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2, "uniqueItems": True}, [[1, 2]], [[], [1, 1.0], [1, 2, 3], ["a"]]),
        ({"prefixItems": [{"type": "string"}], "items": False}, [["a"]], [["a", 1], [1]]),
        ({"contains": {"const": 3}}, [[1, 3]], [[1]]),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 6], [4]),
        ({"oneOf": [{"multipleOf": 3}, {"multipleOf": 5}]}, [3, 10], [15, 1]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}], "not": {"const": 2}}, [1], [2, 4]),
        ({"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}},
         [{"a": 1, "b": 1}, {"c": 1}], [{"a": 1}, {"a": 2}]),
        ({"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}, "required": ["v"]}}, "$ref": "#/$defs/n"},
         [{"v": 1, "next": {"v": 2}}], [{"v": 1, "next": {}}]),
    ],
)  # fmt: skip
def test_json_schema_keywords(schema, good, bad):
    check_schema(schema)
    assert [broken(value, schema) for value in good] == [[] for _ in good]
    assert all(broken(value, schema) for value in bad)


@pytest.mark.parametrize("digits", ["7" * 310, "-" + "7" * 310])
def test_numbers_no_float_can_hold(digits):
    """What a model may write under a schema: an integer of 310 digits, and 1e999."""
    whole = Format(schema={"type": "integer", "multipleOf": 7})
    assert whole.score(digits, {}) == {"score": 1.0}
    assert "no multiple" in Format(schema={"multipleOf": 2}).score(digits, {})["reason"]
    assert Format(schema={"multipleOf": 0.5}).score(digits, {}) == {"score": 1.0}
    assert Format(schema={"minimum": 0}).score(digits, {})["score"] == float(digits[0] != "-")
    assert "no integer" in whole.score("1e999", {})["reason"]
    assert "no multiple" in Format(schema={"multipleOf": 0.5}).score("1e999", {})["reason"]


def test_json_schema_says_where():
    schema = {"properties": {"orders": {"items": {"properties": {"id": {"type": "integer"}}}}}}
    assert broken({"orders": [{"id": 1}, {"id": "x"}]}, schema) == ['orders[1].id: "x" is no integer']


@pytest.mark.parametrize(
    "schema", [{"format": "date"}, {"properties": {"a": {"$ref": "http://x"}}}, {"items": 3}, {"pattern": "("}]
)
def test_a_schema_beyond_this_checker_is_refused_not_ignored(schema):
    with pytest.raises(SettingError):
        check_schema(schema)


def test_counting():
    text = "첫째 문장입니다. 둘째!\n\n셋째"
    assert [count(text, unit) for unit in ("characters", "words", "sentences", "lines")] == [len(text), 4, 3, 2]
