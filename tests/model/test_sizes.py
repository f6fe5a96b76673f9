"""Passes in bf16 are filled up to sizes that come again; what fills them up changes no value and no gradient."""

import pytest
import torch
import transformers

from tunesmith.model import lean, loss
from tunesmith.model.policy import Policy
from tunesmith.model.segments import Segments
from tunesmith.model.sizes import even
from tunesmith.text.example import Example, Unit

LOW, HIGH = torch.empty(0, dtype=torch.bfloat16), torch.empty(0)


def test_sizes_come_again_and_add_little():
    assert {even(rows, LOW) for rows in range(1025, 2049)} == set(range(1152, 2049, 128))
    for rows in [*range(0, 3000, 7), 16385, 100_000]:
        filled = even(rows, LOW)
        assert rows <= filled <= max(16, rows * 1.125 + 16) and even(filled, LOW) == filled
        assert even(rows, HIGH) == rows
    assert even(100_001, LOW) - 100_001 < 512


def units(shared: bool) -> list[Unit]:
    generator = torch.Generator().manual_seed(0)

    def some(length: int) -> list[int]:
        return torch.randint(3, 90, (length,), generator=generator).tolist()

    if shared:
        prompt = some(9)
        pair = [Example.of([*prompt, *some(n)], [0.0] * 9 + [1.0] * n) for n in (6, 11)]
        return [Unit(tuple(pair), shared_prompt=9), Unit((Example.of(some(21), [0.0] + [1.0] * 20),))]
    return [Unit((Example.of(some(n), [0.0] + [1.0] * (n - 1)),)) for n in (5, 17, 40)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("how", ["nll", "logprobs"])
def test_what_fills_a_pass_up_is_read_by_nobody(monkeypatch, shared, how):
    """The same network in fp32, once filled up as bf16 would be: values and gradients are the plain ones."""
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=90,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.LlamaForCausalLM(config).double()
    policy = Policy(net, lean=True)
    batch = policy.batch(units(shared))
    asked = []

    def values() -> tuple[torch.Tensor, list[torch.Tensor]]:
        net.zero_grad()
        if how == "nll":
            total, logp = policy.nll(batch)
        else:
            logp = policy.logprobs(batch)
            total = (logp * torch.linspace(-1, 1, len(logp), dtype=torch.float64)).sum()
        total.backward()
        return logp.detach(), [parameter.grad.clone() for parameter in net.parameters()]

    plain, gradients = values()
    for module in (lean, loss):
        monkeypatch.setattr(module, "even", lambda rows, like: asked.append(rows) or even(rows, LOW))
    filled, others = values()
    assert len(filled) == len(batch.target) and any(even(rows, LOW) != rows for rows in asked)
    assert torch.allclose(plain, filled, rtol=0, atol=1e-12)
    assert all(torch.allclose(one, other, rtol=0, atol=1e-12) for one, other in zip(gradients, others))


def test_a_document_more_shares_nothing():
    shared = Segments((0, 5, 10)).sharing(
        torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 5, 6]), torch.tensor([0, 1, 2, 3, 4, 8, 9])
    )
    longer = shared.followed_by(3)
    assert tuple(longer) == (0, 5, 10, 13)
    assert longer.place.tolist()[10:] == [7, 8, 9] and longer.source.tolist()[7:] == [10, 11, 12]
