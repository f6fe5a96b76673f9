"""grpo: TRL's loss and gradient to the last digit, ratio 1 when nothing moved, groups that teach nothing when all score the same."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError, SettingError, TrainingError
from tunesmith.model.batch import pack
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives.grpo import Grpo
from tunesmith.step.helpers import Helpers, frozen
from tunesmith.step.step import backward, term_weights
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit
from tunesmith.text.too_long import TooLong
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

TRL = json.loads(Path(__file__).with_name("trl_sampling.json").read_text())
GIVEN = TRL["given"]
WORDS = ["red", "blue", "yes", "no"]
ROWS = [
    {"messages": [{"role": "user", "content": f"say {word}"}], "answer": word, "origin": f"a.jsonl:{i}"}
    for i, word in enumerate(WORDS, start=1)
]
SETTINGS = {
    "grpo": {"normalise": "grpo"}, "bnpo": {"normalise": "bnpo"}, "dapo": {}, "dr_grpo": {"normalise": "dr_grpo"},
    "grpo_masked": {"normalise": "grpo", "mask_truncated": True}, "dapo_masked": {"mask_truncated": True},
    "dr_grpo_masked": {"normalise": "dr_grpo", "mask_truncated": True}, "clip_high": {"clip_high": 0.28},
    "no_kl": {"kl": 0.0}, "gspo": {"normalise": "grpo", "ratio": "sequence"},
}  # fmt: skip


def sampler_of(model, objective, seed=0):
    text = Text(model.tokenizer)

    def sample(prompts, n):
        asked = [prompt for prompt in prompts for _ in range(n)]
        seeds = [seed * 1000 + i for i in range(len(asked))]
        out = generate(
            model, asked, max_tokens=objective.max_tokens, temperature=objective.temperature, seeds=seeds, eos_ids=text.stops
        )  # fmt: skip
        return [out[i * n : (i + 1) * n] for i in range(len(prompts))]

    return sample


def by_bytes(rows, texts):
    """A reward that differs: bytes of the answer modulo 5."""
    return [float(len(text.encode()) % 5) for text in texts]


def prompts_of(model, objective, rows=ROWS, **settings):
    text = Text(model.tokenizer, **settings)
    return [unit for row in rows for unit in objective.units(row, text, np.random.default_rng(0))]


def collected(model, objective, reward=by_bytes, helpers=None):
    helpers = helpers or Helpers(live=frozen(model.policy))
    asked = prompts_of(model, objective)
    return objective.collect(model.policy, asked, sampler_of(model, objective), reward, helpers), helpers


@pytest.fixture(scope="module")
def pico():
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    return model


def test_is_a_documented_item():
    check_item(Grpo())


@pytest.mark.parametrize("case", list(SETTINGS))
def test_loss_and_gradient_are_trls(case):
    """Every way to divide, masked answers, asymmetric clipping, ratios of whole answers: against figures recorded from TRL."""
    objective = Grpo(n=3, max_tokens=GIVEN["max_tokens"], **SETTINGS[case])
    examples = []
    for i, length in enumerate(GIVEN["lengths"]):
        answer = SimpleNamespace(ids=[5] * length, finish="length" if i == GIVEN["masked"] else "stop")
        trained = not (objective.mask_truncated and answer.finish == "length")
        share, whole = objective._weights(length, trained)
        per_token = {"old": GIVEN["old"][i], "reference": GIVEN["reference"][i]}
        columns = {"reward": 0.0, "advantage": GIVEN["advantages"][i], "spread": 0.0, "flat": 0.0}
        columns |= {"share": share, "whole": whole}
        examples.append(rollouts.example([1, 2], answer, per_token, columns, trained=trained))
    units = [Unit(tuple(examples[:3]), shared_prompt=2), Unit(tuple(examples[3:]), shared_prompt=2)]
    used = [v for i, row in enumerate(GIVEN["logp"]) if examples[i].num_trained for v in row]
    leaf = torch.tensor(used, dtype=torch.float64, requires_grad=True)
    policy = SimpleNamespace(logprobs=lambda batch, temperature: leaf)
    out = objective.loss(policy, pack(units), None)
    weights = term_weights(objective, units)
    loss = sum(value / weights[term] for term, value in out.terms.items())
    assert loss.item() == pytest.approx(TRL["grpo"][case]["loss"], rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, [leaf])
    wanted = [v for i, row in enumerate(TRL["grpo"][case]["gradient"]) if examples[i].num_trained for v in row]
    np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-5, atol=1e-7)


def test_what_each_way_divides_by():
    """Answers of 2 and 6 tokens, one cut at 8: by answers 3, by tokens 16, by tokens without the cut one 8, by 3 x 8."""

    def divisor(lengths, **settings):
        objective = Grpo(max_tokens=8, **settings)
        parts = [objective._weights(n, not (objective.mask_truncated and n == 8)) for n in lengths]
        return sum(whole for _, whole in parts), [share for share, _ in parts]

    assert divisor([2, 6, 8], normalise="grpo") == (3.0, [1 / 2, 1 / 6, 1 / 8])
    assert divisor([2, 6, 8], normalise="dapo") == divisor([2, 6, 8], normalise="bnpo") == (16.0, [1.0, 1.0, 1.0])
    assert divisor([2, 6, 8], normalise="dapo", mask_truncated=True)[0] == pytest.approx(8.0, rel=1e-6)
    assert divisor([2, 6, 8], normalise="dr_grpo", mask_truncated=True)[0] == 24.0


def test_advantages_have_mean_zero_and_equal_rewards_give_none():
    first = rollouts.group_advantages([1.0, 0.0, 0.0, 1.0], "group")
    assert first.sum() == pytest.approx(0.0, abs=1e-12)
    assert first[0] == pytest.approx(0.5 / (np.std([1, 0, 0, 1], ddof=1) + 1e-4))
    assert not rollouts.group_advantages([0.1, 0.1, 0.1], "group").any()
    assert rollouts.group_advantages([5.0, 1.0], "none").tolist() == [2.0, -2.0]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_before_anything_moved_the_ratio_is_one_at_every_temperature(pico, temperature):
    objective = Grpo(n=3, max_tokens=10, temperature=temperature)
    units, helpers = collected(pico, objective)
    for unit in units:
        batch = pico.policy.batch([unit])
        with torch.no_grad():
            ratio = (pico.policy.logprobs(batch, temperature) - batch.columns["old"]).exp()
        assert (ratio - 1).abs().max() < 1e-5
    figures = backward(pico.policy, objective, units, helpers=helpers).figures
    pico.net.zero_grad(set_to_none=True)
    assert figures["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert figures["kl"] == pytest.approx(0.0, abs=1e-6)
    assert figures["clipped"] == 0.0
    assert set(figures) <= set(Grpo.figures)


def test_in_bf16_the_ratio_is_one_too():
    """The sampler's own log p differ by rounding; those of the trainer's forward stand in for them."""
    model = load("pico", seed=1, dtype="bf16")
    model.net.requires_grad_(True)
    objective = Grpo(n=4, max_tokens=12)
    units, helpers = collected(model, objective)
    figures = backward(model.policy, objective, units, helpers=helpers).figures
    assert figures["ratio"] == pytest.approx(1.0, abs=1e-5) and figures["kl"] == pytest.approx(0.0, abs=1e-6)
    batch = model.policy.batch(units)
    with torch.no_grad():
        assert (model.policy.logprobs(batch) - batch.columns["old"]).abs().max() < 1e-3


def test_a_group_of_equal_rewards_has_no_gradient(pico):
    objective = Grpo(n=3, max_tokens=8, kl=0.0)
    units, helpers = collected(pico, objective, reward=lambda rows, texts: [0.5] * len(texts))
    stats = backward(pico.policy, objective, units, helpers=helpers)
    assert stats.figures["flat"] == 1.0
    assert not any(p.grad is not None and p.grad.any() for p in pico.net.parameters())
    pico.net.zero_grad(set_to_none=True)


def test_an_answer_is_trained_on_through_its_end_and_the_prompt_is_shared(pico):
    objective = Grpo(n=4, max_tokens=12)
    units, _ = collected(pico, objective)
    asked = prompts_of(pico, objective)
    for unit, prompt in zip(units, asked):
        ids = prompt.examples[0].ids
        assert unit.shared_prompt >= len(ids)
        for example in unit.examples:
            assert example.ids[: len(ids)].tolist() == ids.tolist()
            assert not example.weights[: len(ids)].any() and example.weights[len(ids) :].all()
            ended = int(example.ids[-1]) in Text(pico.tokenizer).stops
            assert example.columns["truncated"] == float(not ended)
            assert example.columns["length"] == len(example) - len(ids)


def test_answers_that_were_cut_teach_nothing_when_masked(pico):
    objective = Grpo(n=3, max_tokens=1, mask_truncated=True)
    never_ends = [
        SimpleNamespace(ids=[40], text="(", finish="length", sampled_logprobs=[-5.0], logprobs=[-5.0]) for _ in range(3)
    ]
    helpers = Helpers(live=frozen(pico.policy))
    asked = prompts_of(pico, objective)
    units = objective.collect(
        pico.policy, asked, lambda p, n: [never_ends for _ in p], lambda r, t: [0.0, 1.0, 0.5] * len(asked), helpers
    )
    stats = backward(pico.policy, objective, units, helpers=helpers)  # a step without anything to learn is no error
    assert stats.loss == 0.0 and stats.figures["truncated"] == 1.0
    assert not any(p.grad is not None and p.grad.any() for p in pico.net.parameters())
    pico.net.zero_grad(set_to_none=True)


def test_passes_layout_and_order_cannot_be_seen(pico):
    objective = Grpo(n=3, max_tokens=8, normalise="grpo")
    units, helpers = collected(pico, objective)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in pico.net.parameters():  # so that ratios are not 1
            parameter.add_(0.02 * torch.randn_like(parameter))

    def gradient(some, **settings):
        loss = backward(pico.policy, objective, some, helpers=helpers, **settings).loss
        flat = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in pico.net.parameters()]
        )
        pico.net.zero_grad(set_to_none=True)
        return loss, flat

    loss, whole = gradient(units)
    for some, settings in ((units, {"pass_tokens": 1}), (units[::-1], {})):
        other, parts = gradient(some, **settings)
        assert other == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def test_rewards_are_summed_by_weight_and_must_be_numbers():
    parts = {"a": lambda rows, texts: [1.0, 2.0], "b": lambda rows, texts: [0.5, 0.0]}
    total = rollouts.weighted_reward(["a", {"of": "b", "weight": -2.0}], parts.get)
    assert total([{}, {}], ["x", "y"]) == [0.0, 2.0]
    assert rollouts.weighted_reward("a", parts.get)([{}, {}], ["x", "y"]) == [1.0, 2.0]
    with pytest.raises(SettingError, match="wieght"):
        rollouts.weighted_reward([{"of": "a", "wieght": 1}], parts.get)
    with pytest.raises(SettingError, match="empty"):
        rollouts.weighted_reward([], parts.get)


def test_a_reward_that_is_no_number_names_its_row(pico):
    objective = Grpo(n=2, max_tokens=4)
    with pytest.raises(TrainingError, match=r"a\.jsonl:1"):
        collected(pico, objective, reward=lambda rows, texts: [float("nan")] * len(texts))


def test_rows_are_asked_without_their_answer_and_rewards_see_it(pico):
    objective = Grpo(n=2, max_tokens=4)
    chat = {"messages": [*ROWS[0]["messages"], {"role": "assistant", "content": "red"}], "origin": "a.jsonl:1"}
    units = prompts_of(pico, objective, [ROWS[0], chat])
    assert units[0].examples[0].ids.tolist() == units[1].examples[0].ids.tolist()
    seen = []

    def reward(rows, texts):
        seen.extend(rows)
        return [0.0] * len(texts)

    objective.collect(pico.policy, units, sampler_of(pico, objective), reward, Helpers(live=frozen(pico.policy)))
    assert [row["answer"] for row in seen] == ["red"] * 4
    assert all(row["messages"][-1]["role"] == "user" for row in seen)
    with pytest.raises(DataError, match="no question"):
        rollouts.as_question({"messages": [{"role": "assistant", "content": "x"}]})


def test_prompts_keep_room_for_the_answer(pico):
    objective, row = Grpo(n=2, max_tokens=8), {**ROWS[0], "messages": [{"role": "user", "content": "a" * 60}]}
    (whole,) = prompts_of(pico, objective, [row])
    length = len(whole.examples[0])
    with pytest.raises(TooLong):
        prompts_of(pico, objective, [row], length=length)
    assert prompts_of(pico, objective, [row], length=length, too_long="drop") == []
    (short,) = prompts_of(pico, objective, [row], length=length, too_long="trim_prompt")
    assert len(short.examples[0]) == length - 8
    assert short.examples[0].ids[-5:].tolist() == whole.examples[0].ids[-5:].tolist()
    assert len(prompts_of(pico, objective, [row], length=length + 8)) == 1


@pytest.mark.parametrize(
    "settings", [{"n": 1}, {"temperature": 0.0}, {"top_p": 0.9}, {"clip": 0.0}, {"kl": -1.0}, {"max_tokens": 0}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        Grpo(**settings)


def test_repetition_counts_runs_that_were_there():
    assert rollouts.repetition([1, 2, 3, 1, 2, 3, 1]) == pytest.approx(0.4)
    assert rollouts.repetition([1, 2]) == 0.0
    assert rollouts.repetition([4] * 10) == pytest.approx(1 - 1 / 8)


def test_a_hidden_metric_is_watched_and_not_paid(pico):
    objective = Grpo(n=2, max_tokens=6, hidden="exact_match")
    helpers = Helpers(live=frozen(pico.policy), hidden=lambda rows, texts: [0.25] * len(texts))
    units, helpers = collected(pico, objective, helpers=helpers)
    plain, _ = collected(pico, Grpo(n=2, max_tokens=6))
    assert backward(pico.policy, objective, units, helpers=helpers).figures["hidden"] == 0.25
    pico.net.zero_grad(set_to_none=True)
    for one, other in zip(units, plain):
        assert [e.columns["advantage"] for e in one.examples] == [e.columns["advantage"] for e in other.examples]


def test_the_reward_rises():
    """pico learns to answer with many letters e: a reward with a slope it can find in seconds."""
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    objective = Grpo(n=8, max_tokens=8, kl=0.0)
    reward = lambda rows, texts: [text.count("e") / 8 for text in texts]
    helpers = Helpers(live=frozen(model.policy))
    optimizer = Optimizer(model.net.named_parameters())
    asked, means = prompts_of(model, objective), []
    for round_ in range(20):
        units = objective.collect(model.policy, asked, sampler_of(model, objective, seed=round_), reward, helpers)
        (step,) = loop(
            model.policy,
            objective,
            units,
            optimizer,
            steps=1,
            batch_size=4,
            lr=1e-2,
            schedule="constant",
            helpers=helpers,
        )
        means.append(step.stats.figures["reward"])
    assert np.mean(means[-3:]) > np.mean(means[:3]) + 0.1


def test_units_of_a_round_survive_a_checkpoint(pico):
    from tunesmith.train.feed import units_from_tensors, units_to_tensors

    units, helpers = collected(pico, Grpo(n=2, max_tokens=6))
    back = units_from_tensors(units_to_tensors(units))
    assert [u.shared_prompt for u in back] == [u.shared_prompt for u in units]
    for one, other in zip((e for u in units for e in u.examples), (e for u in back for e in u.examples)):
        assert isinstance(other, Example) and set(one.columns) == set(other.columns)
        assert all(np.array_equal(one.columns[k], other.columns[k]) for k in one.columns)
    first, second = (
        backward(pico.policy, Grpo(n=2, max_tokens=6), some, helpers=helpers).loss for some in (units, back)
    )
    pico.net.zero_grad(set_to_none=True)
    assert first == second
