"""Records what bitsandbytes and torchao make of the weights of test_int8.py, for machines that have neither.

python tests/model/int8_by_libraries.py
"""

import json
from pathlib import Path

import torch

CASES = [((3, 5), 0), ((16, 64), 1), ((7, 130), 2)]


def weights(shape: tuple[int, int], seed: int) -> torch.Tensor:
    """The weights of a case, the same on every machine."""
    number = torch.arange(shape[0] * shape[1], dtype=torch.float64)
    drawn = torch.sin((number + 1) * (12.9898 + seed)) * 43758.5453
    return ((drawn - drawn.floor() - 0.5) * 0.2 * torch.cos(number * 0.01)).float().view(shape)


def by_bitsandbytes(weight: torch.Tensor) -> dict[str, object]:
    """Codes, scales and the weight again, by LLM.int8's own functions."""
    from bitsandbytes import functional

    codes, largest, _ = functional.int8_vectorwise_quant(weight)
    back = functional.int8_vectorwise_dequant(codes, largest)
    return {"codes": codes.tolist(), "largest": largest.tolist(), "back": back.tolist()}


def by_torchao(weight: torch.Tensor) -> list[list[int]]:
    """torchao's symmetric codes with a scale a row, between -127 and 127."""
    from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

    block = (1, weight.shape[1])
    scale, zero = choose_qparams_affine(
        weight, MappingType.SYMMETRIC, block, torch.int8, quant_min=-127, quant_max=127, eps=1e-38,
        scale_dtype=torch.float32, zero_point_dtype=torch.int8,
    )  # fmt: skip
    return quantize_affine(weight, block, scale, zero, torch.int8, quant_min=-127, quant_max=127).tolist()


if __name__ == "__main__":
    cases = [
        {
            "shape": shape,
            "seed": seed,
            **by_bitsandbytes(weights(shape, seed)),
            "torchao": by_torchao(weights(shape, seed)),
        }
        for shape, seed in CASES
    ]
    Path(__file__).with_name("int8.json").write_text(json.dumps({"cases": cases}) + "\n")
