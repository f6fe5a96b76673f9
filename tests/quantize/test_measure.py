"""Perplexity, KL and logits against a direct computation in float64, document by document."""

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError
from tunesmith.model.load import load
from tunesmith.quantize import measure
from tunesmith.quantize.choose import choose, packed_copy
from tunesmith.quantize.measure import compare, compare_probabilities


@pytest.fixture(scope="module")
def pair():
    model = load("pico", seed=1)
    with (
        torch.no_grad()
    ):  # random weights say nothing sure: make it say something, so that packing has something to change
        for parameter in model.net.parameters():
            parameter.mul_(4.0)
    other = load("pico", seed=1)
    other.net = packed_copy(model.net, "nf4", choose(model.net, "nf4").names, torch.bfloat16)
    return model, other


def by_hand(pair, units):
    """(nats before, nats after, KL, largest logit change, share of equal choices) over trained-on tokens, float64."""
    rows = []
    for unit in units:
        for example in unit.examples:
            ids = torch.tensor(example.ids, dtype=torch.int64)
            with torch.no_grad():
                p, q = (model.net(input_ids=ids[None], use_cache=False).logits[0, :-1].double() for model in pair)
            for place in range(len(ids) - 1):
                if example.weights[place + 1] > 0:
                    logp, logq = p[place].log_softmax(0), q[place].log_softmax(0)
                    kl = float((logp.exp() * (logp - logq)).sum())
                    change = float((p[place] - q[place]).abs().max())
                    target = int(ids[place + 1])
                    rows.append(
                        (
                            -float(logp[target]),
                            -float(logq[target]),
                            kl,
                            change,
                            int(p[place].argmax() == q[place].argmax()),
                        )
                    )
    return np.array(rows)


def test_figures_are_those_of_a_direct_computation(pair, make_units, monkeypatch):
    units = make_units([9, 30, 5, 17, 12, 40, 8, 21, 33])
    rows = by_hand(pair, units)
    found = compare(pair[0].policy, pair[1].policy, units)
    assert (found.tokens, found.texts) == (len(rows), 9)
    assert found.perplexity_before == pytest.approx(np.exp(rows[:, 0].mean()), rel=1e-5)
    assert found.perplexity_after == pytest.approx(np.exp(rows[:, 1].mean()), rel=1e-5)
    assert found.kl == pytest.approx(rows[:, 2].mean(), rel=1e-4) and found.kl > 1e-4
    assert found.kl_most == pytest.approx(rows[:, 2].max(), rel=1e-4)
    assert found.largest_logit_change == pytest.approx(rows[:, 3].max(), rel=1e-4)
    assert found.same_choice == pytest.approx(rows[:, 4].mean(), abs=1.5 / len(rows))
    assert found.kl_low < found.kl < found.kl_high and found.ratio_low < found.perplexity_ratio < found.ratio_high
    monkeypatch.setattr(measure, "_AT_ONCE", 288 * 3)  # three tokens at a time, a text a pass
    again = compare(pair[0].policy, pair[1].policy, units, pass_tokens=1)
    assert again.kl == pytest.approx(found.kl, rel=1e-5) and again.perplexity_after == pytest.approx(
        found.perplexity_after, rel=1e-6
    )


def test_a_model_against_itself_has_not_changed(pair, make_units):
    found = compare(pair[0].policy, pair[0].policy, make_units([9, 14]))
    assert (found.kl, found.kl_most, found.largest_logit_change) == (0.0, 0.0, 0.0)
    assert (found.perplexity_ratio, found.same_choice, found.kl_low) == (1.0, 1.0, None)
    with pytest.raises(DataError, match="no token"):
        compare(pair[0].policy, pair[0].policy, [])


def test_probabilities_of_labels():
    p, q = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.25, 0.75], [0.9, 0.1]])
    found = compare_probabilities(p, q)
    assert found["kl"] == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)) / 2)
    assert found["same_choice"] == 0.5 and found["rows"] == 2
