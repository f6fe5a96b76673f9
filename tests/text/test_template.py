from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, ModelError
from tunesmith.text.template import CHATML_TEMPLATE, DEFAULT_TEMPLATE, compiled, render, template_of, variables_of
from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer

FAMILIES = [
    "chatml",
    "qwen2.5",
    "qwen3",
    "llama3",
    "llama3.1",
    "llama2",
    "gemma",
    "gemma3",
    "mistral",
    "phi3",
    "zephyr",
]
FAMILIES += ["deepseek-r1", "marked"]
ASK = {"role": "user", "content": "  카드가 아직\n\n도착하지 않았어요? "}
SAY = {"role": "assistant", "content": '\n Paris "it" is & <b>so</b>.\n'}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "날씨를 알려 준다",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {
    "role": "assistant",
    "tool_calls": [
        {"id": "abcdefgh1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "서울"}}}
    ],
}
RESULT = {"role": "tool", "content": '{"temperature": 21}', "tool_call_id": "abcdefgh1", "name": "get_weather"}


def ours(tokenizer: Tokenizer, messages, tools=None, **options) -> str:
    source = template_of(tokenizer, tools=bool(tools))
    return render(source, messages, tools, variables=variables_of(tokenizer), **options)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "chat", [[ASK], [ASK, SAY], [ASK, SAY, ASK], [ASK, SAY, ASK, SAY], [SYSTEM, ASK, SAY, ASK, SAY]]
)
def test_text_equals_transformers(families, oracles, name, chat):
    if chat[0] is SYSTEM and name == "gemma":
        pytest.skip("no system role")
    for generate in (True, False):
        expected = oracles(name).apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
        assert ours(families(name), chat, add_generation_prompt=generate) == expected


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3.1", "mistral"])
def test_text_with_tools_equals_transformers(families, oracles, name):
    for chat in ([ASK], [ASK, CALL], [ASK, CALL, RESULT], [ASK, CALL, RESULT, SAY]):
        for generate in (True, False):
            expected = oracles(name).apply_chat_template(
                chat, tools=[WEATHER], tokenize=False, add_generation_prompt=generate
            )
            assert ours(families(name), chat, [WEATHER], add_generation_prompt=generate) == expected


@pytest.mark.parametrize("thinking", [True, False])
def test_reasoning_and_variables_equal_transformers(families, oracles, thinking):
    chat = [ASK, {**SAY, "reasoning_content": "음, 21?"}]
    expected = oracles("qwen3").apply_chat_template(chat, tokenize=False, enable_thinking=thinking)
    variables = {**variables_of(families("qwen3")), "enable_thinking": thinking}
    assert render(template_of(families("qwen3")), chat, variables=variables) == expected
    expected = oracles("qwen3").apply_chat_template(
        [ASK], tokenize=False, enable_thinking=thinking, add_generation_prompt=True
    )
    given = render(template_of(families("qwen3")), [ASK], variables=variables, add_generation_prompt=True)
    assert given == expected


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FAMILIES), st.text(max_size=30), st.text(max_size=30))
def test_any_words_equal_transformers(families, oracles, name, asked, said):
    chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    assert ours(families(name), chat) == oracles(name).apply_chat_template(chat, tokenize=False)


def test_the_date_is_the_one_given(families):
    text = ours(families("llama3.1"), [ASK], now=datetime(2024, 7, 26))
    assert "Today Date: 26 Jul 2024\n" in text


def test_the_template_for_tools_is_chosen_by_name():
    tokenizer = Tokenizer(byte_tokenizer().backend, chat_template={"default": "A", "tool_use": "B"})
    assert (template_of(tokenizer), template_of(tokenizer, tools=True)) == ("A", "B")
    with pytest.raises(ModelError, match="named rag, short, none of them"):
        template_of(Tokenizer(byte_tokenizer().backend, chat_template={"short": "A", "rag": "B"}))


def test_a_model_without_template_gets_a_sane_one(families):
    plain = Tokenizer(families("llama2").backend, config={"bos_token": "<s>", "eos_token": "</s>"})
    assert template_of(plain) == DEFAULT_TEMPLATE
    chat = [SYSTEM, {"role": "user", "content": "hi"}, {"role": "assistant", "content": " yo "}]
    text = ours(plain, chat)
    assert text == "<s>You are a helpful assistant.\n\n### User:\nhi\n\n### Assistant:\nyo</s>\n\n"
    assert ours(plain, chat[:2], add_generation_prompt=True) == text[: text.index("yo")]
    chatml = Tokenizer(families("chatml").backend, config={"eos_token": "<|im_end|>"})
    assert template_of(chatml) == CHATML_TEMPLATE
    assert ours(chatml, chat) == ours(families("chatml"), chat)
    with pytest.raises(ModelError, match="no chat template and its tokenizer no eos"):
        template_of(Tokenizer(families("llama2").backend))


def test_a_template_is_compiled_once():
    assert compiled("{{ messages }}") is compiled("{{ messages }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ ''.__class__ }}{{ cycler.__init__.__globals__.os }}",
        "{{ dict.__call__.__globals__ }}",
    ],
)
def test_a_template_cannot_climb_out_of_the_sandbox(source):
    try:
        assert render(source, [ASK]) == ""
    except DataError:
        pass


def test_what_a_template_says_reaches_the_person(families):
    with pytest.raises(DataError, match="refuses this conversation: Conversation roles must alternate"):
        ours(families("llama2"), [ASK, ASK])
    with pytest.raises(DataError, match="fails on this conversation"):
        render("{{ messages[0].content + 1 }}", [ASK])
    with pytest.raises(ModelError, match="not valid jinja"):
        render("{% if %}", [ASK])
