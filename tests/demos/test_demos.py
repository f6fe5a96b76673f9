"""The demonstrations show what they say: exact numbers, in both languages."""

import math

import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.demos import attention, descent, formats, norm, position, precision, step, width
from tunesmith.model.load import load

SENTENCE = "the cat sat on the mat"


def test_formats_show_the_notes_table():
    """E6."""
    shown = formats.show()
    found = shown.facts["formats"]
    assert found["fp16"]["rounded"] == "inf" and found["bf16"]["rounded"] == 123392.0
    assert "fp16" in shown.text and "65504" in shown.text and "inf" in shown.text
    assert [line.split()[0] for line in shown.text.splitlines()[1:11]] == [*found]
    assert formats.show(1.0, largest=12.7).facts["formats"]["int4"]["rounded"] == pytest.approx(12.7 / 7)
    assert "형식" in formats.show(lang="ko").text


@pytest.mark.parametrize("layer", [0])
def test_attention_by_hand_is_the_models(layer):
    """A7: rows sum to 1, nothing later is seen, q k v by hand give the module's output."""
    model = load("pico", dtype="fp64", seed=1)
    ids = model.tokenizer.encode(SENTENCE)
    weights, off = attention.attention(model.net, ids, layer)
    assert weights.shape == (2, len(ids), len(ids))
    assert torch.allclose(weights.sum(-1), torch.ones(2, len(ids)), atol=1e-6)
    assert not weights.triu(1).any()
    assert off < 1e-6
    eager = load("pico", dtype="fp64", seed=1).net
    eager.set_attn_implementation("eager")
    expected = eager(input_ids=torch.tensor([ids]), output_attentions=True).attentions[layer][0]
    assert torch.allclose(weights.double(), expected.double(), atol=1e-6)


def test_raw_embeddings_see_no_direction_and_no_context():
    model = load("pico", seed=1)
    alike = attention.embeddings_alike(model.net, model.tokenizer.encode("abca"))
    assert torch.allclose(alike, alike.T)
    assert float(alike[0, 3]) == pytest.approx(1.0)  # the same letter, wherever it stands


def test_the_attention_map_is_shown_and_drawn():
    shown = attention.show("가나 abc", model="pico", layer=0, head=1)
    assert len(shown.facts["weights"]) == len(shown.facts["tokens"])
    assert (
        shown.svg.startswith("<svg")
        and shown.svg.count("<rect") == len(shown.facts["tokens"]) * (len(shown.facts["tokens"]) + 1) // 2
    )
    assert "Rows add up to 1" in shown.text
    assert "행의 합은" in attention.show("abc", model="pico", lang="ko").text
    with pytest.raises(SettingError, match="layer is 3"):
        attention.show(SENTENCE, model="pico", layer=3)
    with pytest.raises(SettingError, match="head is 2"):
        attention.show(SENTENCE, model="pico", head=2)
    with pytest.raises(SettingError, match="tokens"):
        attention.show("long " * 40, model="pico")


def test_without_positions_attention_knows_no_order():
    """A6: permuting words permutes outputs without positions and changes them with; only relative ones bear a shift."""
    found = position.show("dog bites man").facts["kinds"]
    assert found["none"]["permuted"] < 1e-12 and found["none"]["shifted"] < 1e-12
    for kind in ("absolute", "relative", "bias"):
        assert found[kind]["permuted"] > 1e-3
    for kind in ("relative", "bias"):
        assert found[kind]["shifted"] < 1e-12
    assert found["absolute"]["shifted"] > 1e-3
    assert [*position.show("a b c", kind="absolute").facts["kinds"]] == ["absolute"]
    assert "그대로" in position.show("개가 사람을 물었다", lang="ko").text
    with pytest.raises(SettingError, match="kind"):
        position.show("a b", kind="relativ")


def test_layer_norm_does_not_look_at_batch_mates():
    """A9: mean 0 and variance 1 for each sample; batch norm moves with its batch mates."""
    found = norm.show().facts
    layer, batch = found["norms"]["layer"], found["norms"]["batch"]
    assert layer["moved"] == 0 and abs(layer["mean"]) < 1e-12 and layer["variance"] == pytest.approx(1, abs=1e-4)
    assert batch["moved"] > 0.1 and abs(batch["variance"] - 1) > 0.05
    assert found["output"]["post"] == pytest.approx((0, 1), abs=1e-4)
    assert abs(found["output"]["pre"][1] - 1) > 0.1
    assert all(math.isfinite(size) for sizes in found["gradients"].values() for size in sizes)
    assert len(found["gradients"]["pre"]) == norm.DEPTH
    assert [*norm.show("pre").facts["gradients"]] == ["pre"]
    with pytest.raises(SettingError, match="place"):
        norm.show("middle")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradients_are_the_numeric_derivatives(optimizer):
    """E5: to 1e-4 (here 1e-8), and the update is the optimiser's."""
    found = step.show(optimizer, lr=0.05).facts
    assert found["largest_difference"] < 1e-8
    assert len(found["weights"]) == 2 * 3 + 3 + 3 + 1
    assert found["loss_after"] < found["loss"]
    for one in found["weights"].values():
        moved = one["after"] - one["before"]
        expected = -0.05 * one["gradient"] if optimizer == "sgd" else -0.05 * math.copysign(1, one["gradient"])
        assert moved == pytest.approx(expected, rel=1e-4)
    assert "수치 미분" in step.show(lang="ko").text


def test_the_nets_own_output_is_the_formula():
    net, (x, _) = step.network()
    weights = {name: p.detach() for name, p in net.named_parameters()}
    assert float(step.net_out(weights, x)) == pytest.approx(float(net(x)[0].detach()))


def test_korean_letters_are_two_wide():
    assert width("ab가나") == 6 and width("e\u0301") == 1


def test_small_updates_survive_masters_and_help_and_not_bf16_alone():
    """E8: mixed precision follows fp32, pure bf16 is shown to be worse."""
    found = precision.show(steps=300).facts
    ways, wanted = found["ways"], found["ways"]["fp32"]["moved"]
    assert wanted == pytest.approx(-3e-4, rel=1e-3)
    for name in ("bf16, fp32 masters", "bf16, kahan"):
        assert ways[name]["moved"] == wanted
    assert ways["bf16, stochastic"]["moved"] == pytest.approx(wanted, rel=0.02)
    assert ways["bf16 alone"]["moved"] == 0
    assert [one["bytes"] for one in ways.values()] == [12, 14, 12, 10, 6]
    assert found["fp16"]["plain"] > 0.3 and found["fp16"]["scaled"] == 0
    assert "가중치당" in precision.show(steps=1, lang="ko").text


def test_descent_is_slow_below_diverges_above_and_momentum_is_sooner():
    """D2, D3: each weight is multiplied by 1 - lr x curvature in a step, so the numbers of steps are known."""
    found = {rate: descent.descend(rate, 0.0) for rate in (0.001, 0.04, 0.079, 0.081)}
    assert found[0.001]["steps"] is None and not found[0.001]["diverged"]
    left = sum(c * (1 - 0.001 * c) ** (2 * descent.STEPS) for c in descent.CURVATURE) / sum(descent.CURVATURE)
    assert found[0.001]["loss"] == pytest.approx(left, rel=1e-9)
    along = (1 - 0.04) ** 2  # what is left along the valley decides: across, 1 - lr x 25 is 0
    assert found[0.04]["steps"] == math.ceil(math.log(descent.TARGET * 26) / math.log(along))
    assert found[0.079]["steps"] is not None and found[0.081]["diverged"]
    assert descent.descend(0.01, 0.9)["steps"] < descent.descend(0.01, 0.0)["steps"]
    shown = descent.show()
    assert "diverges" in shown.text and len(shown.text.splitlines()) == 2 + len(descent.RATES)
    assert "발산" in descent.show(0.1, lang="ko").text
    for wrong in ({"lr": 0.0}, {"momentum": 1.0}):
        with pytest.raises(SettingError):
            descent.show(**wrong)
