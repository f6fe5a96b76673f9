"""reward: a reward model's numbers as a metric, alone or against the reference."""

import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.shelf import shelf
from tunesmith.evals.given import Given
from tunesmith.evals.reward import RewardModel
from tunesmith.evals.run import evaluate
from tunesmith.metrics.reward import Reward
from tunesmith.model.load import load
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text

ROWS = [
    {"id": str(i), "origin": f"a:{i}", "messages": [{"role": "user", "content": asked}], "answer": answer}
    for i, (asked, answer) in enumerate([("1+1?", "2"), ("Say yes.", "yes"), ("부산?", "항구 도시입니다.")])
]


def longer(rows, texts):
    """A reward that likes length."""
    return [float(len(text)) for text in texts]


def test_keeps_what_the_shelf_promises():
    check_item(Reward(model="runs/reward-1"))
    made = shelf("metrics").make({"reward": {"model": "runs/r", "against": "reference"}})
    assert made == Reward(model="runs/r", against="reference") and made.needs == ("reward",)
    with pytest.raises(SettingError):
        shelf("metrics").make("reward")


def test_the_mean_reward():
    metric = Given(Reward(model="x"), {"reward": longer})
    values = [metric.score(text, row) for text, row in zip(("a", "bbb", "ccccc"), ROWS)]
    assert values == [{"score": 1.0}, {"score": 3.0}, {"score": 5.0}]
    summary = metric.summary(values)
    assert (summary.value, summary.n) == (3.0, 3) and summary.low < 0 < summary.high  # a reward has no bounds


def test_against_the_reference_a_tie_is_one_half():
    metric = Given(Reward(model="x", against="reference"), {"reward": longer})
    values = [metric.score(text, row) for text, row in zip(("22", "yes", "?"), ROWS)]
    assert [value["score"] for value in values] == [1.0, 0.5, 0.0]
    assert metric.summary(values).value == 0.5
    metric.check(ROWS[0])
    with pytest.raises(DataError):
        metric.check({"messages": [], "origin": "a:9"})
    several = {**ROWS[0], "answers": ["2", "two two"]}
    assert metric.score("four", several)["score"] == 0.0  # the best of the references


def test_an_evaluation_with_a_reward_model(tmp_path):
    judge = RewardModel.of(load("pico", kind="classify", labels=("reward",), problem="regression", seed=3))
    model = load("pico", seed=1)
    metrics = {"reward": Given(Reward(model="runs/r"), {"reward": judge.score})}
    done = evaluate(model, Text(model.tokenizer), ROWS, metrics, folder=tmp_path, name="test", max_tokens=4)
    from tunesmith.evals.files import read_evaluation

    lines = read_evaluation(tmp_path / "test").rows
    wanted = judge.score(ROWS, [line["prediction"] for line in lines])
    assert [line["metrics"]["reward"] for line in lines] == pytest.approx(wanted, abs=1e-6)
    assert done["metrics"]["reward"]["value"] == pytest.approx(sum(wanted) / 3, abs=1e-6)


def test_an_answer_that_is_the_reference_ties_however_its_place_rounds():
    def placed(rows, texts):
        return [1.0 + 1e-7 * place for place in range(len(texts))]

    metric = Given(Reward(model="x", against="reference"), {"reward": placed})
    assert metric.score("2", ROWS[0])["score"] == 0.5 and metric.score("3", ROWS[0])["score"] == 0.0
