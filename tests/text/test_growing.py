import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.text.growing import Growing
from tunesmith.text.guard import Guard
from tunesmith.text.template import render, template_of, variables_of

FAMILIES = ["chatml", "qwen3", "llama3", "llama2", "gemma", "mistral", "phi3", "zephyr", "deepseek-r1"]
PARTS = [
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "<s>",
    "[/INST]",
    "<end_of_turn>",
    "<|end|>",
    "<|user|>",
    "\n",
    " ",
    "  ",
    "a",
    "카드",
    "<",
]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FAMILIES), st.lists(st.lists(st.sampled_from(PARTS), max_size=4).map("".join), max_size=6))
def test_ids_are_those_of_the_whole_text(families, name, parts):
    guard = Guard(families(name), families(name).chat_template)
    growing = Growing(guard)
    text = ""
    for part in parts:
        text += part
        assert growing.encode(text) == guard.encode(text)
    for at in range(len(parts)):  # texts that do not continue the last one
        assert growing.encode("".join(parts[at:])) == guard.encode("".join(parts[at:]))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_is_encoded_once(families, name, monkeypatch):
    tokenizer = families(name)
    guard = Guard(tokenizer, tokenizer.chat_template)
    source, variables = template_of(tokenizer), variables_of(tokenizer)
    chat = [{"role": "user", "content": "카드가 아직"}, {"role": "assistant", "content": "hello there"}] * 4
    texts = [render(source, chat[:end], variables=variables) for end in range(1, len(chat) + 1)]
    expected = [guard.encode(text) for text in texts]
    given, encode = [], guard.encode
    monkeypatch.setattr(guard, "encode", lambda text: given.append(text) or encode(text))
    growing = Growing(guard)
    assert [growing.encode(text) for text in texts] == expected
    if name not in ("qwen3", "deepseek-r1", "zephyr", "llama2"):  # whose history changes, or which mark few borders
        assert sum(map(len, given)) <= 1.5 * len(texts[-1])
