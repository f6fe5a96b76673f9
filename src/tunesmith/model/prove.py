"""What a model must show at load before we trust its shortcuts: isolated documents, and logits equal to its head's.

    facts = prove(net)      # Proof(layout="packed", exact_head=True, reason="")

Position ids alone do not isolate packed documents in every architecture (encoders ignore them, state-space layers carry
their state over), so nothing is believed: one document is changed and the other's hidden states must not move by a bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tunesmith.model.batch import pack, pad
from tunesmith.model.policy import Policy
from tunesmith.text.example import Example, Unit


@dataclass(frozen=True)
class Proof:
    """layout: "packed" or "padded"; exact_head: our head gives the model's own logits; lean: so does our own forward;
    reason: why a model is padded, in words."""

    layout: str
    exact_head: bool
    reason: str = ""
    lean: bool = False


@torch.no_grad()
def prove(net: nn.Module, *, tolerance: float | None = None) -> Proof:
    """Run a few tokens through the model three ways and say which layout and head are right for it."""
    training = net.training
    net.eval()
    try:
        return _prove(net, tolerance)
    finally:
        net.train(training)


def _prove(net: nn.Module, tolerance: float | None) -> Proof:
    wide = next(net.parameters()).dtype in (torch.float32, torch.float64)
    tolerance = tolerance if tolerance is not None else (1e-4 if wide else 6e-2)
    draw = np.random.default_rng(0)
    vocab = net.config.vocab_size
    first, other, second = (draw.integers(3, max(4, vocab - 1), size=n) for n in (7, 7, 11))

    def unit(ids: np.ndarray) -> Unit:
        return Unit((Example.of(ids.tolist(), [1.0] * len(ids)),))

    policy = Policy(net)
    alone = [policy_hidden(Policy(net, layout="padded"), [unit(ids)]) for ids in (first, second)]
    exact = _head_is_exact(net, policy, second, alone[1], tolerance)
    try:
        together = policy_hidden(policy, [unit(first), unit(second)])
        changed = policy_hidden(policy, [unit(other), unit(second)])
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        return Proof("padded", exact, f"packing is not possible with {type(net).__name__}: {error}")
    size = len(first)
    if not torch.equal(together[size:], changed[size:]):
        return Proof("padded", exact, f"{type(net).__name__} lets packed documents see each other, so rows are padded")
    apart = max((together[:size] - alone[0]).abs().max().item(), (together[size:] - alone[1]).abs().max().item())
    spread = max(1.0, alone[1].abs().max().item())
    if not apart <= tolerance * spread:
        return Proof("padded", exact, f"{type(net).__name__} packed and alone differ by {apart:.2g}, so rows are padded")
    return Proof("packed", exact, lean=_lean_agrees(net, [unit(first), unit(second)], together, tolerance))


def policy_hidden(policy: Policy, units: list[Unit]) -> torch.Tensor:
    """Hidden states of all real tokens of `units`, (tokens, dim)."""
    made = (pack if policy.layout == "packed" else pad)(units).to(policy.device)
    states = policy.hidden(made)
    return states if made.mask is None else states[made.mask.reshape(-1)]


def _lean_agrees(net: nn.Module, units: list[Unit], states: torch.Tensor, tolerance: float) -> bool:
    """Does our own forward give the module's states, and keep documents apart?"""
    policy = Policy(net, lean=True)
    if policy.lean is None or policy.device.type != "cpu":
        return False
    batch = pack(units).to(policy.device)
    wanted = states.index_select(0, batch.predictor)
    got = policy.predicting(batch)
    return bool((got - wanted).abs().max() <= tolerance * max(1.0, wanted.abs().max().item()))


def _head_is_exact(net: nn.Module, policy: Policy, ids: np.ndarray, hidden: torch.Tensor, tolerance: float) -> bool:
    head = policy.head()
    if head is None:
        return False
    own = net(input_ids=torch.as_tensor(ids, device=policy.device)[None], use_cache=False).logits[0].float()
    ours = head.logits(hidden)
    return bool((own - ours).abs().max() <= tolerance * max(1.0, own.abs().max().item()))
