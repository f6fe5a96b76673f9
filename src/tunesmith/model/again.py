"""Tensors that a layer is given but that are not kept for it: when the backward pass asks for one, it is made again.

    y = norm(x, weight, eps)
    with made_again(y, lambda: norm(x, weight, eps)):
        q, k, v = q_proj(y), k_proj(y), v_proj(y)         # autograd keeps no y: the norm is a thousandth of the products' work

What `make` reads has to be kept anyway. Where something else decides what is kept (checkpointing, activations that wait outside
memory: `as_given`), it does. What is kept in the end, `looked_at` tells.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

_given = 0
_look: Callable[[torch.Tensor], object] | None = None


@contextmanager
def as_given() -> Iterator[None]:
    """Within it autograd is given every tensor itself."""
    global _given
    _given += 1
    try:
        yield
    finally:
        _given -= 1


@contextmanager
def looked_at(look: Callable[[torch.Tensor], object]) -> Iterator[None]:
    """Within it `look` is called with every tensor that autograd keeps."""
    global _look
    before, _look = _look, look
    try:
        with saved_tensors_hooks(_seen, _unpack):
            yield
    finally:
        _look = before


@contextmanager
def made_again(tensor: torch.Tensor, make: Callable[[], torch.Tensor]) -> Iterator[None]:
    """Within it autograd keeps, instead of `tensor` and whole views of it, that `make` makes it: the same numbers, called without gradients."""
    if _given or not torch.is_grad_enabled():
        yield
        return
    again = _Again(tensor, make)
    try:
        with saved_tensors_hooks(again.pack, _unpack):
            yield
    finally:
        again.storage = None


class _Again:
    """One tensor, made when first asked for and held until it was asked for as often as it would have been kept."""

    def __init__(self, tensor: torch.Tensor, make: Callable[[], torch.Tensor]) -> None:
        self.storage: Any = tensor.untyped_storage()
        self.numel, self.make = tensor.numel(), make
        self.uses = 0
        self.made: torch.Tensor | None = None

    def pack(self, tensor: torch.Tensor) -> Any:
        whole = tensor.numel() == self.numel and tensor.is_contiguous()
        if not whole or tensor.untyped_storage() is not self.storage:
            return _seen(tensor)
        self.uses += 1
        return self, tensor.shape

    def back(self, shape: torch.Size) -> torch.Tensor:
        if self.made is None:
            with torch.no_grad():
                self.made = self.make()
        made, self.uses = self.made, self.uses - 1
        if self.uses <= 0:
            self.made = None
        return made.view(shape)


def _seen(tensor: torch.Tensor) -> torch.Tensor:
    if _look is not None:
        _look(tensor)
    return tensor.detach()  # itself, where it is its node's own output, would be a ring that nothing frees


def _unpack(packed: Any) -> torch.Tensor:
    return packed if torch.is_tensor(packed) else packed[0].back(packed[1])
