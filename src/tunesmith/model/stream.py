"""A frozen base larger than the memory: its matrices stay in their file and are read when their layer runs (`base: streamed`).

    net = ...                               # loaded in its file's number format: its weights are views of the mapped file
    stream_network(net, torch.float32)      # every linear layer of the body becomes a PackedLinear over the file, in place

A pass, forward or backward, holds one matrix at a time, so what a step needs beside embeddings, head and adapter is its activations
and the largest matrix. Numbers are those of the base loaded whole, bit by bit. Each pass reads every matrix once more, from the
kernel's cache where there is room and from the disk where there is none; use it when the base does not fit, also in four bits.
(L2L: Pudipeddi et al. 2020, arXiv 2002.05645; ZeRO-Infinity: Rajbhandari et al. 2021, arXiv 2104.07857.)
"""

import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.model.mapped import Mapped, Maps
from tunesmith.model.packed import PackedLinear, matrices


def stream_network(net: nn.Module, dtype: torch.dtype) -> list[str]:
    """Leave every linear layer of the body in its file, in place; returns their names. What is left is cast to `dtype`.

    net   as transformers loaded it, in the number format of its file; on fake tensors (the planner) any network
    Raises ModelError where no matrix lies in a mapped file as it is used.
    """
    names, maps = matrices(net), Maps()
    found = [name for name in names if maps.hold(net.get_submodule(name).weight)]  # type: ignore[arg-type]
    if not found:
        raise ModelError(
            f"base: streamed, but none of the {len(names)} matrices of {type(net).__name__} can be read from its file as it is",
            wanted="Linux, and safetensors files whose tensors are the model's own, not put together at load.",
            fix="Leave base out, or take base: nf4.",
        )
    for name in found:
        old = net.get_submodule(name)
        transposed = type(old).__name__ == "Conv1D"
        view = old.weight.detach()  # type: ignore[union-attr,operator]
        rows, columns = view.shape[::-1] if transposed else view.shape
        layer = PackedLinear(old, Mapped(view, (rows, columns), transposed))
        layer.dtype = dtype
        net.set_submodule(name, layer.train(old.training))
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.dtype != dtype and tensor.dtype in (torch.bfloat16, torch.float16, torch.float32):
            tensor.data = tensor.data.to(dtype)
    return found


def is_streamed(net: nn.Module) -> bool:
    """Whether matrices of the network lie in its file."""
    return any(isinstance(module, PackedLinear) and module.layout is Mapped for module in net.modules())
