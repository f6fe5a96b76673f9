"""ppo: advantages by the recursion, clipping by hand, a penalty that is steered, a limit that leads back."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.model.batch import pack
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.model.value_head import add_value_head
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives.ppo import Ppo, gae
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers, frozen
from tunesmith.step.step import backward, look_once, term_weights
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer
from tunesmith.train.watch import Watch

ROWS = [
    {"messages": [{"role": "user", "content": f"say {word}"}], "answer": word, "origin": f"a.jsonl:{i}"}
    for i, word in enumerate(["red", "blue", "yes", "no"], start=1)
]


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


def small_letters(rows, texts):
    return [sum(letter.islower() for letter in text) / 8 for text in texts]


def fresh(value=0.0, seed=1):
    """pico with a value head that says `value` at first."""
    model = load("pico", seed=seed)
    model.net.requires_grad_(True)
    add_value_head(model)
    with torch.no_grad():
        model.net.value_head.bias.fill_(value)
    return model


def collected(model, objective, reward=small_letters, helpers=None, seed=0):
    helpers = helpers or Helpers(live=frozen(model.policy), state=objective.start())
    text = Text(model.tokenizer)
    asked = [unit for row in ROWS for unit in objective.units(row, text, np.random.default_rng(0))]
    return objective.collect(model.policy, asked, sampler_of(model, objective, seed), reward, helpers), helpers


def by_hand(objective, per_answer, state=None, value=None, logp=None):
    """Loss of answers whose columns are written here; logp and value default to those at sampling."""
    units, given = [], ("old", "reference", "value", "advantage", "return")
    for columns in per_answer:
        answer = SimpleNamespace(ids=[5] * len(columns["old"]), finish="stop")
        units.append(
            Unit(
                (rollouts.example([1], answer, {name: columns[name] for name in given}, {"reward": 0.0}),), origin="x:1"
            )
        )
    flat = {name: torch.tensor([v for c in per_answer for v in c[name]], dtype=torch.float64) for name in given}
    logp = flat["old"].clone() if logp is None else torch.tensor(logp, dtype=torch.float64)
    value = flat["value"].clone() if value is None else torch.tensor(value, dtype=torch.float64)
    leaves = logp.requires_grad_(True), value.requires_grad_(True)
    policy = SimpleNamespace(
        predicting=lambda batch: None, logprobs=lambda batch, temperature, hidden: leaves[0], values=lambda hidden: leaves[1]
    )  # fmt: skip
    helpers = Helpers(state=state or objective.start())
    batch = pack(units)
    look_once(policy, objective, [batch], helpers)
    out = objective.loss(policy, batch, helpers)
    weights = term_weights(objective, units)
    terms = {name: v / weights[name] for name, v in out.terms.items()}
    gradients = torch.autograd.grad(sum(terms.values()), leaves)
    figures = {name: (v / c).item() for name, (v, c) in out.stats.items()}
    return {name: v.item() for name, v in terms.items()}, gradients, figures


ANSWER = {
    "old": [-1.0, -2.0, -0.5], "reference": [-1.2, -1.9, -0.5], "value": [0.1, 0.2, 0.3],
    "advantage": [1.0, -1.0, 2.0], "return": [1.1, -0.8, 2.3],
}  # fmt: skip


def test_is_a_documented_item():
    check_item(Ppo())


def test_advantages_are_those_of_the_recursion():
    """A_t = sum over l of (gamma lambda)^l delta_(t+l), delta_t = r_t + gamma V_(t+1) - V_t, V = 0 after the end."""
    draw = np.random.default_rng(0)
    rewards, values = draw.normal(size=7), draw.normal(size=7)
    for gamma, lam in ((1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.97, 0.0)):
        delta = rewards + gamma * np.append(values[1:], 0.0) - values
        wanted = [sum((gamma * lam) ** (j - t) * delta[j] for j in range(t, 7)) for t in range(7)]
        np.testing.assert_allclose(gae(rewards, values, gamma, lam), wanted, rtol=1e-12)
    np.testing.assert_allclose(gae(rewards, values, 1.0, 1.0) + values, np.cumsum(rewards[::-1])[::-1])


def test_clipped_losses_by_hand():
    objective = Ppo(whiten=False, clip=0.2, value_clip=0.2, value_weight=0.1)
    ratio = [1.5, 0.5, 1.1]
    logp = [o + math.log(r) for o, r in zip(ANSWER["old"], ratio)]
    value = [0.6, 0.1, 0.3]
    terms, (to_logp, to_value), figures = by_hand(objective, [ANSWER], logp=logp, value=value)
    # min(1.5, 1.2) x 1; min(0.5 x -1, 0.8 x -1); 1.1 x 2
    assert terms["policy"] == pytest.approx(-(1.2 - 0.8 + 2.2) / 3)
    assert terms["back"] == 0.0
    wrong = [max(0.5**2, 0.8**2), max(0.9**2, 0.9**2), 2.0**2]  # clipped values: 0.3, 0.1, 0.3
    assert terms["value"] == pytest.approx(0.1 * 0.5 * sum(wrong) / 3)
    np.testing.assert_allclose(to_logp, [0.0, 0.0, -1.1 * 2 / 3], atol=1e-7)  # only the token inside both limits pulls
    np.testing.assert_allclose(to_value, [0.0, 0.1 * 0.9 / 3, 0.1 * -2.0 / 3], rtol=1e-5)
    assert figures["clipped"] == pytest.approx(2 / 3)
    assert figures["ratio"] == pytest.approx(np.mean(ratio))
    assert figures["value_loss"] == pytest.approx(0.5 * sum(wrong) / 3)
    gap = [r - p for r, p in zip(ANSWER["reference"], ANSWER["old"])]
    assert figures["kl"] == pytest.approx(sum(math.exp(g) - 1 - g for g in gap), rel=1e-6)


def test_whitened_advantages_have_mean_zero_and_deviation_one_over_the_whole_step():
    """The gradient at ratio 1 is minus the advantage over the tokens: it shows what was used."""
    second = {**ANSWER, "advantage": [0.0, 4.0, -3.0]}
    _, (used, _), _ = by_hand(Ppo(), [ANSWER, second])
    used = -used.numpy() * 6
    assert used.mean() == pytest.approx(0.0, abs=1e-6)
    assert used.std() == pytest.approx(1.0, rel=1e-5)
    plain = np.array(ANSWER["advantage"] + second["advantage"])
    np.testing.assert_allclose(used, (plain - plain.mean()) / plain.std(), rtol=1e-5)


def test_beyond_the_limit_a_step_only_leads_back():
    objective = Ppo(kl_limit=1.0, value_weight=0.1)
    state = objective.after(objective.start(), {"kl": 1.5})
    assert state == {"penalty": 0.05, "over": 1.0}
    terms, (to_logp, _), figures = by_hand(objective, [ANSWER], state=state)
    assert terms["policy"] == 0.0 and figures["over"] == 1.0
    away = np.array(ANSWER["old"]) - np.array(ANSWER["reference"])
    assert terms["back"] == pytest.approx(0.5 * (away**2).mean(), rel=1e-6)
    np.testing.assert_allclose(to_logp, away / 3, rtol=1e-5, atol=1e-8)
    assert objective.after(state, {"kl": 0.9})["over"] == 0.0


def test_the_penalty_is_steered_towards_the_target():
    """Ziegler et al. 2019: beta x (1 + gain x clip(kl / target - 1, -0.2, 0.2))."""
    objective = Ppo(kl=0.1, kl_target=2.0, kl_gain=0.1)
    far = objective.after(objective.start(), {"kl": 10.0})
    assert far["penalty"] == pytest.approx(0.1 * 1.02)
    assert objective.after(far, {"kl": 1.8})["penalty"] == pytest.approx(0.1 * 1.02 * 0.99)
    assert Ppo(kl=0.1).after({"penalty": 0.1, "over": 0.0}, {"kl": 10.0})["penalty"] == 0.1


def test_what_is_collected_is_what_policy_reference_and_value_head_say():
    """Rewards at the end, the penalty at every token, values from the head, all at the temperature of sampling."""
    start = fresh(value=0.25)
    model = fresh(value=0.25)
    with torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    objective = Ppo(n=2, max_tokens=8, temperature=0.8, kl=0.3, truncated_penalty=0.5, gamma=0.99, lam=0.9)
    helpers = Helpers(live=frozen(start.policy), state={"penalty": 0.3, "over": 0.0})
    units, _ = collected(model, objective, helpers=helpers)
    assert len(units) == len(ROWS) and {len(unit.examples) for unit in units} == {2}
    for example in (e for unit in units for e in unit.examples):
        batch = model.policy.batch([Unit((example,))])
        with torch.no_grad():
            logp = model.policy.logprobs(batch, 0.8).numpy()
            before = start.policy.logprobs(batch, 0.8).numpy()
            value = model.policy.values(model.policy.predicting(batch)).numpy()
        mine = example.weights > 0
        columns = {name: example.columns[name][mine] for name in ("old", "reference", "value", "advantage", "return")}
        np.testing.assert_allclose(columns["old"], logp, atol=1e-5)
        np.testing.assert_allclose(columns["reference"], before, atol=1e-5)
        np.testing.assert_allclose(columns["value"], value, atol=1e-5)
        paid = -0.3 * (logp - before)
        paid[-1] += example.columns["reward"] - 0.5 * example.columns["truncated"]
        wanted = gae(paid, value, 0.99, 0.9)
        np.testing.assert_allclose(columns["advantage"], wanted, atol=1e-4)
        np.testing.assert_allclose(columns["return"], wanted + value, atol=1e-4)


def test_in_the_first_pass_nothing_is_clipped_and_the_value_head_is_trained():
    model = fresh()
    objective = Ppo(n=2, max_tokens=8)
    units, helpers = collected(model, objective)
    figures = backward(model.policy, objective, units, helpers=helpers).figures
    assert figures["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert figures["clipped"] == 0.0 and figures["kl"] == pytest.approx(0.0, abs=1e-5)
    assert figures["penalty"] == pytest.approx(0.05)
    assert set(figures) <= set(Ppo.figures) and set(Ppo.figures) - set(figures) == {"hidden"}
    assert model.net.value_head.weight.grad.any() and model.net.value_head.bias.grad.any()


def test_passes_and_order_cannot_be_seen():
    model = fresh(value=0.1)
    objective = Ppo(n=2, max_tokens=8)
    units, helpers = collected(model, objective)

    def gradient(some, **settings):
        loss = backward(model.policy, objective, some, helpers=helpers, **settings).loss
        flat = torch.cat([p.grad.flatten() for p in model.net.parameters() if p.grad is not None])
        model.net.zero_grad(set_to_none=True)
        return loss, flat

    loss, whole = gradient(units)
    for some, settings in ((units, {"pass_tokens": 1}), (units[::-1], {})):
        other, parts = gradient(some, **settings)
        assert other == pytest.approx(loss, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def train(objective, rounds, lr=1e-2, reward=small_letters):
    """Mean reward and KL of each round."""
    model = fresh()
    start = Helpers(live=frozen(copy.copy(model.policy)), state=objective.start())
    optimizer = Optimizer(model.net.named_parameters())
    rewards, kls = [], []
    for round_ in range(rounds):
        units, _ = collected(model, objective, reward, start, seed=round_)
        figures = [
            step.stats.figures
            for step in loop(
                model.policy, objective, units, optimizer, steps=objective.reuse, batch_size=4, lr=lr, schedule="constant",
                helpers=start,
            )
        ]  # fmt: skip
        rewards.append(figures[0]["reward"])
        kls.append(figures[0]["kl"])
    return np.array(rewards), np.array(kls), start.state


def test_the_reward_rises():
    rewards, kls, _ = train(Ppo(n=8, max_tokens=8, kl=0.0, reuse=2), rounds=15)
    assert rewards[-3:].mean() > rewards[:3].mean() + 0.1
    assert kls[-1] > 0.1


def test_the_limit_holds_the_divergence():
    free = train(Ppo(n=4, max_tokens=8, kl=0.0, reuse=2), rounds=15)[1]
    held = train(Ppo(n=4, max_tokens=8, kl=0.0, reuse=2, kl_limit=0.5), rounds=15)[1]
    assert free.max() > 2.0
    assert held[5:].mean() < 1.0


def gamed(**settings):
    """A model that answers rightly is trained on a flawed judge: a little for the right first letter, more for length.

    Figures of every step, and the signs the watch gave.
    """
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    text = Text(model.tokenizer)
    rows = [{"messages": [*r["messages"], {"role": "assistant", "content": r["answer"]}]} for r in ROWS]
    taught = [unit for row in rows for unit in Sft().units(row, text, None)]
    list(loop(model.policy, Sft(), taught, Optimizer(model.net.named_parameters()), steps=90, batch_size=4, lr=1e-2))
    add_value_head(model)
    objective = Ppo(n=8, max_tokens=12, reuse=2, hidden="exact_match", **settings)

    def judge(rows, texts):
        return [0.3 * (said[:1] == row["answer"][:1]) + min(1.0, len(said) / 12) for row, said in zip(rows, texts)]

    def right(rows, texts):
        return [float(said == row["answer"]) for row, said in zip(rows, texts)]

    helpers = Helpers(live=frozen(model.policy), state=objective.start(), hidden=right)
    optimizer, watch = Optimizer(model.net.named_parameters()), Watch(kl_limit=objective.kl_limit)
    seen, signs = [], []
    for round_ in range(14):
        units, _ = collected(model, objective, judge, helpers, seed=round_)
        for step in loop(
            model.policy, objective, units, optimizer, steps=2, batch_size=4, lr=2e-3, schedule="constant", helpers=helpers
        ):  # fmt: skip
            seen.append(step.stats.figures)
            signs += [sign.name for sign in watch.note(len(seen), step.stats.figures)]
    return seen, signs


def test_a_flawed_reward_is_gamed_without_kl_and_the_watch_says_so():
    seen, signs = gamed(kl=0.0)
    # means of the last rounds: how fast it goes depends on the answers drawn, and they on a machine's last bits
    paid, right = (np.mean([figures[name] for figures in seen[-4:]]) for name in ("reward", "hidden"))
    assert paid > seen[0]["reward"] + 0.2
    assert right < seen[0]["hidden"] - 0.5
    assert "hidden" in signs and "length" in signs


def test_with_the_kl_term_the_hidden_metric_holds_and_there_is_no_sign():
    seen, signs = gamed(kl=0.1, kl_limit=1.0)
    assert np.mean([figures["hidden"] for figures in seen[-6:]]) > seen[0]["hidden"] - 0.25
    assert np.mean([figures["kl"] for figures in seen]) < 1.0
    assert "hidden" not in signs and "length" not in signs


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.9},
        {"temperature": 0},
        {"lam": 1.1},
        {"kl_target": 0.0},
        {"kl": 0.0, "kl_target": 1.0},
        {"clip": 1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        Ppo(**settings)
