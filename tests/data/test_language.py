import pytest

from tunesmith.data.language import language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("배송은 언제 오나요?", "korean"),
        ("GPU 메모리가 부족합니다", "korean"),
        ("ㅋㅋㅋ", "korean"),
        ("Where is my order?", "english"),
        ("I would like to know how long the delivery takes, thank you", "english"),
        ("¿Dónde está mi pedido?", "other"),
        ("Der Kunde wartet schon seit drei Wochen auf das Paket", "other"),
        ("今日はいい天気です", "other"),
        ("12345 !!", "other"),
        ("", "other"),
    ],
)
def test_language(text, expected):
    assert language(text) == expected
