"""Records what bitsandbytes makes of a few tensors: python tests/train/states8_by_bitsandbytes.py (wants pip install bitsandbytes).

Given fp64, it takes its exact path on the CPU, as its other devices do; its fp32 kernel there looks codes up in a coarse table, by
which an exact 0 does not stay 0.
"""

import json
from pathlib import Path

import bitsandbytes.functional as bnb
import torch


def numbers(count, seed):
    """As in test_states8.py."""
    at = torch.arange(count, dtype=torch.float64)
    drawn = torch.sin((at + 1) * (12.9898 + seed)) * 43758.5453
    drawn = drawn - drawn.floor() - 0.5
    return (drawn * 10.0 ** (-(at % 9)) * (at % 7 != 0)).float()


maps = {signed: bnb.create_dynamic_map(signed=signed) for signed in (True, False)}
cases = []
for count, seed in ((256, 0), (1000, 1), (512, 2)):
    for signed in (True, False):
        values = numbers(count, seed) if signed else numbers(count, seed).abs()
        codes, scales = torch.ops.bitsandbytes.quantize_blockwise(values.double(), maps[signed], 256)
        back = maps[signed][codes.long()] * scales.repeat_interleave(256)[:count]
        cases.append({"count": count, "seed": seed, "signed": signed, "codes": codes.tolist(), "scales": scales.tolist(),
                      "back": back.tolist()})  # fmt: skip
content = {"codebook": {"signed": maps[True].tolist(), "unsigned": maps[False].tolist()}, "cases": cases}
Path(__file__).with_name("states8.json").write_text(json.dumps(content) + "\n")
