"""What an encoder-decoder writes is scored like any answer."""

from tunesmith.evals.files import read_evaluation
from tunesmith.evals.written import evaluate_written
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.model.load import load
from tunesmith.model.seq2seq import answers
from tunesmith.objectives.seq2seq import Seq2seq


def test_each_row_is_read_written_and_scored(tmp_path):
    model = load("pico-t5", kind="seq2seq", seed=1)
    said = answers(model, ["to x: cat", "to x: a dog"], max_tokens=5)
    rows = [
        {"text": "cat", "text2": said[0], "id": "1", "origin": "a:1"},
        {"messages": [{"role": "user", "content": "a dog"}, {"role": "assistant", "content": "never said"}], "id": "2"},
    ]
    read = Seq2seq(prefix="to x: ").texts
    summary = evaluate_written(
        model, rows, {"exact_match": ExactMatch()}, read=read, folder=tmp_path, name="t", max_tokens=5
    )
    lines = read_evaluation(tmp_path / "t").rows
    assert [line["prediction"] for line in lines] == said and [line["answer"] for line in lines] == [
        said[0],
        "never said",
    ]
    assert lines[0]["prompt"] == "to x: cat" and summary["metrics"]["exact_match"]["value"] == 0.5
