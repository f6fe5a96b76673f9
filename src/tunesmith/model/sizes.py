"""Numbers of rows that come again: products in bf16 on a CPU are compiled for every number of rows they meet.

    even(1903, weight)      # 1920 where `weight` is bf16 on a CPU: what a pass of 1,903 tokens is filled up to; else 1903

torch gives such products to oneDNN, which writes code for each new shape and keeps the last thousand: in a small model that takes
a third of a packed pass's time, as passes never have the same length twice, and about a megabyte a shape.
"""

import torch


def even(rows: int, like: torch.Tensor) -> int:
    """`rows` rounded up to an eighth of its octave, at least 16 and at most 512 at a time, where products with `like` want it."""
    if like.dtype not in (torch.bfloat16, torch.float16) or like.device.type != "cpu":
        return rows
    octave = (1 << rows.bit_length()) >> 1
    step = min(512, max(16, octave // 8))
    return -(-rows // step) * step
