"""Record what bitsandbytes makes of a few weights, for tests/model/test_nf4.py. Not run by tests: it wants bitsandbytes (CPU).

python tests/model/nf4_by_bitsandbytes.py
"""

import json
from pathlib import Path

import bitsandbytes
import torch
from bitsandbytes import functional

SHAPES = [(8, 64), (24, 33), (7, 53), (300, 64)]


def weights(shape, seed):
    """The same on every machine: sums of a few integers, no generator of torch's."""
    number = torch.arange(shape[0] * shape[1], dtype=torch.float64)
    drawn = torch.sin((number + 1) * (12.9898 + seed)) * 43758.5453
    return ((drawn - drawn.floor() - 0.5) * 0.2 * torch.cos(number * 0.01)).float().view(shape)


def record():
    cases = []
    for seed, shape in enumerate(SHAPES):
        weight = weights(shape, seed)
        codes, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
        back = functional.dequantize_4bit(codes, state)
        cases.append(
            {
                "seed": seed, "shape": shape, "codes": codes.flatten().tolist(), "scales": state.absmax.tolist(),
                "groups": state.state2.absmax.tolist(), "offset": state.offset.item(), "back": back.flatten()[:200].tolist(),
                "sum": back.double().abs().sum().item(),
            }
        )  # fmt: skip
    return {"by": f"bitsandbytes {bitsandbytes.__version__}, cpu", "cases": cases}


if __name__ == "__main__":
    Path(__file__).with_name("nf4.json").write_text(json.dumps(record()) + "\n")
