"""Rows that call tools or think before they answer: what is compared is what the model must write, without the thinking."""

import pytest

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.evals.files import read_evaluation
from tunesmith.evals.likelihood import evaluate_likelihood
from tunesmith.evals.run import as_question, evaluate
from tunesmith.metrics.accuracy import Accuracy
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.json_field import JsonField
from tunesmith.model.generate import Answer
from tunesmith.prompts.shots import answer_of, question_of, with_examples
from tunesmith.text.encode import Text
from tunesmith.text.messages import words_of

TOOLS = [{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}]


def calling(city, number, name="weather"):
    call = {"type": "function", "function": {"name": name, "arguments": {"city": city}}}
    asked = {"role": "user", "content": f"How warm is it in {city}?"}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    return {"messages": [asked, said], "tools": TOOLS, "id": f"t{number}", "origin": f"calls.jsonl:{number}"}


def thinking(number, *, inline):
    asked = {"role": "user", "content": f"Half of {2 * number}?"}
    content = {"content": f"<think>{number} twice is {2 * number}</think>{number}"}
    apart = {"content": str(number), "reasoning_content": f"{number} twice is {2 * number}"}
    said = {"role": "assistant", **(content if inline else apart)}
    return {"messages": [asked, said], "id": f"r{number}", "origin": f"sums.jsonl:{number}"}


@pytest.fixture
def scripted(monkeypatch):
    """scripted([ids, ids], finish="stop"): what the model answers, in the order of the prompts."""

    def script(answers, finish="stop"):
        def generate(model, prompts, *, on_answer, **_):
            for number, ids in enumerate(answers):
                shown = model.tokenizer.decode(ids[:-1] if finish == "stop" else ids)
                on_answer(number, Answer(list(ids), shown, finish, [0.0] * len(ids), [], len(prompts[number]), 0.1))

        monkeypatch.setattr("tunesmith.model.generate.generate", generate)

    return script


def perfect(text, row):
    """The ids that training on the row teaches, after its prompt."""
    (example,) = text.chat(row["messages"], row.get("tools"))
    return example.ids[len(text.prompt(row["messages"][:-1], row.get("tools"))) :].tolist()


def words(text, said):
    return [*text.tokenizer.encode(said), text.end_of_turn]


def scored(pico, text, rows, metrics, folder, **more):
    found = evaluate(pico, text, rows, metrics, folder=folder, name="dev", max_tokens=40, **more)
    return found, read_evaluation(folder / "dev").rows


def test_a_perfect_tool_call_scores_all_and_an_empty_answer_nothing(pico, text, tmp_path, scripted):
    rows = [calling(city, i) for i, city in enumerate(["부산", "Oslo", "Lima"])]
    metrics = {"exact_match": ExactMatch(), "json_field": JsonField(), "name": Accuracy(field="name")}
    scripted([perfect(text, row) for row in rows])
    found, lines = scored(pico, text, rows, metrics, tmp_path / "perfect")
    assert {name: one["value"] for name, one in found["metrics"].items()} == dict.fromkeys(metrics, 1.0)
    assert lines[0]["answer"] == lines[0]["prediction"] == '{"name": "weather", "arguments": {"city": "부산"}}'
    scripted([[text.end_of_turn]] * 3)
    found, _ = scored(pico, text, rows, metrics, tmp_path / "empty")
    assert {name: one["value"] for name, one in found["metrics"].items()} == dict.fromkeys(metrics, 0.0)
    scripted([perfect(text, calling("Rome", i)) for i in range(3)])
    found, _ = scored(pico, text, rows, metrics, tmp_path / "elsewhere")
    assert (found["metrics"]["json_field"]["value"], found["metrics"]["name"]["value"]) == (0.0, 1.0)
    assert found["metrics"]["json_field"]["extra"]["per_field"]["arguments"]["right"] == 0


def test_words_before_a_call_are_read_with_inside_text(pico, text, tmp_path, scripted):
    row = calling("Oslo", 1)
    row["messages"][1]["content"] = "Let me look. "
    assert as_question(row, text)["answer"].startswith('Let me look. {"name"')
    with pytest.raises(DataError, match=r"cannot read its answer[\s\S]*inside_text: true"):
        scored(pico, text, [row], {"json_field": JsonField()}, tmp_path)
    scripted([perfect(text, row)])
    found, _ = scored(pico, text, [row], {"json_field": JsonField(inside_text=True)}, tmp_path)
    assert found["metrics"]["json_field"]["value"] == 1.0


@pytest.mark.parametrize("inline", [True, False])
def test_thinking_is_kept_apart_and_not_scored(pico, text, tmp_path, scripted, inline):
    rows = [thinking(number, inline=inline) for number in (2, 12, 7)]
    scripted([perfect(text, row) for row in rows])
    found, lines = scored(pico, text, rows, {"exact_match": ExactMatch()}, tmp_path)
    assert found["metrics"]["exact_match"]["value"] == 1.0 and found["thinking"] == {"answers": 3, "unfinished": 0}
    assert [(line["answer"], line["prediction"]) for line in lines] == [("2", "2"), ("12", "12"), ("7", "7")]
    assert lines[1]["thinking"] == "12 twice is 24"
    again, _ = scored(pico, text, rows, {"exact_match": ExactMatch()}, tmp_path)  # kept answers keep their thinking
    assert again["cost"]["asked_now"] == 0 and again["thinking"] == found["thinking"]
    scripted([words(text, str(number)) for number in (2, 12, 7)])  # an answer without thinking is right, too
    found, _ = scored(pico, text, rows, {"exact_match": ExactMatch()}, tmp_path / "bare")
    assert found["metrics"]["exact_match"]["value"] == 1.0 and "thinking" not in found


def test_thinking_that_never_ended_is_no_answer(pico, text, tmp_path, scripted):
    row = thinking(4, inline=False)
    ids = perfect(text, row)
    scripted([ids[: ids.index(pico.tokenizer.id_of("<|/think|>"))]], finish="length")
    found, (line,) = scored(pico, text, [row], {"exact_match": ExactMatch()}, tmp_path)
    assert (line["prediction"], line["thinking"]) == ("", "4 twice is 8")
    assert found["thinking"] == {"answers": 1, "unfinished": 1} and found["metrics"]["exact_match"]["value"] == 0.0


def test_said_reads_thinking_in_words_begun_by_the_prompt_and_before_a_stop(text):
    def said(words, prompt="", cut=0):
        return text.said(text.tokenizer.encode(words), text.tokenizer.encode(prompt), cut)

    assert said("<think>\n1+1\n</think>\n\n2") == said("1+1</think>2", "<think>\n") == ("1+1", "2")
    assert said("1+1 is", "<|assistant|><think>\n") == ("1+1 is", "") and said("<think>1+1 is") == ("1+1 is", "")
    assert said("2", "<think>\n\n</think>\n\n") == said("2") == ("", "2")
    assert said("2, no more", cut=len(", no more")) == ("", "2")
    ids = [text.tokenizer.id_of("<|think|>"), *text.tokenizer.encode("hm"), text.tokenizer.id_of("<|/think|>")]
    assert text.said([*ids, *text.tokenizer.encode("2\n\nUser:")], (), len("\n\nUser:")) == ("hm", "2")


def test_the_likeliest_of_calls_is_measured_as_the_model_writes_them(pico, text, tmp_path):
    rows = [calling("부산", i, name="weather" if i % 2 else "train") for i in range(4)]
    labels = {as_question(row, text)["answer"]: row["messages"][1] for row in rows}
    found = evaluate_likelihood(pico, text, rows, labels, {"exact": ExactMatch()}, folder=tmp_path, name="chosen")
    lines = read_evaluation(tmp_path / "chosen").rows
    assert {line["prediction"] for line in lines} <= set(labels) == {line["answer"] for line in lines}
    assert found["likelihood"]["labels"] == 2 and found["metrics"]["exact"]["value"] == 0.5


def test_references_of_preferences_and_of_rated_answers():
    user, good = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
    assert as_question({"messages": [user, good], "label": True})["answer"] == "yo"
    assert as_question({"messages": [user, good], "label": False}) == {"messages": [user], "label": False}
    thought = {"role": "assistant", "content": "<think>hm</think>yo"}
    assert as_question({"messages": [user], "chosen": [thought], "rejected": [good]})["answer"] == "yo"


def test_examples_in_the_prompt_keep_their_calls(text):
    shown, question = calling("Oslo", 1), question_of(calling("Lima", 2))
    assert answer_of(shown) == words_of(shown["messages"][1]) == '{"name": "weather", "arguments": {"city": "Oslo"}}'
    ids = text.prompt(with_examples([shown], question), TOOLS)
    assert '<|tool|>{"name": "weather", "arguments": {"city": "Oslo"}}' in text.tokenizer.decode(
        ids, skip_special=False
    )
    old = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}}
    assert words_of(old) == '{"name": "add", "arguments": {"a": 1}}'


def test_prompts_too_long_go_as_in_training(pico, text, rows, tmp_path, monkeypatch):
    asked = []

    def generate(model, prompts, *, on_answer, **_):
        asked.extend(prompts)
        for number, prompt in enumerate(prompts):
            on_answer(number, Answer([5], "x", "length", [0.0], [], len(prompt), 0.1))

    monkeypatch.setattr("tunesmith.model.generate.generate", generate)
    for place in (1, 4):
        rows[place]["messages"][0]["content"] = "x" * 600 + rows[place]["messages"][0]["content"]
    whole = [text.prompt(row["messages"][:1]) for row in rows]
    room = pico.context - 40
    found, lines = scored(pico, text, rows, {"exact": ExactMatch()}, tmp_path / "trim", too_long="trim_prompt")
    assert found["too_long"] == {"policy": "trim_prompt", "trimmed": 2} and found["n"] == 6
    assert asked == [text.shortened(ids, room) for ids in whole]
    assert [len(ids) for ids in asked].count(room) == 2 and lines[1]["prompt_tokens"] == room
    assert "Where is bb?" in text.decode(asked[1])  # the end of the question, not its beginning
    found, lines = scored(pico, text, rows, {"exact": ExactMatch()}, tmp_path / "drop", too_long="drop")
    assert found["too_long"] == {"policy": "drop", "left_out": 2} and found["n"] == 4
    assert [line["id"] for line in lines] == [rows[place]["id"] for place in (0, 2, 3, 5)]
    with pytest.raises(SpaceError, match="2 of 6 prompts"):
        scored(pico, text, rows, {"exact": ExactMatch()}, tmp_path / "error")
    with pytest.raises(SpaceError, match="2 of 2 prompts"):
        scored(pico, text, [rows[1], rows[4]], {"exact": ExactMatch()}, tmp_path / "none", too_long="drop")


def test_what_is_asked_under_trim_prompt_is_what_was_learned(pico):
    messages = [{"role": "user", "content": "abcdefgh" * 20}, {"role": "assistant", "content": "yes"}]
    (example,) = Text(pico.tokenizer, length=60, too_long="trim_prompt").chat(messages)
    prompt = Text(pico.tokenizer).prompt(messages[:1])
    answer = perfect(Text(pico.tokenizer), {"messages": messages})
    shorter = Text(pico.tokenizer).shortened(prompt, 60 - len(answer))
    assert len(prompt) > len(shorter) and example.ids.tolist() == [*shorter, *answer]
