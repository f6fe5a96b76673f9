"""tunesmith teach: rows that say who answered and how, from which a student learns by sft or by soft labels."""

import json

import pytest

import tunesmith
from tunesmith.core.errors import DataError, ModelError, SettingError

WORDS = ["red", "blue", "yes", "no", "up", "down"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with prompts and a teacher that knows the answers: one run of pico."""
    place = tmp_path_factory.mktemp("teach")
    rows = [{"question": f"say {word}", "answer": word} for word in WORDS]
    (place / "answered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "prompts.jsonl").write_text("".join(json.dumps({"question": row["question"]}) + "\n" for row in rows))
    tunesmith.train(
        {"model": "pico", "data": {"path": str(place / "answered.jsonl"), "dev": 0, "test": 0}, "adapter": "full"},
        out=place / "teacher", **{"train.steps": 150, "train.lr": 1e-2, "train.batch_size": 6},
    )  # fmt: skip
    return place


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("data", ["prompts.jsonl", "answered.jsonl"])
def test_the_teachers_answers_are_written_with_how_they_were_made(home, tmp_path, data):
    out = tmp_path / "taught.jsonl"
    told = tunesmith.teach(str(home / "teacher"), str(home / data), out=str(out), max_tokens=12)
    assert told["rows"] == 6 and told["dropped"] == 0
    rows = lines(out)
    assert [row["messages"][-1]["content"] for row in rows] == WORDS
    assert rows[0]["teacher"] == {
        "model": str(home / "teacher"), "temperature": 0.0, "top_p": 1.0, "max_tokens": 12, "seed": 0,
    }  # fmt: skip
    with pytest.raises(SettingError, match="already there"):
        tunesmith.teach(str(home / "teacher"), str(home / data), out=str(out))


def test_a_student_learns_them_by_sft_and_by_soft_labels(home, tmp_path):
    out = tmp_path / "taught.jsonl"
    tunesmith.teach(str(home / "teacher"), str(home / "prompts.jsonl"), out=str(out), max_tokens=12, top=8)
    assert len(lines(out)[0]["teacher_top"]["ids"][0]) == 8
    for method in ("sft", "distill"):
        run = tmp_path / method
        tunesmith.train(
            {"model": "pico", "data": {"path": str(out), "dev": 0, "test": 0}, "method": method, "adapter": "full"},
            out=run, **{"train.steps": 60, "train.lr": 1e-2, "train.batch_size": 6},
        )  # fmt: skip
        steps = [event["figures"] for event in lines(run / "events.jsonl") if event["kind"] == "step"]
        assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]


def test_what_cannot_be_learned_is_dropped_with_the_reason(home, tmp_path):
    out = tmp_path / "taught.jsonl"
    told = tunesmith.teach(
        str(home / "teacher"), str(home / "prompts.jsonl"), out=str(out), max_tokens=12, n=3, temperature=0.01
    )
    assert told["rows"] == 6 and told["dropped"] == 12
    assert {drop["reason"] for drop in lines(tmp_path / "taught-dropped.jsonl")} == {"the same answer again"}
    with pytest.raises(DataError, match="cut at max_tokens"):
        tunesmith.teach(str(home / "teacher"), str(home / "prompts.jsonl"), out=str(tmp_path / "b.jsonl"), max_tokens=1)


def test_soft_labels_from_another_tokenizer_are_refused(home, tmp_path):
    with pytest.raises(ModelError, match="different tokenizers"):
        tunesmith.train(
            {
                "model": "mini", "data": {"path": str(home / "answered.jsonl"), "dev": 0, "test": 0},
                "method": {"distill": {"teacher": str(home / "teacher")}},
            },
            out=tmp_path / "run",
        )  # fmt: skip


def test_columns_of_other_names_are_read_as_in_a_project(home, tmp_path):
    rows = [{"frage": f"say {word}", "antwort": word} for word in WORDS]
    (tmp_path / "fragen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where, out = str(tmp_path / "fragen.jsonl"), tmp_path / "taught.jsonl"
    settings = {"data.columns": {"prompt": "frage"}, "data.shape": "prompts"}
    told = tunesmith.teach(str(home / "teacher"), where, out=str(out), max_tokens=12, **settings)
    assert told["rows"] == 6 and [row["messages"][-1]["content"] for row in lines(out)] == WORDS
    for keys, says in (({"data.dev": 2}, "data.dev is set"), ({"train.steps": 3}, 'no setting "train"')):
        with pytest.raises(SettingError, match=says):
            tunesmith.teach(str(home / "teacher"), where, out=str(tmp_path / "b.jsonl"), **keys)
    with pytest.raises(DataError, match="No prompts are given"):
        tunesmith.teach(str(home / "teacher"), out=str(tmp_path / "b.jsonl"))


def test_rows_that_cannot_be_read_are_dropped_with_the_others(home, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "say red"}\n{"question": ""}\n')
    out = tmp_path / "taught.jsonl"
    told = tunesmith.teach(
        str(home / "teacher"), str(tmp_path / "a.jsonl"), out=str(out), max_tokens=12, **{"data.bad_rows": "drop"}
    )
    assert told["rows"] == 1 and told["dropped"] == 1 and len(lines(tmp_path / "taught-dropped.jsonl")) == 1


def test_from_the_command_line_the_file_and_its_columns_stand_side_by_side():
    from tunesmith.cli.command import API, parse
    from tunesmith.core import source

    function = source.function(API / "teach.py", "teach")
    places, keys, _ = parse(function, ["runs/a", "q.jsonl", "data.columns.prompt=frage", "n=2"])
    assert places == ["runs/a", "q.jsonl"] and keys == {"data": {"columns": {"prompt": "frage"}}, "n": "2"}


def test_a_teacher_with_a_soft_prompt_answers(home, tmp_path):
    tunesmith.train(
        {"model": "pico", "data": {"path": str(home / "answered.jsonl"), "dev": 0, "test": 0}},
        adapter={"prompt": {"virtual": 2}}, out=tmp_path / "soft", **{"train.steps": 2, "train.batch_size": 6},
    )  # fmt: skip
    out = tmp_path / "taught.jsonl"
    told = tunesmith.teach(
        str(tmp_path / "soft"), str(home / "prompts.jsonl"), out=str(out), n=2, temperature=1.0, max_tokens=40
    )
    assert told["prompts"] == 6 and told["rows"] + told["dropped"] == 12
