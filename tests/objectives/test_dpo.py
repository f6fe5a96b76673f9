"""dpo: TRL's values and gradients, ln 2 at the start, one prompt for both sides, separate passes give the same."""

import math
from dataclasses import replace

import pytest
import torch
import transformers

from tunesmith.core.errors import SettingError
from tunesmith.model.policy import Policy
from tunesmith.objectives.dpo import Dpo
from tunesmith.objectives.orpo import Orpo
from tunesmith.objectives.simpo import Simpo
from tunesmith.step.step import _weightless, backward
from tunesmith.testing import check_objective
from tunesmith.testing.objectives import ROWS
from tunesmith.text.encode import Text
from tunesmith.text.too_long import TooLong

CASES = {
    "dpo sigmoid": Dpo(),
    "dpo sigmoid beta 0.5": Dpo(beta=0.5),
    "dpo hinge": Dpo(form="hinge"),
    "dpo ipo": Dpo(form="ipo"),
    "dpo robust": Dpo(form="robust", label_smoothing=0.2),
    "dpo cdpo": Dpo(form="cdpo", label_smoothing=0.2),
    "dpo per token": Dpo(per_token=True),
    "dpo with sft": Dpo(sft_weight=0.5),
}


def gradients(model):
    found = torch.cat([p.grad.flatten() for p in model.net.parameters()])
    model.net.zero_grad(set_to_none=True)
    return found


def ids_of(units):
    return [[example.ids.tolist() for example in unit.examples] for unit in units]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_trls(trl, case):
    trl.compare(CASES[case], case, tolerance=1e-6 if case == "dpo cdpo" else 1e-9)


def test_figures_are_trls(trl):
    figures, theirs = trl.compare(Dpo(), "dpo sigmoid"), trl.found["dpo sigmoid"]["metrics"]
    names = {
        "accuracy": "rewards/accuracies", "margin": "rewards/margins", "chosen_reward": "rewards/chosen",
        "rejected_reward": "rewards/rejected", "chosen_logp": "logps/chosen", "rejected_logp": "logps/rejected",
    }  # fmt: skip
    assert {name: figures[name] for name in names} == pytest.approx({o: theirs[t] for o, t in names.items()}, rel=1e-6)


@pytest.mark.parametrize("objective", [Dpo(), Dpo(form="ipo"), Dpo(sft_weight=0.3)], ids=["sigmoid", "ipo", "sft"])
def test_keeps_what_the_shelf_promises(objective):
    check_objective(objective)
    check_objective(objective, rows=ROWS["scored"])


def test_the_first_step_is_ln_2_whatever_the_start(pico, held, preferences, units_of):
    for parameter in pico.net.parameters():  # as if trained before: the reference is the state now, not the base
        parameter.data += 0.01 * torch.randn(parameter.shape, dtype=parameter.dtype)
    stats = backward(pico.policy, Dpo(), units_of(Dpo(), preferences, pico.tokenizer), helpers=held(pico))
    assert stats.loss == pytest.approx(math.log(2), abs=1e-12)
    assert stats.figures["margin"] == stats.figures["chosen_reward"] == 0.0
    ipo = backward(pico.policy, Dpo(form="ipo"), units_of(Dpo(), preferences, pico.tokenizer), helpers=held(pico))
    assert ipo.loss == pytest.approx((1 / (2 * 0.1)) ** 2, rel=1e-12)


def test_the_packed_pair_with_one_prompt_equals_separate_padded_passes(pico, start, preferences, units_of):
    """The oracle is transformers' own model, one row an answer, and the paper's formula."""
    units = units_of(Dpo(), preferences, pico.tokenizer)
    assert pico.policy.layout == "packed" and all(unit.shared_prompt > 0 for unit in units)
    stats = backward(pico.policy, Dpo(beta=0.2), units, helpers=start)
    ours = gradients(pico)

    net = transformers.LlamaForCausalLM._from_config(pico.net.config, attn_implementation="eager").double()
    net.load_state_dict(pico.net.state_dict())
    net.requires_grad_(True)
    examples = [example for unit in units for example in unit.examples]
    reference = start.reference(Policy(pico.net, layout="padded").batch(units)).split([e.num_trained for e in examples])
    ratios = []
    for one, fixed in zip(examples, reference):
        ids = torch.tensor(one.ids[None].tolist())
        logp = torch.log_softmax(net(input_ids=ids).logits[0, :-1], dim=-1).gather(1, ids[0, 1:, None])[:, 0]
        ratios.append((logp * torch.tensor(one.weights[1:]).double()).sum() - fixed.sum())
    deltas = torch.stack(ratios[0::2]) - torch.stack(ratios[1::2])
    loss = -torch.log(torch.sigmoid(0.2 * deltas)).mean()
    loss.backward()
    names = [name for name, _ in pico.net.named_parameters()]
    theirs = torch.cat([dict(net.named_parameters())[name].grad.flatten() for name in names])
    assert stats.loss == pytest.approx(loss.item(), rel=1e-7)  # transformers' norms compute in fp32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert stats.num_tokens < sum(map(len, examples))  # the prompts are computed once


def test_both_sides_keep_one_prompt_however_long(pico, preferences, units_of):
    tokenizer = pico.tokenizer
    whole = units_of(Dpo(), preferences, tokenizer)
    short = units_of(Dpo(), preferences, tokenizer, length=44, too_long="trim_prompt")
    assert len(short) == len(whole)
    cut = [unit for unit, before in zip(short, whole) if len(unit.examples[0]) < len(before.examples[0])]
    assert cut
    for unit, before in zip(short, whole):
        prompts = [e.ids[: unit.shared_prompt].tolist() for e in unit.examples]
        assert prompts[0] == prompts[1] and unit.shared_prompt > 0
        assert [e.num_trained for e in unit.examples] == [e.num_trained for e in before.examples]
        assert max(map(len, unit.examples)) <= 44
    dropped = Dpo().units(preferences[2], Text(tokenizer, length=44, too_long="drop"), None)
    assert not dropped and "too long" in dropped.dropped[0]
    with pytest.raises(TooLong):
        Dpo().units(preferences[2], Text(tokenizer, length=44), None)
    with pytest.raises(TooLong, match="tokens"):
        Dpo().units(preferences[2], Text(tokenizer, length=20, too_long="trim_prompt"), None)


def test_a_pair_with_an_empty_side_or_equal_sides_is_dropped_with_the_reason(pico, preferences):
    text, row = Text(pico.tokenizer), preferences[0]
    empty = Dpo().units({**row, "rejected": [{"role": "assistant", "content": "  "}]}, text, None)
    assert (list(empty), empty.dropped) == ([], ("rejected: the answer is empty",))
    same = Dpo().units({**row, "rejected": row["chosen"]}, text, None)
    assert (list(same), same.dropped) == ([], ("chosen and rejected are the same",))


def test_only_the_answers_are_trained_on_through_their_end_of_turn(pico):
    turns = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "earlier"}, {"role": "user", "content": "b"},
    ]  # fmt: skip
    chosen = [
        {"role": "assistant", "content": "one"}, {"role": "user", "content": "more"}, {"role": "assistant", "content": "two"},
    ]  # fmt: skip
    row = {"messages": turns, "chosen": chosen, "rejected": [{"role": "assistant", "content": "no"}], "origin": "x:1"}
    (unit,) = Dpo().units(row, Text(pico.tokenizer), None)
    said = [pico.tokenizer.decode(e.ids[e.weights > 0].tolist()) for e in unit.examples]
    assert said == ["onetwo", "no"]
    assert [e.num_trained for e in unit.examples] == [3 + 1 + 3 + 1, 2 + 1]
    assert unit.columns == {} and [e.columns["chosen_tokens"] for e in unit.examples] == [8.0, 0.0]


def test_scored_answers_become_pairs(pico):
    answers = [{"content": "bad", "score": 1}, {"content": "best", "score": 5}, {"content": "fair", "score": 3},
               {"content": "also fair", "score": 3}]  # fmt: skip
    row = {"messages": [{"role": "user", "content": "q"}], "answers": answers, "origin": "x:1"}

    def said(objective):
        units = objective.units(row, Text(pico.tokenizer), None)
        return [tuple(pico.tokenizer.decode(e.ids[e.weights > 0].tolist()) for e in unit.examples) for unit in units]

    assert said(Dpo()) == [("best", "fair"), ("best", "also fair"), ("best", "bad")]
    assert said(Dpo(pairs="all")) == [*said(Dpo()), ("fair", "bad"), ("also fair", "bad")]
    tied = Dpo().units({**row, "answers": answers[2:]}, Text(pico.tokenizer), None)
    assert (list(tied), tied.dropped) == ([], ("no two answers have different scores",))


def test_changing_the_prompts_weights_changes_nothing(pico, start, preferences, units_of):
    """Summed, what both sides say alike cancels; divided by its length, it does not: the mask is what keeps it out there."""
    units = units_of(Dpo(), preferences, pico.tokenizer)
    assert all(not e.weights[: unit.shared_prompt].any() for unit in units for e in unit.examples)

    def learned(example, prompt):
        weights = example.weights.copy()
        weights[1:prompt] = 1.0
        return replace(example, weights=weights)

    changed = [
        replace(unit, shared_prompt=0, examples=tuple(learned(e, unit.shared_prompt) for e in unit.examples)) for unit in units
    ]  # fmt: skip
    found = {}
    for name, objective in (("sum", Dpo(beta=0.3)), ("mean", Dpo(form="ipo"))):
        for which, some in (("as made", units), ("prompt too", changed)):
            stats = backward(pico.policy, objective, some, helpers=start)
            found[name, which] = stats, gradients(pico)
    (plain, gradient), (other, moved) = found["sum", "as made"], found["sum", "prompt too"]
    assert other.figures["chosen_logp"] < plain.figures["chosen_logp"] - 1.0  # the prompt's tokens are really in it
    assert other.loss == pytest.approx(plain.loss, rel=1e-6)
    torch.testing.assert_close(moved, gradient, rtol=1e-4, atol=1e-6)
    assert found["mean", "prompt too"][0].loss != pytest.approx(found["mean", "as made"][0].loss, rel=1e-3)


def test_swapping_sides_mirrors_the_margin(pico, start, preferences, units_of):
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in preferences]
    figures = [
        backward(pico.policy, Dpo(), units_of(Dpo(), rows, pico.tokenizer), helpers=start).figures
        for rows in (preferences, swapped)
    ]
    assert figures[0]["margin"] == pytest.approx(-figures[1]["margin"], rel=1e-6)
    assert figures[0]["chosen_logp"] == pytest.approx(figures[1]["rejected_logp"], rel=1e-6)


@pytest.mark.parametrize(
    "objective", [Dpo(sft_weight=0.1), Dpo(form="ipo"), Simpo(), Orpo()], ids=lambda o: type(o).__name__
)
def test_a_pair_that_only_fills_a_rank_counts_for_nothing(objective, pico, start, preferences, units_of):
    batch = pico.policy.batch([_weightless(unit) for unit in units_of(objective, preferences, pico.tokenizer)])
    out = objective.loss(pico.policy, batch, start)
    total = torch.stack(list(out.terms.values())).sum()
    total.backward()
    assert total.item() == 0.0 and all(float(count) == 0.0 == float(value) for value, count in out.stats.values())
    assert all(p.grad is None or not p.grad.any() for p in pico.net.parameters())


@pytest.mark.parametrize(
    "settings", [{"beta": 0}, {"label_smoothing": 0.5, "form": "robust"}, {"label_smoothing": 0.1}, {"sft_weight": -1}]
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(SettingError):
        Dpo(**settings)


def test_training_raises_the_margin(pico, held, preferences, units_of):
    from tunesmith.train.loop import loop
    from tunesmith.train.optim import Optimizer

    units, helpers = units_of(Dpo(), preferences, pico.tokenizer), held(pico)
    optimizer = Optimizer(pico.net.named_parameters())
    steps = list(loop(pico.policy, Dpo(), units, optimizer, steps=30, batch_size=4, lr=1e-3, helpers=helpers))
    assert steps[0].stats.figures["margin"] == 0.0
    assert steps[-1].stats.figures["accuracy"] == 1.0 and steps[-1].stats.figures["margin"] > 1.0
