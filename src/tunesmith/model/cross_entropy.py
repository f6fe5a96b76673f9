"""log softmax of a chunk of logits at its targets, with the gradient in place of the logits: on a CPU one reading and one writing.

    if fits(logits):
        logp = cross_entropy(logits, target, scale, gradient=True)     # logits now hold softmax - onehot(target)

What torch does for this goes over a chunk of logits seven times, in bf16 with two copies in fp32. The kernel is
kernels/cross_entropy.c, built by compiled.py; loss.py says what is computed where there is none.
"""

import ctypes

import torch

from tunesmith.model.compiled import call, reads


def fits(logits: torch.Tensor) -> bool:
    """Whether the kernel reads such logits."""
    return logits.is_contiguous() and reads("cross_entropy", logits)


@torch.library.custom_op("tunesmith::cross_entropy", mutates_args=("logits",))
def cross_entropy(logits: torch.Tensor, target: torch.Tensor, scale: float, gradient: bool) -> torch.Tensor:
    """log p of each target (n,), float32, of scale * logits (n, vocab), scale > 0. With gradient the logits become
    softmax - onehot(target), in their own dtype. IndexError where a target is outside the vocabulary."""
    logp = _sizes(logits, target, scale, gradient)
    rows, vocab = logits.shape
    sizes = (ctypes.c_int64(rows), ctypes.c_int64(vocab), ctypes.c_float(scale), int(gradient))
    failed = call("cross_entropy", "cross_entropy", logits, target.contiguous(), logp, *sizes)
    if failed == 2:
        raise IndexError(f"a target is not below the {vocab} of the vocabulary: {target.min()} to {target.max()}")
    if failed:
        raise MemoryError("the loss could not have its working memory")
    return logp


@cross_entropy.register_fake
def _sizes(logits, target, scale, gradient):
    return logits.new_empty(len(target), dtype=torch.float32)
