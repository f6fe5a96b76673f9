from collections import Counter

import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.data.shapes import SHAPES, BadRow, canonical, recognise, templates


def chat(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("record", "name", "messages"),
    [
        ({"instruction": "Add.", "input": "1+1", "output": "2"}, "instruction", chat("Add.\n\n1+1", "2")),
        ({"instruction": "Hi", "input": "", "output": "Yo"}, "instruction", chat("Hi", "Yo")),
        ({"instruction": "Hi", "output": "Yo", "text": "Hi Yo"}, "instruction", chat("Hi", "Yo")),
        ({"prompt": "Hi", "completion": "Yo"}, "prompt_completion", chat("Hi", "Yo")),
        ({"question": "Hi", "answer": "Yo", "label": 1}, "question_answer", chat("Hi", "Yo")),
        ({"Q": "Hi", "A": "Yo"}, "question_answer", chat("Hi", "Yo")),
        ({"질문": "왜?", "답변": "그냥"}, "question_answer", chat("왜?", "그냥")),
        ({"instruction": "Hi", "context": "We", "response": "Yo"}, "named", chat("Hi\n\nWe", "Yo")),
        ({"input": "Hi", "output": "Yo"}, "named", chat("Hi", "Yo")),
        ({"messages": chat("Hi", "Yo"), "prompt": "Hi"}, "messages", chat("Hi", "Yo")),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
            "sharegpt",
            chat("Hi", "Yo"),
        ),
        (
            {"instruction": "Now?", "output": "No", "history": [["Hi", "Yo"]], "system": "Be short."},
            "instruction",
            [{"role": "system", "content": "Be short."}, *chat("Hi", "Yo"), *chat("Now?", "No")],
        ),
    ],
)
def test_shapes_of_conversations(record, name, messages):
    shape = recognise(list(record), where="a:1")
    assert (shape.name, shape.kind) == (name, "chat")
    assert canonical(record, shape)["messages"] == messages
    assert name in str(shape)


def test_text_and_label():
    shape = recognise(["id", "document", "label"], where="a:1")
    assert canonical({"id": 7, "document": "좋아요", "label": 1}, shape) == {
        "text": "좋아요", "label": 1, "columns": {"id": 7},
    }  # fmt: skip
    assert recognise(["path", "text"], where="a:1").kind == "text"
    assert recognise(["text", "label"], where="a:1", shape="text").kind == "text"


@pytest.mark.parametrize(
    ("record", "reason"),
    [({"text": " ", "label": 1}, "empty text"), ({"text": "a", "label": ""}, "empty label"), ({"text": "a", "label": {"b": 1}}, "wrong type"),
     ({"text": "a"}, "missing field")],
)  # fmt: skip
def test_texts_and_labels_that_cannot_be_used(record, reason):
    with pytest.raises(BadRow) as caught:
        canonical(record, recognise(["text", "label"], where="a:1"))
    assert caught.value.reason == reason


def test_columns_that_are_not_used_are_kept():
    shape = recognise(["Q", "A", "label"], where="a:1")
    assert canonical({"Q": "q", "A": "a", "label": "0"}, shape)["columns"] == {"label": "0"}


def test_columns_can_be_named():
    shape = recognise(["question", "reply"], where="a:1", named={"answer": "reply"})
    assert canonical({"question": "q", "reply": "a"}, shape)["messages"] == chat("q", "a")
    nested = {"instruction": "Do", "instances": [{"input": "this", "output": "done"}]}
    shape = recognise(list(nested), where="a:1", named={"output": "instances.0.output", "input": "instances.0.input"})
    assert canonical(nested, shape)["messages"] == chat("Do\n\nthis", "done")
    # naming one of several candidates settles which is meant
    shape = recognise(
        ["question", "answer", "prompt", "completion"],
        where="a:1",
        named={"prompt": "question", "answer": "completion"},
    )
    assert (shape.columns["prompt"], shape.columns["answer"]) == ("question", "completion")
    shape = recognise(["title", "body", "label"], where="a:1", named={"text": "title"})
    assert dict(shape.columns) == {"text": "title", "label": "label"}


def test_templates_make_texts_of_columns():
    made = templates(prompt="{{ text }}?", answer='{"intent": {{ category | tojson }}}', system="분류하라")
    record = {"text": "where", "category": "배송"}
    row = canonical(record, recognise(list(record), where="a:1", templates=made))
    assert row["messages"] == [{"role": "system", "content": "분류하라"}, *chat("where?", '{"intent": "배송"}')]
    assert row["columns"] == record
    with pytest.raises(BadRow, match="'category' is undefined. Found: text"):
        canonical({"text": "x"}, recognise(["text"], where="a:1", templates=made))
    with pytest.raises(SettingError, match="data.prompt is not a template"):
        templates(prompt="{{ text")
    # a template for one side leaves the other to the columns
    row = canonical(record, recognise(list(record), where="a:1", templates=templates(prompt="Which? {{ text }}")))
    assert row["messages"] == chat("Which? where", "배송")


def test_templates_cannot_reach_out():
    reach = templates(prompt="{{ ''.__class__.__mro__ }}", answer="x")
    with pytest.raises(BadRow, match="unsafe"):
        canonical({"a": "b"}, recognise(["a"], where="a:1", templates=reach))


def test_a_system_template_goes_before_conversations_that_have_none():
    made = templates(system="Be kind.")
    shape = recognise(["messages"], where="a:1", templates=made)
    assert canonical({"messages": chat("Hi", "Yo")}, shape)["messages"][0] == {"role": "system", "content": "Be kind."}
    own = [{"role": "system", "content": "Be rude."}, *chat("Hi", "Yo")]
    assert canonical({"messages": own}, shape)["messages"] == own


@pytest.mark.parametrize(
    ("found", "settings", "says"),
    [
        (["question", "reply"], {}, r'faq:812 has no "answer". Found: question, reply.\n.*data.columns.answer: reply'),
        (["question", "reply", "id"], {}, r"data.columns.answer: NAME"),
        (["output", "who"], {}, r'has no "instruction"'),
        (["title", "label"], {}, r'has no "text".*\n.*data.columns.text: title'),
        (["premise", "context"], {}, r"no shape I know. Found: premise, context"),
        (
            ["prompt", "chosen"],
            {"shape": "preference"},
            r"a:1|not preference. Found: prompt, chosen.*\n.*chosen and rejected",
        ),
        (["messages", "conversations"], {}, r"2 ways: messages; conversations"),
        (["question", "answer", "prompt", "completion"], {}, r"2 ways: prompt -> completion; question -> answer"),
        (["question", "질문", "answer"], {}, r"2 ways: question -> answer; 질문 -> answer"),
        (
            ["question", "answer"],
            {"named": {"answer": "anser"}},
            r'no column "anser". Found.*\nDid you mean: data.columns.answer: answer',
        ),
        (["question", "answer"], {"shape": "messages"}, r"as messages"),
        ([], {}, "no columns"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_columns(found, settings, says):
    with pytest.raises(DataError, match=says):
        recognise(found, where="faq:812", **settings)


def test_unknown_words_are_refused_with_the_nearest():
    with pytest.raises(Exception, match="Did you mean: answer"):
        recognise(["q", "a"], where="a:1", named={"anwser": "a"})
    with pytest.raises(Exception, match="Did you mean: messages"):
        recognise(["messages"], where="a:1", shape="mesages")
    assert len(SHAPES) == 14


TOOLS = '[{"name": "weather", "description": "", "parameters": {"type": "object"}}]'


def test_tool_calls_of_sharegpt():
    record = {
        "conversations": [
            {"from": "human", "value": "Seoul?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "서울"}}'},
            {"from": "observation", "value": '{"sky": "clear"}'},
            {"from": "gpt", "value": "Clear."},
        ],
        "tools": TOOLS,
    }
    row = canonical(record, recognise(list(record), where="a:1"))
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "tool", "assistant"]
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "서울"}}}
    assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert row["tools"] == [
        {"type": "function", "function": {"name": "weather", "description": "", "parameters": {"type": "object"}}}
    ]


def test_messages_keep_what_training_reads_and_count_the_rest():
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "time": 3},
        {"role": "assistant", "content": "x", "train": False, "name": "bot"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "y", "weight": 0.5},
    ]
    notes = Counter()
    row = canonical({"messages": messages}, recognise(["messages"], where="a:1"), notes=notes)
    assert row["messages"] == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "x", "train": False, "name": "bot"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "y", "weight": 0.5},
    ]
    assert notes == {"empty system messages left out": 1, 'message key "time" not used': 1}


@pytest.mark.parametrize(
    ("messages", "reason", "detail"),
    [
        ("hello", "not JSON", "messages: expected JSON"),
        ({"role": "user"}, "wrong type", "messages: expected a list of messages, got an object"),
        ([], "no messages", "an empty list"),
        (["hi"], "wrong type", r"messages\[0\]: expected an object"),
        ([{"content": "x"}], "missing field", r"messages\[0\].role: missing. Found: content"),
        ([{"role": "robot", "content": "x"}], "unknown role", 'got "robot"'),
        ([{"role": "user", "content": 3}], "wrong type", r"messages\[0\].content: expected text, got a number 3"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "image_url part", "only text can be trained on"),
        ([*chat("a", "b"), {"role": "user", "content": " "}], "empty prompt", r"messages\[2\].content: empty"),
        (chat("a", ""), "empty answer", r"messages\[1\].content: empty"),
        ([{"role": "user", "content": "a"}], "nothing to train on", "no assistant message"),
        ([{**message, "train": False} for message in chat("a", "b")], "nothing to train on", "trained on"),
        ([{**message, "weight": 0} for message in chat("a", "b")], "nothing to train on", "trained on"),
        ([{**message, "weight": -1} for message in chat("a", "b")], "wrong type", "a number >= 0"),
        ([{**message, "train": "no"} for message in chat("a", "b")], "wrong type", "true or false"),
        ([*chat("a", "b"), {"role": "function_call", "content": "{"}], "not JSON", r"messages\[2\]"),
        (
            [*chat("a", "b"), {"role": "function_call", "content": "[1]"}],
            "wrong type",
            "a call with name and arguments",
        ),
    ],
)
def test_messages_that_cannot_be_used(messages, reason, detail):
    with pytest.raises(BadRow, match=detail) as caught:
        canonical({"messages": messages}, recognise(["messages"], where="a:1"))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"question": "q"}, "missing field", 'has no "answer". Found: question'),
        ({"question": "q", "answer": None}, "empty answer", "answer: empty"),
        ({"question": " ", "answer": "a"}, "empty prompt", "question: empty"),
        ({"question": "q", "answer": 4}, "wrong type", "answer: expected text, got a number 4"),
        ({"question": "q", "answer": ["4"]}, "wrong type", r'answer: expected text, got a list \["4"\]'),
        ({"question": "q", "answer": "x" * 0 or {"a": "b" * 99}}, "wrong type", r"got an object .{40}$"),
    ],
)
def test_pairs_that_cannot_be_used(record, reason, detail):
    with pytest.raises(BadRow, match=detail) as caught:
        canonical(record, recognise(["question", "answer"], where="a:1"))
    assert caught.value.reason == reason


def test_prompts_without_answers_are_read_when_none_is_needed():
    shape = recognise(["question", "answer"], where="a:1")
    row = canonical({"question": "q", "answer": None}, shape, need_answer=False)
    assert row["messages"] == [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"prefix": "a", "middle": "b", "suffix": "c"}, {"prefix": "a", "middle": "b", "suffix": "c"}),
        ({"prompt": "a", "suffix": "c", "canonical_solution": " b"}, {"prefix": "a", "middle": " b", "suffix": "c"}),
        ({"prefix": "", "middle": "b", "suffix": "c"}, {"prefix": "", "middle": "b", "suffix": "c"}),
        ({"sentence1": "a", "sentence2": "b"}, {"text": "a", "text2": "b"}),
        ({"sentence1": "a", "sentence2": "b", "score": "4.5"}, {"text": "a", "text2": "b", "score": 4.5}),
        ({"query": "a", "positive": "b", "negative": "c"}, {"text": "a", "text2": "b", "negatives": ["c"]}),
        ({"query": "a", "pos": ["b"], "neg": ["c", "d"]}, {"text": "a", "text2": "b", "negatives": ["c", "d"]}),
        ({"premise": "a", "hypothesis": "b", "gold_label": "neutral"}, {"text": "a", "text2": "b", "label": "neutral"}),
        ({"문장1": "a", "문장2": "b"}, {"text": "a", "text2": "b"}),
        ({"texts": ["a", "b"]}, {"texts": ["a", "b"]}),
        ({"text": "a", "label": ["x", "y"]}, {"text": "a", "label": ["x", "y"]}),
    ],
)  # fmt: skip
def test_gaps_pairs_groups_and_several_labels(record, row):
    assert canonical(record, recognise(list(record), where="a:1")) == row


def test_a_label_of_a_pair_is_a_score_when_it_is_named_so():
    record = {"sentence1": "a", "sentence2": "b", "label": 3.2, "labels": {"real": 3.1}}
    assert recognise(list(record), where="a:1").kind == "text+label"
    shape = recognise(list(record), where="a:1", named={"score": "label"})
    assert shape.kind == "pair" and canonical(record, shape)["score"] == 3.2
    shape = recognise(list(record), where="a:1", named={"score": "labels.real"})
    assert canonical(record, shape)["score"] == 3.1
    assert recognise(list(record), where="a:1", kinds=("pair",)).kind == "pair"


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({"prefix": "a", "middle": " ", "suffix": "c"}, "middle: empty"),
        ({"prefix": " ", "middle": "b", "suffix": ""}, "prefix and suffix: empty"),
        ({"sentence1": "a", "sentence2": ""}, "sentence2: empty"),
        ({"query": "a", "pos": ["b", "c"]}, "pos: expected text, got a list"),
        ({"texts": ["a"]}, "texts: 1, at least 2"),
        ({"texts": ["a", " "]}, "texts: one is empty"),
        ({"texts": "a"}, "texts: expected a list of texts"),
    ],
)
def test_gaps_pairs_and_groups_that_cannot_be_used(record, detail):
    with pytest.raises(BadRow, match=detail):
        canonical(record, recognise(list(record), where="a:1"))


def test_a_table_read_as_text_is_told():
    with pytest.raises(DataError, match="data.format: tsv"):
        recognise(["text"], where="a.txt:1", named={"text": "column_3"})
