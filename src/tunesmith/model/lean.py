"""A lean training forward for the Llama family: the same numbers as transformers', with less done and less kept.

    body = Lean.of(net)                # None when the architecture is another
    states = body.predicting(batch)    # (targets, dim): hidden states of the tokens that predict something

It reads the module's own parameters and calls its own projections, so adapted layers take effect. What it saves: one
tensor a norm instead of five, no copies for rotary and attention layouts, documents of equal length in one batch, and the
last layer's feed-forward only where a token is predicted; in wide models norms and gates are made again for the products
that read them (again.py). model/prove.py compares it with the module's forward at load.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.model.again import as_given, made_again
from tunesmith.model.batch import Batch
from tunesmith.model.parts import add_norm, all_rotated, gated, norm
from tunesmith.model.products import fits, projected, watched
from tunesmith.model.segments import Segments, attend
from tunesmith.model.sizes import even

WIDE = 512
"""Elements of a token's state from which on norms and gates are made again: there it costs nothing that could be measured; for a model 256 wide,
whose products are as much smaller, 4 %."""

_TASKS = ("CausalLM", "SequenceClassification")


class Lean:
    """The body of a Llama-like decoder (Llama, Mistral, Qwen2, Qwen3 without a sliding window)."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.body = net.model
        config = net.config
        first = self.body.layers[0].self_attn
        self.head_dim, self.scale = int(first.head_dim), float(first.scaling)
        self.eps = float(getattr(config, "rms_norm_eps", 1e-6))
        self.normed = hasattr(first, "q_norm")
        self.wide = int(config.hidden_size) >= WIDE

    @staticmethod
    def of(net: nn.Module) -> "Lean | None":
        """Look at the parts; anything unknown means None, and the module's own forward is used."""
        config, body = net.config, getattr(net, "model", None)
        parts = {"embed_tokens", "layers", "norm", "rotary_emb"}
        if body is None or {name for name, _ in body.named_children()} != parts or not len(body.layers):
            return None
        known = {f"{name}For{task}" for name in ("Llama", "Mistral", "Qwen2", "Qwen3") for task in _TASKS}
        if type(net).__name__ not in known:
            return None
        if getattr(config, "attention_dropout", 0.0) or config.hidden_act not in ("silu", "swish"):
            return None
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
            return None
        return Lean(net)

    def predicting(self, batch: Batch) -> torch.Tensor:
        """(targets, dim): last hidden states of the predicting tokens of a packed batch."""
        assert batch.segments is not None
        if batch.ids.device.type != "cpu":
            raise ValueError("the lean forward is made for the CPU")
        ids, positions, segments, predictor = _evened(batch, self.body.embed_tokens.weight)
        x = self.body.embed_tokens(ids)[0]
        cos, sin = self.body.rotary_emb(x, positions)
        half = cos.shape[-1] // 2
        cos, sin = cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
        layers = list(self.body.layers)
        checkpointed = getattr(layers[0], "gradient_checkpointing", False) and not self.asked
        recompute = self.net.training and torch.is_grad_enabled() and checkpointed
        delta = None  # what the layer before adds to x: the next norm adds it in the same go
        for number, layer in enumerate(layers):
            chosen = predictor if number == len(layers) - 1 else None
            if recompute:
                x = layer._gradient_checkpointing_func(self._whole, layer, x, cos, sin, segments, chosen)
            else:
                x, delta = self._layer(layer, x, delta, cos, sin, segments, chosen)
        return add_norm(x, delta, self.body.norm.weight, self.eps)[1][: len(batch.predictor)]

    @property
    def asked(self) -> bool:
        """Whether norms and gates are to be made again at any width: selective checkpointing (train/recompute.py)."""
        return getattr(self.net, "makes_again", False)

    def _whole(self, layer: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        """A layer that gives one tensor: all that is kept of it when it is computed again."""
        with as_given():
            x, delta = self._layer(layer, x, None, *rest)
        return x + delta

    def _layer(
        self,
        layer: Any,
        x: torch.Tensor,
        delta: torch.Tensor | None,
        cos,
        sin,
        segments: Segments,
        chosen: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x after attention, what the feed-forward adds to it), of x + delta."""
        attention, mlp = layer.self_attn, layer.mlp
        x, y = add_norm(x, delta, layer.input_layernorm.weight, self.eps)
        with self._again(y, self._norm(x, layer.input_layernorm)):
            made = _of_one(y, attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (each.view(len(y), -1, self.head_dim) for each in made)
        if self.normed:
            q, k = norm(q, attention.q_norm.weight, self.eps), norm(k, attention.k_norm.weight, self.eps)
        q, k = all_rotated((q, k), cos, sin)
        mixed = attend(q, k, v, segments, self.scale).view(len(y), -1)
        if chosen is not None:  # nothing reads the other tokens after the last attention
            mixed, x = mixed.index_select(0, chosen), x.index_select(0, chosen)
        x, y = add_norm(x, _of_one(mixed, attention.o_proj)[0], layer.post_attention_layernorm.weight, self.eps)
        with self._again(y, self._norm(x, layer.post_attention_layernorm)):
            gate, up, *made = _of_one(y, mlp.gate_proj, mlp.up_proj, gate=True)
        z = gated(gate, up, *made)
        with self._again(z, partial(gated, gate.detach(), up.detach())):
            return x, _of_one(z, mlp.down_proj)[0]

    def _again(self, tensor: torch.Tensor, make: Callable[[], torch.Tensor]) -> AbstractContextManager[None]:
        return made_again(tensor, make) if self.wide or self.asked else nullcontext()

    def _norm(self, x: torch.Tensor, norm_of: nn.Module) -> Callable[[], torch.Tensor]:
        return partial(norm, x.detach(), norm_of.weight.detach(), self.eps)


def _of_one(y: torch.Tensor, *projections: Any, gate: bool = False) -> Sequence[torch.Tensor]:
    """What projections make of the same input: together where they know how (`together` of an adapter's layer) or are plain, else each
    alone. gate: of two, silu of the first times the second may come after them."""
    if all(map(_plain, projections)) and fits(y, *(projection.weight for projection in projections)):
        return projected(y, [projection.weight for projection in projections], gate)
    together = getattr(projections[0], "together", None) if len(projections) > 1 else None
    made = together(y, projections, gate) if together is not None else None
    return made if made is not None else [projection(y) for projection in projections]


def _plain(layer: Any) -> bool:
    """Whether all that a layer does is to multiply by its weight."""
    return type(layer) is nn.Linear and layer.bias is None and not watched(layer)


def _evened(batch: Batch, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Segments, torch.Tensor]:
    """(ids, positions, segments, predictor) of as many rows as come again: a document more, which nothing reads, fills the pass up."""
    assert batch.segments is not None
    num, targets = batch.ids.shape[1], len(batch.predictor)
    fill, more = even(num, like) - num, even(targets, like) - targets
    ids, positions, segments, predictor = batch.ids, batch.positions, batch.segments, batch.predictor
    if fill:
        ids, positions = (F.pad(x, (0, fill)) for x in (ids, positions))
        segments = segments.followed_by(fill)
    return ids, positions, segments, F.pad(predictor, (0, more)) if more else predictor
