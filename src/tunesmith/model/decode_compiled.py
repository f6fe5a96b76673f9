"""The lean decoder's layers in C (kernels/decode.c): a token for each row, or whole prompts; nothing of torch's between.

    step = compiled_step(net, weight_of, plain_norm, store)  # None: no compiler, or parts the kernel does not know
    hidden = step(embedded, turns, cache, prefix, places)

Small fp32 models on a CPU only. Matrices are laid out a second time, in panels of 64 outputs (adapters merged into them),
in memory that stays with the network.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from tunesmith.model.compiled import shared_library

PANEL = 64
_WIDE = 1 << 23  # weights of a head that is left to torch
_PARTS = ("norm", "qkv", "bias", "norm_q", "norm_k", "out", "norm_after", "gate", "up", "down")
_SIZES = ("rows", "layers", "hidden", "heads", "groups", "dim", "inner", "columns", "prefix", "cache_rows")


_Part = dict[str, torch.Tensor | None]


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _PARTS]


class _Facts(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int32) for name in _SIZES), ("eps", ctypes.c_float), ("scale", ctypes.c_float)]


class CompiledStep:
    """The layers' weights as the kernel reads them."""

    def __init__(
        self, run: Any, parts: Sequence[_Part], facts: dict[str, int], eps: float, scale: float,
        head: tuple[torch.Tensor, torch.Tensor, int, float] | None,
    ) -> None:  # fmt: skip
        """`head`: the last norm's gain, the head in panels, how many outputs it has, the norm's eps; None: it is torch's."""
        self.run = run  # the library
        self.kept = parts  # the pointers below are into these
        self.layers = (_Layer * len(parts))(*(_Layer(*(_pointer(part[name]) for name in _PARTS)) for part in parts))
        self.facts, self.eps, self.scale, self.head = facts, eps, scale, head

    def __call__(
        self, embedded: torch.Tensor, turns: torch.Tensor, cache: torch.Tensor, prefix: torch.Tensor, places: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        """(tokens, hidden) embeddings -> hidden states before the last norm, written over them; the cache gets their columns.

        turns (tokens, 2, dim) cosines and signed sines; cache (layers, rows, 2 groups, columns, dim), contiguous; prefix (layers,
        2, groups, prefix, dim); places int32 (tokens, 3): row of the cache, its first column, the token's own column.
        """
        sizes = {**self.facts, "rows": len(embedded), "layers": len(self.layers), "columns": cache.shape[3],
                 "prefix": prefix.shape[3], "cache_rows": cache.shape[1]}  # fmt: skip
        facts = _Facts(*(sizes[name] for name in _SIZES), self.eps, self.scale)
        assert cache.is_contiguous()  # it is written to
        tensors = [x if x.is_contiguous() else x.contiguous() for x in (embedded, turns, cache, prefix, places)]
        if self.run.decode(self.layers, facts, *(ctypes.c_void_p(x.data_ptr()) for x in tensors)):
            raise MemoryError("decoding could not have its working memory")
        return tensors[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states before the last norm (rows, hidden), which are written over -> logits (rows, vocabulary)."""
        assert self.head is not None
        gain, panels, width, eps = self.head
        hidden, made = hidden.contiguous(), hidden.new_empty(len(hidden), width)
        places = (ctypes.c_void_p(x.data_ptr()) for x in (gain, panels))
        ends = (ctypes.c_void_p(x.data_ptr()) for x in (hidden, made))
        self.run.head(*places, len(hidden), hidden.shape[1], width, ctypes.c_float(eps), *ends)
        return made


def compiled_step(
    net: Any,
    weight_of: Callable[[Any], torch.Tensor | None],
    plain_norm: Callable[[Any], bool],
    store: dict[str, torch.Tensor],
) -> CompiledStep | None:
    """`net` for the kernel; None where something in it is not what the kernel computes.

    weight_of   (module) -> the matrix it multiplies by, None where it has to be called
    """
    body, config = net.model, net.config
    attention = body.layers[0].self_attn
    dim = int(attention.head_dim)
    run = shared_library("decode")
    if run is None or dim % 16 or dim > 1024:
        return None
    eps: set[float] = set()
    parts = [_part(layer, weight_of, plain_norm, eps, store, number) for number, layer in enumerate(body.layers)]
    if len(eps) != 1 or any(part is None for part in parts):
        return None
    facts = {
        "hidden": body.layers[0].input_layernorm.weight.shape[0], "heads": int(config.num_attention_heads),
        "groups": int(config.num_key_value_heads), "dim": dim, "inner": body.layers[0].mlp.gate_proj.out_features,
    }  # fmt: skip
    scale = float(getattr(attention, "scaling", dim**-0.5))
    return CompiledStep(
        run,
        [part for part in parts if part is not None],
        facts,
        eps.pop(),
        scale,
        _head(net, weight_of, plain_norm, store),
    )


def _head(net: Any, weight_of: Any, plain_norm: Any, store: dict[str, torch.Tensor]) -> Any:
    """What CompiledStep.logits reads; None where the head is no plain product, or so wide that laying it out does not pay."""
    weight = weight_of(net.lm_head)
    if weight is None or net.lm_head.bias is not None or not plain_norm(net.model.norm) or weight.numel() > _WIDE:
        return None
    panels = _panels([weight], store, "head-panels")
    return net.model.norm.weight.detach().contiguous(), panels, len(weight), float(net.model.norm.variance_epsilon)


def _part(
    layer: Any, weight_of: Any, plain_norm: Any, eps: set[float], store: dict[str, torch.Tensor], number: int
) -> _Part | None:
    attention, mlp = layer.self_attn, layer.mlp
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    inner_norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    if not is_silu(mlp.act_fn):
        return None
    for norm in [*norms, *(norm for norm in inner_norms if norm is not None)]:
        if not plain_norm(norm):
            return None
        eps.add(float(norm.variance_epsilon))
    modules = [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    ]
    weights = [weight_of(module) for module in modules]
    if any(weight is None for weight in weights) or any(getattr(m, "bias", None) is not None for m in modules[3:]):
        return None
    q, k, v, out, gate, up, down = weights
    biases = [module.bias for module in modules[:3]]
    bias = None
    if any(one is not None for one in biases):
        bias = torch.cat(
            [torch.zeros(len(w)) if b is None else b.detach() for b, w in zip(biases, (q, k, v))]
        ).contiguous()
    matrices = {"qkv": [q, k, v], "out": [out], "gate": [gate], "up": [up], "down": [down]}
    laid = {name: _panels(some, store, f"{name}-panels{number}") for name, some in matrices.items()}
    gains = [None if norm is None else norm.weight.detach().contiguous() for norm in (*norms, *inner_norms)]
    return {**laid, "bias": bias, "norm": gains[0], "norm_after": gains[1], "norm_q": gains[2], "norm_k": gains[3]}


def is_silu(act: Any) -> bool:
    """Whether an activation is x * sigmoid(x), as a module of torch's or of transformers'."""
    return isinstance(act, nn.SiLU) or type(act).__name__ == "SiLUActivation"


def _panels(weights: Sequence[torch.Tensor], store: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """(out, in) matrices, one under the other, as (out / 64, in, 64), the last panel filled up with 0; in the store's memory."""
    outs, width = sum(len(weight) for weight in weights), weights[0].shape[1]
    shape = (-(-outs // PANEL), width, PANEL)
    place = store.get(name)
    if place is None or place.shape != shape:
        place = store[name] = torch.zeros(shape)
    whole = torch.cat([weight.detach() for weight in weights]) if len(weights) > 1 else weights[0].detach()
    full = outs // PANEL
    place[:full].copy_(whole[: full * PANEL].view(full, PANEL, width).transpose(1, 2))
    if outs % PANEL:
        place[full, :, : outs % PANEL] = whole[full * PANEL :].t()
    return place


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
