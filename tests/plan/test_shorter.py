"""A deep network's peak from two shallow ones equals the peak of all its layers."""

import pytest
from transformers import LlamaConfig, Qwen3Config

from tunesmith.core.shelf import shelf
from tunesmith.plan.network import fake_policy
from tunesmith.plan.shorter import SHALLOW, alike, cut, deeper
from tunesmith.plan.simulate import simulate
from tunesmith.text.example import Example, Unit
from tunesmith.train.optim import Optimizer
from tunesmith.train.recompute import checkpoint_activations
from tunesmith.train.run import lower

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("make", "adapter", "checkpointing", "precision", "length"),
    [
        (LlamaConfig, "full", False, "fp32", 30),
        (Qwen3Config, "full", True, "bf16", 200),
        (LlamaConfig, "qlora", False, "bf16", 100),
    ],
)
def test_deeper_equals_every_layer(make, adapter, checkpointing, precision, length):
    config = make(**SIZES, vocab_size=500, head_dim=16)
    assert alike(config)

    def seen(layers: int):
        def optimizer(net):
            masters = lower(net) if precision == "bf16" else None
            checkpoint_activations(net, checkpointing)
            return Optimizer(list(net.named_parameters()), masters=masters)

        units = [Unit((Example.of([1] * length, [1.0] * length),))]
        return simulate(
            lambda: fake_policy(cut(config, layers), shelf("adapters").make(adapter)), shelf("objectives").make("sft"), units,
            make_optimizer=optimizer,
        )  # fmt: skip

    found = deeper(seen(SHALLOW[0]), seen(SHALLOW[1]), 16)
    whole = seen(16)
    assert found.peak.bytes == pytest.approx(whole.peak.bytes, rel=0.002)
    assert found.held == whole.held and found.trainable == whole.trainable
    assert found.flops == pytest.approx(whole.flops, rel=1e-6)


def test_layers_of_several_kinds_are_all_run():
    assert not alike(LlamaConfig(**{**SIZES, "num_hidden_layers": 8}))
    mixed = Qwen3Config(**SIZES)
    mixed.layer_types = ["full_attention", "sliding_attention"] * 10
    assert not alike(mixed)
