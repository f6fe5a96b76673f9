"""What a model must show at load before we trust its shortcuts: isolated documents, and logits equal to its head's.

    facts = prove(net)      # Proof(layout="packed", exact_head=True, reason="")

Position ids alone do not isolate packed documents in every architecture (encoders ignore them, state-space layers carry
their state over), so nothing is believed: one document is changed and the other's hidden states must not move by a bit.
What cannot be trained on as a causal language model at all is refused: a model that reads later tokens (an encoder), or
one whose logits are not what its head makes of its last hidden state. Other kinds (see kinds.py) may read both ways.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.model.batch import pack, pad
from tunesmith.model.encoder import Encoder
from tunesmith.model.policy import Policy
from tunesmith.model.segments import Segments
from tunesmith.text.example import Example, Unit

# Of a causal model earlier states do not move at all when later tokens change, in any number format; room for a kernel's other order.
MOVED = 1e-4


@dataclass(frozen=True)
class Proof:
    """layout: "packed" or "padded"; exact_head: our head gives the model's own logits; lean: so does our own forward;
    reason: why a model is padded, in words; both_ways: it reads later tokens too, as encoders do."""

    layout: str
    exact_head: bool
    reason: str = ""
    lean: bool = False
    both_ways: bool = False


@torch.no_grad()
def prove(net: nn.Module, kind: str = "causal", *, tolerance: float | None = None) -> Proof:
    """Run a few tokens through the model several ways and say which layout and head are right for it.

    Raises ModelError for what is not of that kind. An architecture with attention that ours does not implement
    gets its own back and runs padded.
    """
    training = net.training
    net.eval()
    try:
        if kind == "seq2seq":
            return Proof("padded", False, "an encoder-decoder reads each text in a row of its own")
        return _prove(net, kind, tolerance)
    finally:
        net.train(training)


def _prove(net: nn.Module, kind: str, tolerance: float | None) -> Proof:
    wide = next(net.parameters()).dtype in (torch.float32, torch.float64)
    tolerance = tolerance if tolerance is not None else (1e-4 if wide else 6e-2)
    draw = np.random.default_rng(0)
    vocab = net.config.vocab_size
    first, other, second = (draw.integers(3, max(4, vocab - 1), size=n) for n in (7, 7, 11))

    def unit(ids: np.ndarray) -> Unit:
        return Unit((Example.of(ids.tolist(), [1.0] * len(ids)),))

    policy, padded = Policy(net), Policy(net, layout="padded")
    own = ""
    try:
        alone = [policy_hidden(padded, [unit(ids)]) for ids in (first, second)]
    except NotImplementedError as error:
        own = f"{type(net).__name__} keeps its own attention, so rows are padded ({error})"
        net.set_attn_implementation("eager")
        alone = [policy_hidden(padded, [unit(ids)]) for ids in (first, second)]
    spread = max(1.0, alone[1].abs().max().item())
    other_end = policy_hidden(padded, [unit(_with_other_end(second))])
    moved = (alone[1][:-4] - other_end[:-4]).abs().max().item()
    if not moved <= MOVED * spread:
        return _both_ways(net, kind, second, alone[1], tolerance)
    exact = kind == "causal" and _head_is_exact(net, policy, second, alone[1], tolerance)
    if kind == "classify":
        _scores_are_exact(net, padded, unit(second), tolerance)
    if own or (own := _beyond_segments(net)):
        return Proof("padded", exact, own)
    try:
        together = policy_hidden(policy, [unit(first), unit(second)])
        changed = policy_hidden(policy, [unit(other), unit(second)])
        windowed = _windows_are_given(net, policy, [unit(first), unit(second)])
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        return Proof("padded", exact, f"packing is not possible with {type(net).__name__}: {error}")
    size = len(first)
    if not (together[size:] - changed[size:]).abs().max().item() <= MOVED * spread:
        return Proof("padded", exact, f"{type(net).__name__} lets packed documents see each other, so rows are padded")
    if not windowed:
        return Proof("padded", exact, f"{type(net).__name__} keeps its sliding window to itself, so rows are padded")
    apart = max((together[:size] - alone[0]).abs().max().item(), (together[size:] - alone[1]).abs().max().item())
    if not apart <= tolerance * spread:
        return Proof(
            "padded", exact, f"{type(net).__name__} packed and alone differ by {apart:.2g}, so rows are padded"
        )
    return Proof("packed", exact, lean=_lean_agrees(net, [unit(first), unit(second)], together, tolerance))


def _with_other_end(ids: np.ndarray) -> np.ndarray:
    """The same ids with the last four changed."""
    return np.concatenate([ids[:-4], np.where(ids[-4:] == 1, 2, 1)])


def _both_ways(net: nn.Module, kind: str, ids: np.ndarray, hidden: torch.Tensor, tolerance: float) -> Proof:
    """The proof of a model whose earlier states moved when the last four tokens were changed."""
    if kind == "causal":
        raise ModelError(
            f"{type(net).__name__} reads later tokens: it is an encoder, not a causal language model",
            wanted="A decoder, which predicts each token from those before it.",
            fix="An encoder learns hidden words (method=masked), labels (method=classify) or vectors (method=embed).",
        )
    reason = f"{type(net).__name__} reads each text in both directions, so rows are padded"
    if kind != "masked":
        return Proof("padded", False, reason, both_ways=True)
    own = net(input_ids=torch.as_tensor(ids, device=hidden.device)[None]).logits[0].float()
    logits = Encoder(net).head_logits(hidden)
    exact = logits is not None and bool((own - logits).abs().max() <= tolerance * max(1.0, own.abs().max().item()))
    return Proof("padded", exact, reason, both_ways=True)


def _scores_are_exact(net: nn.Module, policy: Policy, unit: Unit, tolerance: float) -> None:
    """Refuse a decoder whose scores are not its `score` layer over the last token's state."""
    batch = pad([unit]).to(policy.device)
    own = net(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False).logits.float()  # type: ignore[union-attr]
    if not hasattr(net, "score") or (own - policy.scores(batch)).abs().max() > tolerance * max(
        1.0, own.abs().max().item()
    ):
        raise ModelError(
            f"the scores of {type(net).__name__} are not what its head makes of the last token's state",
            wanted="A decoder with a `score` layer, or an encoder.",
        )


def _beyond_segments(net: nn.Module) -> str:
    """Why packing is out of the question, from the configuration alone; empty when it is not."""
    kinds = set(getattr(net.config, "layer_types", None) or ())
    if "chunked_attention" in kinds:
        return f"{type(net).__name__} attends in chunks, which packing does not know, so rows are padded"
    return ""


class _Watched(Segments):
    """Bounds of documents that also collect the sliding window each attention call was given."""

    windows: list[int | None]


def _windows_are_given(net: nn.Module, policy: Policy, units: list[Unit]) -> bool:
    """Does every layer with a sliding window pass it to our attention? Some architectures put it into the mask alone."""
    kinds = getattr(net.config, "layer_types", None)
    if kinds is not None:
        wanted = sum(kind == "sliding_attention" for kind in kinds)
    else:
        wanted = net.config.num_hidden_layers if getattr(net.config, "sliding_window", None) else 0
    if not wanted:
        return True
    batch = pack(units).to(policy.device)
    watched = _Watched(batch.segments or ())
    watched.windows = []
    policy.hidden(replace(batch, segments=watched))
    return sum(window is not None for window in watched.windows) >= wanted


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
    """Do our chunked logits equal the model's own? If only the head module itself gives them, False; if neither, refuse."""
    own = net(input_ids=torch.as_tensor(ids, device=policy.device)[None], use_cache=False).logits[0].float()

    def equal(logits: torch.Tensor) -> bool:
        return bool((own - logits).abs().max() <= tolerance * max(1.0, own.abs().max().item()))

    head = policy.head()
    if head is not None and equal(head.logits(hidden)):
        return True
    if not equal(Policy(net, exact_head=False).logits(hidden)):
        raise ModelError(
            f"the logits of {type(net).__name__} are not what its head makes of its last hidden states",
            wanted="A model whose logits are its head's, perhaps scaled or capped.",
        )
    return False
