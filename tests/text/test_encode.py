from collections import Counter
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.text.encode import Text
from tunesmith.text.template import CHATML_TEMPLATE, template_of
from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer
from tunesmith.text.too_long import TooLong

MINI = byte_tokenizer()
PLAIN = ["chatml", "qwen2.5", "llama3", "llama3.1", "llama2", "gemma", "gemma3", "phi3", "zephyr", "mistral"]
ALL = [*PLAIN, "qwen3"]
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def user(content):
    return {"role": "user", "content": content}


def says(content, **more):
    return {"role": "assistant", "content": content, **more}


TWO = [user("카드가 아직"), says("도착하지 않았어요."), user("What is the capital?"), says("Paris.")]


def trained(text, example):
    """The trained-on stretches of an Example as text, and their weights."""
    runs, weights = [], example.weights.tolist()
    for at, weight in enumerate(weights):
        if weight and (at == 0 or not weights[at - 1]):
            runs.append([])
        if weight:
            runs[-1].append(int(example.ids[at]))
    return [text.tokenizer.decode(run, skip_special=False).strip() for run in runs]


# -- which tokens are trained on ------------------------------------------------------------------------------------


def test_mini_chat_to_the_token():
    text = Text(MINI)
    (example,) = text.chat([user("a"), says("b")])
    a, b = MINI.encode("ab")
    assert example.ids.tolist() == [2, a, 5, 3, b, 5] and example.weights.tolist() == [0, 0, 0, 0, 1, 1]
    assert text.prompt([user("a")]) == [2, a, 5, 3]
    assert text.prompt([user("a")], prefill="b") == [2, a, 5, 3, b]
    assert text.stops == (0, 5) and text.end_of_turn == 5
    assert text.decode([b, 5]) == "b"


def test_trained_tokens_equal_the_mask_of_transformers(families, oracles):
    """The `marked` template has generation tags, so transformers can tell which tokens are the assistant's."""
    for chat in (TWO, [SYSTEM, *TWO], TWO[:2]):
        out = oracles("marked").apply_chat_template(chat, return_assistant_tokens_mask=True, return_dict=True)
        (example,) = Text(families("marked")).chat(chat)
        num = len(example)
        assert example.ids.tolist() == out["input_ids"][:num] and not any(out["assistant_masks"][num:])
        assert example.weights.tolist() == out["assistant_masks"][:num]


@pytest.mark.parametrize("name", PLAIN)
def test_ids_equal_transformers_and_every_turn_ends_with_its_stop(families, oracles, name):
    tokenizer, text = families(name), Text(families(name))
    (example,) = text.chat(TWO)
    assert example.ids.tolist() == oracles(name).apply_chat_template(TWO)["input_ids"][: len(example)]
    end = tokenizer.tokens([text.end_of_turn])[0]
    gap = " " if name == "llama2" else ""  # its template puts a space there
    assert trained(text, example) == [f"도착하지 않았어요.{gap}{end}", f"Paris.{gap}{end}"]
    ends = np.flatnonzero((example.weights > 0) & (example.ids == text.end_of_turn))
    assert len(ends) == 2 and ends[-1] == len(example) - 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("system", [False, True])
def test_what_is_served_is_what_is_trained_on(families, oracles, name, system):
    """The prompt's ids equal transformers' and are the beginning of the Example, for every turn."""
    if system and name == "gemma":
        pytest.skip("no system role")
    chat = [SYSTEM, *TWO] if system else TWO
    text = Text(families(name))
    examples = text.chat(chat)
    for end in range(len(chat)):
        if chat[end]["role"] == "assistant":
            prompt = text.prompt(chat[:end])
            assert prompt == oracles(name).apply_chat_template(chat[:end], add_generation_prompt=True)["input_ids"]
            starts = [e for e in examples if e.ids[: len(prompt)].tolist() == prompt and e.weights[len(prompt)] > 0]
            assert len(starts) == 1


@pytest.mark.parametrize("name", ALL)
def test_one_bos_on_every_path(families, name):
    """As many BOS as the family has: one where raw text has one, whoever writes it; Llama 2 begins each question so."""
    tokenizer = families(name)
    text = Text(tokenizer)
    paths = [text.chat(TWO[:2])[0].ids.tolist(), text.prompt(TWO[:1])]
    counts = {sum(id == tokenizer.bos for id in ids) for ids in paths}
    assert counts == {1 if tokenizer.adds_bos and name != "zephyr" else 0}  # zephyr's template writes none
    raw = text.raw("hi").ids.tolist()
    assert [id for id in raw if id == tokenizer.bos] == ([tokenizer.bos] if tokenizer.adds_bos else [])
    assert raw[-1] == tokenizer.eos


def test_two_bos_at_the_start_are_refused(families):
    twice = Tokenizer(
        families("llama3").backend,
        config=families("llama3").config,
        chat_template="{{ bos_token }}" + families("llama3").chat_template,
    )
    with pytest.raises(ModelError, match=r"writes <\|begin_of_text\|> twice"):
        Text(twice).chat(TWO)
    with pytest.raises(ModelError, match="twice"):
        Text(twice).prompt(TWO[:1])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ALL), st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=4, max_size=4))
def test_any_words_keep_the_promises(families, name, words):
    tokenizer, text = families(name), Text(families(name))
    chat = [user(words[0]), says(words[1]), user(words[2]), says(words[3])]
    try:
        examples = text.chat(chat)
    except DataError as error:  # llama2's strip() knows more spaces than the template's reader; named, not hidden
        assume("changes the answer" in str(error) or "leaves out" in str(error))
        raise
    served = [text.prompt(chat[:1]), text.prompt(chat[:3])]
    num_stops = 0
    for example in examples:
        ids, on = example.ids.tolist(), example.weights > 0
        firsts = [at for at in range(1, len(ids)) if on[at] and not on[at - 1]]
        assert firsts and all(ids[:first] in served for first in firsts)
        num_stops += sum(on[at] and ids[at] in text.stops for at in range(len(ids)))
        assert ids[-1] in text.stops and on[-1]
        assert tokenizer.bos is None or ids[:2] != [tokenizer.bos, tokenizer.bos]
    assert num_stops == 2


# -- messages' own say ----------------------------------------------------------------------------------------------


def test_train_and_weight_of_a_message():
    text = Text(MINI)
    chat = [user("a"), says("b", weight=0.5), user("c"), says("d", train=False), user("e"), says("f", weight=2)]
    (example,) = text.chat(chat)
    assert Counter(example.weights.tolist()) == {0.0: len(example) - 4, 0.5: 2, 2.0: 2}
    assert trained(text, example) == ["b<|end|>", "f<|end|>"]
    (early,) = text.chat([user("a"), says("b"), user("c"), says("d", train=False)])
    assert early.ids.tolist() == text.chat([user("a"), says("b")])[0].ids.tolist()  # what follows teaches nothing
    with pytest.raises(DataError, match="No message is trained on"):
        text.chat([user("a"), says("b", train=False)])
    with pytest.raises(DataError, match=r"No message is trained on.*\n.*\nRoles found: user"):
        text.chat([user("a")])


def test_a_conversation_may_begin_with_the_assistant_when_the_template_allows():
    (example,) = Text(MINI).chat([says("hello"), user("a"), says("b")])
    assert trained(Text(MINI), example) == ["hello<|end|>", "b<|end|>"]


def test_a_prompt_ends_with_a_question():
    with pytest.raises(DataError, match="The last message is the assistant's"):
        Text(MINI).prompt([user("a"), says("b")])


# -- templates that do not do what they should ----------------------------------------------------------------------


def with_template(template, families=None):
    return Tokenizer(MINI.backend, config=MINI.config, chat_template=template, generation=MINI.generation)


def test_no_system_role_is_said_clearly(families):
    for call in (Text(families("gemma")).chat, Text(families("gemma")).prompt):
        with pytest.raises(DataError, match="has no system role. It says: System role not supported"):
            call([SYSTEM, *TWO[:3]])


def test_words_left_out_in_silence_are_an_error():
    known = "{% if m.role in ['user', 'assistant'] %}{{ m.content + '<|end|>' }}{% endif %}"
    only_users = "{% for m in messages %}" + known + "{% endfor %}"
    text = Text(with_template(only_users))
    assert len(text.chat(TWO)) == 1
    for call in (text.chat, text.prompt):
        with pytest.raises(DataError, match=r"leaves out messages\[0\] \(system\): 'You are a helpful assistant"):
            call([SYSTEM, *TWO[:1], *([TWO[1]] if call == text.chat else [])])
    with pytest.raises(DataError, match="no place for them"):
        text.chat(TWO, tools=[{"name": "f"}])
    with pytest.raises(DataError, match=r"messages\[1\] calls f, but"):
        text.chat([user("a"), {"role": "assistant", "content": "x", "tool_calls": [{"name": "f"}]}])


def test_an_answer_that_the_template_changes_is_refused():
    change = "{{ (m.content | upper if m.role == 'assistant' else m.content) + '<|end|>' }}"
    upper = "{% for m in messages %}" + change + "{% endfor %}"
    with pytest.raises(DataError, match="changes the answer it should teach: 'yes' became 'YES"):
        Text(with_template(upper)).chat([user("a"), says("yes")])


def test_a_turn_that_never_ends_is_refused():
    endless = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    endless += "{% if add_generation_prompt %}assistant: {% endif %}"
    with pytest.raises(ModelError, match="writes no control token after an answer"):
        Text(with_template(endless)).chat(TWO)


def test_a_generation_prompt_the_template_does_not_continue_is_refused():
    wrong = MINI.chat_template.replace("{{- '<|assistant|>' }}", "{{- '<|assistant|>Sure! ' }}")
    with pytest.raises(
        DataError, match=r"messages\[1\]: the chat template does not continue its own generation prompt"
    ):
        Text(with_template(wrong)).chat([user("a"), says("b")])


def test_a_token_that_straddles_the_border_is_cut_there_as_when_served():
    """ChatML's "assistant\\n" before an answer that begins with a newline: "\\n\\n" is one token, served it is two."""
    lines = Tokenizer(_with_double_newline(), config={"eos_token": "<|im_end|>"}, chat_template=CHATML_TEMPLATE)
    text = Text(lines)
    chat = [user("a"), says("\nb"), user("c"), says("d")]
    prompt = text.prompt(chat[:1])
    first, second = text.chat(chat)
    assert first.ids[: len(prompt)].tolist() == prompt and first.weights[len(prompt)] == 1
    assert lines.decode(first.ids.tolist(), skip_special=False).endswith("assistant\n\nb<|im_end|>")
    assert second.ids[: len(text.prompt(chat[:3]))].tolist() == text.prompt(chat[:3])


def _with_double_newline():
    from tokenizers import AddedToken, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id for id, token in enumerate([*alphabet, "ĊĊ"])}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = byte_tokenizer().backend.decoder
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in ("<|im_start|>", "<|im_end|>")])
    return backend


def test_history_that_moves_gives_each_answer_its_own_example(families):
    """Mistral's template writes the system's words before the last question only: no two prompts begin alike."""
    text = Text(families("mistral"))
    chat = [SYSTEM, *TWO]
    first, second = text.chat(chat)
    assert trained(text, first) == ["도착하지 않았어요.</s>"] and trained(text, second) == ["Paris.</s>"]
    for example, end in ((first, 2), (second, 4)):
        prompt = text.prompt(chat[:end])
        assert example.ids[: len(prompt)].tolist() == prompt
        assert "You are a helpful assistant." in text.tokenizer.decode(prompt)


# -- reasoning ------------------------------------------------------------------------------------------------------

THOUGHT = [
    user("a?"),
    says("two", reasoning_content="one and one"),
    user("b?"),
    says("<think>\nwell, well\n</think>\n\nfour"),
]


def test_reasoning_dropped_from_history_gets_each_answer_its_own_example(families, oracles):
    text = Text(families("qwen3"))
    first, second = text.chat(THOUGHT)
    assert trained(text, first) == ["<think>\none and one\n</think>\n\ntwo<|im_end|>"]
    assert trained(text, second) == ["<think>\nwell, well\n</think>\n\nfour<|im_end|>"]
    for example, end in ((first, 2), (second, 4)):
        assert example.ids.tolist() == oracles("qwen3").apply_chat_template(THOUGHT[:end])["input_ids"][: len(example)]
    assert "one and one" not in text.decode(second.ids)


def test_reasoning_masked_is_in_the_text_but_not_learned(families):
    text = Text(families("qwen3"), reasoning="mask")
    first, second = text.chat(THOUGHT)
    assert first.ids.tolist() == Text(families("qwen3")).chat(THOUGHT)[0].ids.tolist()
    assert trained(text, first) == ["<think>", "</think>\n\ntwo<|im_end|>"]
    assert trained(text, second) == ["<think>", "</think>\n\nfour<|im_end|>"]
    (mini,) = Text(MINI, reasoning="mask").chat(THOUGHT)
    assert trained(Text(MINI), mini) == ["<|think|>", "<|/think|>two<|end|>", "<|think|>", "<|/think|>four<|end|>"]


def test_reasoning_dropped(families):
    (mini,) = Text(MINI, reasoning="drop").chat(THOUGHT)
    assert trained(Text(MINI), mini) == ["two<|end|>", "four<|end|>"]
    assert "think" not in MINI.decode(mini.ids, skip_special=False)
    dropped = Text(families("qwen3"), reasoning="drop")
    assert trained(dropped, dropped.chat(THOUGHT)[1]) == ["<think>\n\n</think>\n\nfour<|im_end|>"]


def test_reasoning_goes_into_the_content_where_the_template_has_no_field(families):
    text = Text(families("chatml"))
    (example,) = text.chat(THOUGHT)
    assert trained(text, example) == [
        "<think>\none and one\n</think>\n\ntwo<|im_end|>",
        "<think>\nwell, well\n</think>\n\nfour<|im_end|>",
    ]


def test_thinking_begun_by_the_prompt(families):
    text = Text(families("deepseek-r1"))
    first, second = text.chat(THOUGHT)
    end = "<｜end▁of▁sentence｜>"
    assert trained(text, first) == [f"one and one\n</think>\n\ntwo{end}"]
    assert trained(text, second) == [f"well, well\n</think>\n\nfour{end}"]
    assert second.ids[: len(text.prompt(THOUGHT[:3]))].tolist() == text.prompt(THOUGHT[:3])
    with pytest.raises(DataError, match="holds no reasoning, but the model is served with its thinking already begun"):
        text.chat(TWO)


def test_reasoning_a_template_leaves_out_is_an_error(families):
    drops = families("qwen3").chat_template.replace("reasoning_content.strip('\\n')", "''")
    assert drops != families("qwen3").chat_template
    tokenizer = Tokenizer(families("qwen3").backend, config=families("qwen3").config, chat_template=drops)
    with pytest.raises(DataError, match="holds reasoning, but the model's chat template leaves it out"):
        Text(tokenizer).chat(THOUGHT)


def test_thinking_switched_off_for_both_sides(families):
    text = Text(families("qwen3"), variables={"enable_thinking": False})
    (example,) = text.chat(TWO[:2])
    assert trained(text, example) == ["도착하지 않았어요.<|im_end|>"]
    assert text.tokenizer.decode(text.prompt(TWO[:1]), skip_special=False).endswith("<think>\n\n</think>\n\n")


# -- tools ----------------------------------------------------------------------------------------------------------

TOOLS = [
    {"name": "get_weather", "description": "weather of a city", "parameters": {"type": "object", "properties": {}}}
]
CALLS = [
    user("날씨 in Seoul?"),
    {"role": "function_call", "content": '{"name": "get_weather", "arguments": {"city": "Seoul"}}'},
    {"role": "observation", "content": '{"sky": "카드"}'},
    says("Fine."),
]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("qwen2.5", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seoul"}}\n</tool_call><|im_end|>'),
        ("qwen3", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seoul"}}\n</tool_call><|im_end|>'),
        ("llama3.1", '{"name": "get_weather", "parameters": {"city": "Seoul"}}<|eot_id|>'),
        ("mistral", '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Seoul"}, "id": "call00100"}]</s>'),
    ],
)
def test_calls_are_trained_on_and_results_are_not(families, oracles, name, call):
    text = Text(families(name))
    examples = text.chat(CALLS, TOOLS)
    said = [run for example in examples for run in trained(text, example)]
    assert said[0].removeprefix("<think>\n\n</think>\n\n").replace("[TOOL_CALLS] [", "[TOOL_CALLS][") == call
    assert len(said) == 2 and said[1].removeprefix("<think>\n\n</think>\n\n").startswith("Fine.")
    assert not any("카드" in run for run in said)
    turns = text.segments(CALLS, TOOLS)
    assert any("카드" in turn.text and not turn.trained_on for turn in turns)
    for end in (1, 3):
        prompt = text.prompt(CALLS[:end], TOOLS)
        assert any(example.ids[: len(prompt)].tolist() == prompt for example in examples)


def test_calls_in_minis_own_format():
    text = Text(MINI)
    (example,) = text.chat(CALLS, TOOLS)
    whole = MINI.decode(example.ids, skip_special=False)
    assert whole == (
        '<|system|>Tools: [{"type": "function", "function": {"name": "get_weather", "description": "weather of a city", '
        '"parameters": {"type": "object", "properties": {}}}}]<|end|><|user|>날씨 in Seoul?<|end|><|assistant|><|tool|>'
        '{"name": "get_weather", "arguments": {"city": "Seoul"}}<|end|><|tool|>{"sky": "카드"}<|end|><|assistant|>Fine.'
        "<|end|>"
    )
    assert trained(text, example) == [
        '<|tool|>{"name": "get_weather", "arguments": {"city": "Seoul"}}<|end|>',
        "Fine.<|end|>",
    ]


# -- raw text -------------------------------------------------------------------------------------------------------


def test_raw_text_is_a_document_with_its_end():
    example = Text(MINI).raw("ab<|end|>")
    assert example.ids.tolist() == [*MINI.encode("ab<|end|>"), 0]
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example) - 1)


@given(st.text(max_size=60), st.integers(2, 9))
def test_pieces_hold_every_token_once(text, length):
    whole = Text(MINI).raw(text)
    pieces = Text(MINI).pieces(text, length)
    assert all(2 <= len(piece) <= length or len(whole) < 2 for piece in pieces)
    targets = [id for piece in pieces for id, weight in zip(piece.ids.tolist(), piece.weights) if weight]
    assert [int(whole.ids[0]), *targets] == whole.ids.tolist()
    for piece, after in pairwise(pieces):
        assert piece.ids[-1] == after.ids[0]  # each piece begins with what its first target is predicted from


def test_raw_text_too_long():
    long = "x" * 20
    with pytest.raises(TooLong, match="has 21 tokens, 8 fit"):
        Text(MINI, length=8).raw(long)
    with pytest.raises(TooLong, match="has 21 tokens, 8 fit"):
        Text(MINI, length=8).raw_pieces(long)
    with pytest.raises(TooLong, match="raw text has none"):
        Text(MINI, length=8, too_long="trim_prompt").raw_pieces(long)
    dropped = Text(MINI, length=8, too_long="drop").raw_pieces(long)
    assert dropped == [] and dropped.dropped == ("too long: 21 tokens, length is 8",)
    assert [len(piece) for piece in Text(MINI, length=8, too_long="split").raw_pieces(long)] == [8, 8, 7]
    assert len(Text(MINI, length=8, too_long="split").raw_pieces("x")) == 1


# -- rows too long --------------------------------------------------------------------------------------------------


def test_error_is_the_default():
    with pytest.raises(TooLong) as caught:
        Text(MINI, length=8).chat([user("a" * 20), says("b")])
    assert (caught.value.num_tokens, caught.value.limit) == (25, 8)
    assert "length=25" in str(caught.value)
    assert len(Text(MINI, length=25).chat([user("a" * 20), says("b")])) == 1
    with pytest.raises(TooLong):
        Text(MINI, length=25, virtual=1).chat([user("a" * 20), says("b")])  # a soft prompt's ids count


def test_drop_says_why():
    dropped = Text(MINI, length=8, too_long="drop").chat([user("a" * 20), says("b")])
    assert dropped == [] and dropped.dropped == ("too long: 25 tokens, length is 8",)


def test_a_row_is_dropped_whole_and_reported_by_its_longest_example(families):
    """Each answer has its own Example here (thinking is dropped from history), and only the second is too long."""
    chat = [*THOUGHT[:3], says("four " * 30)]
    lengths = [len(example) for example in Text(families("qwen3")).chat(chat)]
    assert len(lengths) == 2 and lengths[0] < 60 < lengths[1]
    dropped = Text(families("qwen3"), length=60, too_long="drop").chat(chat)
    assert dropped == [] and dropped.dropped == (f"too long: {lengths[1]} tokens, length is 60",)
    with pytest.raises(TooLong) as caught:
        Text(families("qwen3"), length=20).chat(chat)
    assert caught.value.num_tokens == lengths[1]


def test_split_is_refused_for_a_chat():
    with pytest.raises(TooLong, match="a conversation cut apart loses its question"):
        Text(MINI, length=8, too_long="split").chat([user("a" * 20), says("b")])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=6)), min_size=1, max_size=3),
    st.integers(4, 40),
    st.integers(0, 2),
)
def test_trim_prompt_keeps_whole_answers_and_never_empties_one(turns, length, virtual):
    chat = [message for asked, said in turns for message in (user(asked), says(said))]
    full = Text(MINI).chat(chat)
    text = Text(MINI, length=length, virtual=virtual, too_long="trim_prompt")
    answers = [run for example in full for run in trained(text, example)]
    try:
        examples = text.chat(chat)
    except TooLong as error:
        longest = max(len(MINI.encode(said)) + 1 for _, said in turns)
        assert longest + 1 > length - virtual and "trim_prompt never cuts an answer" in str(error)
        return
    assert all(len(example) + virtual <= length for example in examples)
    assert [run for example in examples for run in trained(text, example)] == answers
    cut = 0
    for example in examples:
        ids = example.ids.tolist()
        first = int(np.flatnonzero(example.weights)[0])
        assert first >= 1
        rest = ids[1:first] if ids[0] == MINI.control_tokens["<|user|>"] else ids[:first]  # the turn's start stays
        wholes = [other.ids.tolist() for other in full]
        assert any(rest == other[at : at + len(rest)] for other in wholes for at in range(len(other)))
        assert ids[0] == MINI.control_tokens["<|user|>"] or first < 4  # no room for one of its words
        cut += not any(ids == other[: len(ids)] for other in wholes)
    assert text.num_trimmed >= cut and bool(text.num_trimmed) == any(len(e) + virtual > length for e in full)


USER = {
    "chatml": "<|im_start|>user\n", "qwen2.5": "<|im_start|>user\n", "phi3": "<|user|>\n", "zephyr": "<|user|>\n",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\n", "llama3.1": "<|start_header_id|>user<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>user\n", "gemma3": "<start_of_turn>user\n",
}  # fmt: skip


@pytest.mark.parametrize("name", USER)
@pytest.mark.parametrize("before", [0, 2])
def test_trim_prompt_keeps_the_start_of_the_turn(families, name, before):
    """Every family: BOS where the model has one, then the user's turn as its template starts it, then the end of its words."""
    tokenizer, chat = families(name), [*TWO[:before], user("hello there, how are you? " * 9), says("fine")]
    whole = Text(tokenizer).chat(chat)[-1].ids.tolist()
    text = Text(tokenizer, length=24 + 9 * (name in ("gemma", "gemma3")), too_long="trim_prompt")
    ids = text.chat(chat)[-1].ids.tolist()
    assert len(ids) == text.length and text.num_trimmed >= 1
    shown, all_of_it = (tokenizer.decode(one, skip_special=False).replace(" ", "") for one in (ids, whole))
    head = (tokenizer.bos_token if whole[0] == tokenizer.bos else "") + USER[name].strip()
    words = shown.removeprefix(head).lstrip()
    assert shown.startswith(head) and all_of_it.endswith(words) and "you?" in words
    assert not words.startswith(USER[name].strip())


def test_trim_prompt_leaves_earlier_turns_whole_or_out():
    """Where the cut falls in an answer given before, what is left begins with the next question."""
    chat = [user("aaaa"), says("bbbbbbbb", train=False), user("cc"), says("d")]
    whole = Text(MINI).chat(chat)[0].ids.tolist()
    asked = whole[whole.index(MINI.encode("c")[0]) - 1 :]
    for room in range(len(asked), len(asked) + 13):
        last = Text(MINI, length=room, too_long="trim_prompt").chat(chat)[-1].ids.tolist()
        assert last == asked
    text = Text(MINI, length=len(asked) + 13, too_long="trim_prompt")
    start = text.chat(chat)[-1].ids.tolist()
    assert start[0] == MINI.control_tokens["<|user|>"] and start[1] == MINI.encode("a")[0] and len(start) == text.length


# -- looking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PLAIN, "marked"])
def test_segments_are_the_example_cut_at_messages(families, name):
    text = Text(families(name))
    chat = TWO if name == "gemma" else [SYSTEM, *TWO]
    examples = text.chat(chat)
    segments = text.segments(chat)
    assert [id for s in segments for id in s.ids] == [id for e in examples for id in e.ids.tolist()]
    assert [s.weight for s in segments for _ in s.ids] == [w for e in examples for w in e.weights.tolist()]
    assert all(s.role == "assistant" for s in segments if s.trained_on)
    if len(examples) == 1:
        asked = "".join(s.text for s in segments if s.role == "user")
        assert "카드가 아직" in asked and "What is the capital?" in asked and "Paris" not in asked


def test_segments_of_mini():
    segments = Text(MINI).segments([SYSTEM, *TWO[2:]])
    assert [(s.role, s.text, s.trained_on) for s in segments] == [
        ("system", "<|system|>You are a helpful assistant.<|end|>", False),
        ("user", "<|user|>What is the capital?<|end|>", False),
        ("assistant", "<|assistant|>", False),
        ("assistant", "Paris.<|end|>", True),
    ]


# -- settings -------------------------------------------------------------------------------------------------------


def test_settings_are_checked():
    with pytest.raises(SettingError, match="too_long: cut is unknown"):
        Text(MINI, too_long="cut")
    with pytest.raises(SettingError, match="reasoning: keep is unknown"):
        Text(MINI, reasoning="keep")
    with pytest.raises(SettingError, match="length: 5 leaves no room"):
        Text(MINI, length=5, virtual=4)


def test_a_text_travels_to_a_worker(families):
    import pickle

    text = Text(families("qwen3"))
    text.chat(TWO)
    again = pickle.loads(pickle.dumps(text))
    assert [e.ids.tolist() for e in again.chat(TWO)] == [e.ids.tolist() for e in text.chat(TWO)]


def test_one_run_renders_one_date(families):
    text = Text(families("llama3.1"), now=datetime(2024, 7, 26))
    assert "Today Date: 26 Jul 2024" in text.decode(text.prompt(TWO[:1]))


def test_default_templates_keep_the_promises(families):
    for tokenizer in (
        Tokenizer(families("llama2").backend, config={"bos_token": "<s>", "eos_token": "</s>"}),
        Tokenizer(families("chatml").backend, config={"eos_token": "<|im_end|>"}),
    ):
        text = Text(tokenizer)
        assert not tokenizer.chat_templates and template_of(tokenizer)
        (example,) = text.chat([SYSTEM, *TWO])
        assert example.ids[: len(text.prompt([SYSTEM, *TWO[:3]]))].tolist() == text.prompt([SYSTEM, *TWO[:3]])
        assert [run.startswith(("도착", "Paris")) for run in trained(text, example)] == [True, True]
        assert (example.ids == tokenizer.bos).sum() == (1 if tokenizer.bos is not None else 0)
