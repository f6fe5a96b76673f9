import pytest

from tunesmith.core.errors import DataError
from tunesmith.text.messages import read_messages, read_tools, split_reasoning

USER = {"role": "user", "content": "hi"}


def only(message):
    return read_messages([USER, message])[1]


def test_weights():
    assert only({"role": "assistant", "content": "a"}).weight == 1.0
    assert only({"role": "assistant", "content": "a", "train": False}).weight == 0.0
    assert only({"role": "assistant", "content": "a", "train": True, "weight": 0.25}).weight == 0.25
    assert only({"role": "assistant", "content": "a", "weight": 3}).message == {"role": "assistant", "content": "a"}
    assert read_messages([USER])[0].weight == 0.0
    assert read_messages([{**USER, "train": False}])[0].weight == 0.0


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({"role": "assistant", "content": "a", "weight": -1}, r"messages\[1\]\.weight is -1"),
        ({"role": "assistant", "content": "a", "weight": float("nan")}, "weight is nan"),
        ({"role": "assistant", "content": "a", "weight": True}, "weight is True"),
        ({"role": "assistant", "content": "a", "train": "no"}, "train is 'no'"),
        ({"role": "user", "content": "a", "train": True}, "is the user's and asks to be trained on"),
        ({"content": "a"}, 'has no "role". Found: content'),
        ({"role": "assistant"}, 'has no "content"'),
        ({"role": "assistant", "content": 3}, r"messages\[1\]\.content is a int"),
        ("hi", "is a str"),
        ({"role": "assistant", "tool_calls": [{"x": 1}]}, "names no function"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "is not JSON"),
        ({"role": "assistant", "tool_calls": 3}, "tool_calls is a int"),
    ],
)
def test_mistakes_name_the_message(message, found):
    with pytest.raises(DataError, match=found):
        only(message)


@pytest.mark.parametrize("messages", [[], "hi", {"role": "user"}, None])
def test_a_conversation_is_a_list(messages):
    with pytest.raises(DataError, match="messages is"):
        read_messages(messages)


def test_parts_of_text_are_joined_and_images_refused_by_name():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]
    assert only({"role": "user", "content": parts}).message["content"] == "abc"
    for kind in ("image_url", "image", "input_audio", "video", "file"):
        with pytest.raises(DataError, match=rf"messages\[1\]\.content holds a part of type {kind}\."):
            only({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": kind, kind: {}}]})


def test_tool_calls_of_every_shape_become_one():
    expected = [{"id": "call00100", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    shapes = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"role": "assistant", "tool_calls": '[{"name": "add", "arguments": {"a": 1}}]'},
        {"role": "assistant", "function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"role": "function_call", "content": '{"name": "add", "arguments": {"a": 1}}'},
    ]
    for shape in shapes:
        turn = only(shape)
        assert turn.role == "assistant" and turn.weight == 1.0 and turn.message["tool_calls"] == expected
    assert len(expected[0]["id"]) == 9 and expected[0]["id"].isalnum()  # what Mistral's template insists on
    given = only({"role": "assistant", "tool_calls": [{"id": "xyz", "function": {"name": "f", "arguments": ""}}]})
    assert given.message["tool_calls"][0] == {
        "id": "xyz",
        "type": "function",
        "function": {"name": "f", "arguments": {}},
    }


def test_results_answer_the_calls_in_order():
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]
    turns = read_messages(
        [
            USER,
            {"role": "assistant", "tool_calls": calls},
            {"role": "observation", "content": "1"},
            {"role": "function", "content": "2"},
        ]
    )
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert [turn.message["tool_call_id"] for turn in turns[2:]] == ["call00100", "call00101"]
    assert turns[2].weight == 0.0


def test_tools():
    add = {"name": "add", "parameters": {"type": "object"}}
    wrapped = [{"type": "function", "function": add}]
    for given in ([add], wrapped, '[{"name": "add", "parameters": {"type": "object"}}]', add):
        assert read_tools(given) == wrapped
    assert read_tools(None) is read_tools([]) is read_tools("") is None
    with pytest.raises(DataError, match="tools is not JSON"):
        read_tools("[{")
    with pytest.raises(DataError, match="tools is not a list of objects"):
        read_tools([1])
    with pytest.raises(DataError, match="something that is not JSON"):
        read_tools([{"name": object()}])


def test_reasoning():
    assert split_reasoning("<think>\n1+1\n</think>\n\n2") == ("1+1", "2")
    assert split_reasoning("thinking aloud</think>so: 2") == ("thinking aloud", "so: 2")  # <think> stood in the prompt
    assert split_reasoning("<|think|>a<|/think|>b") == ("a", "b")
    assert split_reasoning("<think></think>b") == ("", "b")
    assert split_reasoning("I think so") is None and split_reasoning("the tag <think> opens") is None
    for field in ("reasoning", "thinking", "reasoning_content"):
        message = only({"role": "assistant", "content": "2", field: "1+1"}).message
        assert message == {"role": "assistant", "content": "2", "reasoning_content": "1+1"}
