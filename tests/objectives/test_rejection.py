"""rejection: the best of n by the reward are learned as sft learns them; what was sampled and what was kept are figures."""

from types import SimpleNamespace

import numpy as np
import pytest

from tunesmith.core.errors import SettingError
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.objectives.rejection import Rejection
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit
from tunesmith.train.feed import units_from_tensors, units_to_tensors
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

ROWS = [
    {"messages": [{"role": "user", "content": f"say {word}"}], "answer": word, "origin": f"a.jsonl:{i}"}
    for i, word in enumerate(["red", "blue", "yes"], start=1)
]
SCORES = {"a": 0.2, "bb": 0.9, "ccc": 0.5, "bb ": 0.8, "cut": 1.0}


@pytest.fixture(scope="module")
def pico():
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    return model


def said(text, tokens, finish="stop"):
    return SimpleNamespace(ids=tokens, text=text, finish=finish, sampled_logprobs=[-1.0] * len(tokens), logprobs=[])


ANSWERS = [said("a", [40, 2]), said("bb", [41, 41, 2]), said("ccc", [42, 42, 42, 2]), said("bb", [41, 41, 2]), said("cut", [43] * 5, "length")]  # fmt: skip


def units_of(model, objective, answers=ANSWERS):
    text = Text(model.tokenizer)
    asked = [unit for row in ROWS for unit in objective.units(row, text, np.random.default_rng(0))]
    reward = lambda rows, texts: [SCORES[text] for text in texts]
    units = objective.collect(model.policy, asked, lambda prompts, n: [answers for _ in prompts], reward, Helpers())
    return units, asked


def test_is_a_documented_item():
    check_item(Rejection())


def test_the_best_answer_is_kept_through_its_end_and_a_cut_one_never(pico):
    units, asked = units_of(pico, Rejection(n=5))
    assert len(units) == 3
    for unit, prompt in zip(units, asked):
        (example,) = unit.examples
        assert example.ids[example.weights > 0].tolist() == [41, 41, 2]
        assert example.ids[:-3].tolist() == prompt.examples[0].ids.tolist()
        assert unit.origin == prompt.origin


def test_the_best_few_are_kept_and_equal_texts_once(pico):
    units, _ = units_of(pico, Rejection(n=5, keep=4))
    kept = [example.ids[example.weights > 0].tolist() for example in units[0].examples]
    assert kept == [[41, 41, 2], [42, 42, 42, 2], [40, 2]]
    strict, _ = units_of(pico, Rejection(n=5, keep=4, threshold=0.5))
    assert len(strict[0].examples) == 2


def test_the_loss_is_that_of_sft_and_the_figures_tell_kept_from_sampled(pico):
    objective = Rejection(n=5, keep=2)
    units, _ = units_of(pico, objective)
    stats = backward(pico.policy, objective, units)
    plain = [Unit(unit.examples, unit.shared_prompt) for unit in units]
    as_sft = backward(pico.policy, Sft(), plain)
    pico.net.zero_grad(set_to_none=True)
    assert stats.loss == pytest.approx(as_sft.loss, rel=1e-6)
    figures = stats.figures
    assert figures["loss"] == pytest.approx(stats.loss, rel=1e-6)
    assert figures["reward"] == pytest.approx((0.2 + 0.9 + 0.5 + 0.9 + 1.0) / 5)
    assert figures["reward_kept"] == pytest.approx(0.7)
    assert figures["kept"] == pytest.approx(0.4) and figures["without"] == 0.0
    assert figures["length"] == pytest.approx(17 / 5) and figures["truncated"] == pytest.approx(0.2)
    assert set(figures) <= set(Rejection.figures)


def test_where_nothing_is_good_enough_nothing_is_learned(pico):
    objective = Rejection(n=5, threshold=0.95)  # only the cut answer would pass
    units, _ = units_of(pico, objective)
    stats = backward(pico.policy, objective, units)
    assert stats.loss == 0.0 and stats.figures["without"] == 1.0 and stats.figures["kept"] == 0.0
    assert stats.figures["reward"] == pytest.approx(0.7)
    assert not any(p.grad is not None and p.grad.any() for p in pico.net.parameters())
    pico.net.zero_grad(set_to_none=True)


def test_a_round_can_be_resumed(pico):
    units, _ = units_of(pico, Rejection(n=5, keep=2))
    back = units_from_tensors(units_to_tensors(units))
    first, second = (backward(pico.policy, Rejection(n=5, keep=2), some) for some in (units, back))
    pico.net.zero_grad(set_to_none=True)
    assert first.loss == second.loss and first.figures == second.figures


@pytest.mark.parametrize("settings", [{"keep": 9}, {"keep": 0}, {"temperature": 0.0}, {"reuse": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        Rejection(**settings)


def test_rounds_raise_the_reward_of_what_is_sampled():
    """n = 8: what is kept scores above all, and after a few rounds all score above the start."""
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    objective = Rejection(n=8, max_tokens=8, keep=2, reuse=2)
    text, optimizer = Text(model.tokenizer), Optimizer(model.net.named_parameters())
    asked = [unit for row in ROWS for unit in objective.units(row, text, np.random.default_rng(0))]
    reward = lambda rows, texts: [sum(letter.islower() for letter in text) / 8 for text in texts]
    seen = []
    for round_ in range(12):

        def sample(prompts, n, round_=round_):
            flat = [prompt for prompt in prompts for _ in range(n)]
            seeds = [round_ * 1000 + i for i in range(len(flat))]
            out = generate(model, flat, max_tokens=8, temperature=1.0, seeds=seeds, eos_ids=[])
            ended = [SimpleNamespace(**{**vars(answer), "finish": "stop"}) for answer in out]
            return [ended[i * n : (i + 1) * n] for i in range(len(prompts))]

        units = objective.collect(model.policy, asked, sample, reward, Helpers())
        for step in loop(
            model.policy, objective, units, optimizer, steps=2, batch_size=3, lr=1e-2, schedule="constant"
        ):
            seen.append(step.stats.figures)
    assert all(figures["reward_kept"] > figures["reward"] for figures in seen[:4])
    assert seen[-1]["reward"] > seen[0]["reward"] + 0.3
