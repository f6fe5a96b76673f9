"""masked: BERT's shares of what is hidden, transformers' loss, one hidden token cannot be seen, and it learns."""

import numpy as np
import pytest
import torch

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load
from tunesmith.objectives.masked import Masked
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

TEXTS = ["a quick brown fox jumps", "부산은 항구 도시", "over", "the lazy dog sleeps all day long"]
ROWS = [{"text": text, "origin": f"a.txt:{number}"} for number, text in enumerate(TEXTS, start=1)]


def ready(dtype="fp64", rows=ROWS, length=64, **settings):
    model, objective = load("pico-encoder", kind="masked", dtype=dtype, seed=1), Masked(**settings)
    model.net.requires_grad_(True)
    text = Text(model.tokenizer, length=length)
    units = [u for n, row in enumerate(rows) for u in objective.units(row, text, np.random.default_rng([0, 0, n]))]
    return model, objective, units


def test_keeps_what_the_shelf_promises():
    check_objective(Masked())


def test_shares_of_hidden_tokens_are_berts():
    model, _, units = ready(rows=[{"text": "abcdefghij" * 200, "origin": "a:1"}], length=512, copies=4)
    hidden = masked = same = plain = 0
    for unit in units:
        example = unit.examples[0]
        ids, shown, chosen = example.ids, example.columns["shown"], example.weights > 0
        assert chosen.sum() == round(0.15 * (len(ids) - 2)) and not chosen[0] and not chosen[-1]
        assert (ids[~chosen] == shown[~chosen]).all()
        hidden += chosen.sum()
        masked += (shown[chosen] == model.tokenizer.mask).sum()
        same += (shown[chosen] == ids[chosen]).sum()
        plain += (shown[chosen] >= 32).sum()
    assert masked / hidden == pytest.approx(0.8, abs=0.04) and same / hidden == pytest.approx(0.1, abs=0.03)
    assert masked + plain == hidden  # a random token is never a control token
    assert len({tuple(u.examples[0].columns["shown"]) for u in units}) == len(units)  # each copy hides others


def test_the_loss_is_transformers(gradients):
    model, objective, units = ready()
    stats = backward(model.policy, objective, units)
    got, total, count = gradients(model.net), 0.0, 0
    for unit in units:
        example = unit.examples[0]
        ids, chosen = torch.tensor(example.ids, dtype=torch.int64)[None], torch.tensor(example.weights)[None] > 0
        shown = torch.tensor(example.columns["shown"], dtype=torch.int64)[None]
        loss = model.net(input_ids=shown, labels=torch.where(chosen, ids, -100)).loss
        total, count = total + loss * chosen.sum(), count + int(chosen.sum())
    assert stats.loss == pytest.approx(float((total / count).detach()), abs=1e-9)
    (total / count).backward()
    for key, wanted in gradients(model.net).items():
        assert (got[key] - wanted).abs().max() < 1e-9, key


def test_passes_cannot_change_loss_or_gradient(gradients):
    model, objective, units = ready()
    whole = backward(model.policy, objective, units)
    wanted = gradients(model.net)
    part = backward(model.policy, objective, units[::-1], pass_tokens=30)
    assert part.num_passes > 1 and part.loss == pytest.approx(whole.loss, abs=1e-10)
    for key, value in gradients(model.net).items():
        assert (value - wanted[key]).abs().max() < 1e-9, key
    assert set(whole.figures) == set(objective.figures)


def test_a_model_that_knows_nothing_loses_ln_of_the_vocabulary():
    model, objective, units = ready()
    for parameter in model.net.parameters():
        parameter.data.zero_()
    assert backward(model.policy, objective, units).loss == pytest.approx(np.log(model.tokenizer.vocab_size))


def test_it_learns_from_both_sides():
    """What stands in the middle follows from what comes after it: only a model that reads both ways can know."""
    rows = [{"text": text, "origin": "a:1"} for text in ("ab1", "cd2") * 8]
    model, objective, _ = ready("fp32", rows=rows[:1])
    text, units = Text(model.tokenizer), []
    for number, row in enumerate(rows):
        units += objective.units(row, text, np.random.default_rng([3, 0, number]))
    optimizer = Optimizer(list(model.net.named_parameters()), kind="adamw", lr=3e-3)
    list(loop(model.policy, objective, units, optimizer, steps=120, batch_size=16, lr=3e-3, seed=0))
    tokenizer = model.tokenizer
    for ending, wanted in (("1", "b"), ("2", "d")):
        ids = [
            tokenizer.id_of("<|cls|>"),
            tokenizer.mask,
            tokenizer.mask,
            *tokenizer.encode(ending),
            tokenizer.id_of("<|sep|>"),
        ]
        with torch.no_grad():
            best = model.net(input_ids=torch.tensor([ids])).logits[0, 2].argmax()
        assert tokenizer.decode([int(best)]) == wanted


def test_what_cannot_be_is_refused():
    with pytest.raises(ModelError, match="mask token"):
        Masked().units(ROWS[0], Text(byte_tokenizer()), np.random.default_rng(0))
    for wrong in ({"share": 0.0}, {"masked": 0.95, "random": 0.1}, {"copies": 0}):
        with pytest.raises(SettingError):
            Masked(**wrong)
