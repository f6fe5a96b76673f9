"""Number formats: bits, reach, fineness, and what becomes of a value in each.

A floating-point number is sign, exponent (how far it reaches) and mantissa (how fine it is). fp16 and bf16 both take 16 bits: fp16 is finer
and ends at 65504, bf16 reaches as far as fp32 and keeps 2 to 3 digits. INT8, INT4 and NF4 are steps of a scale that a block of neighbours
shares; one value alone is its own scale, so say the block's largest too. Loading a model in a format that does not hold its numbers
harms it: too large becomes infinite, too small 0, and Tunesmith warns (IEEE 754-2019; FP8: arXiv 2209.05433; NF4: arXiv 2305.14314).

수 형식: 비트 수, 닿는 범위, 촘촘함, 그리고 어떤 값이 각 형식에서 무엇이 되는지 보여 줍니다. 지수가 범위를, 가수가 촘촘함을 정합니다.
fp16은 65504에서 끝나고, bf16은 fp32만큼 멀리 닿지만 2~3자리만 남습니다. 모델을 담지 못하는 형식으로 불러오면 값이 무한대나 0이 됩니다.
"""

import math

from tunesmith.demos import Shown, table
from tunesmith.model.formats import FORMATS
from tunesmith.model.formats import table as lines_of


def show(value: float = 123456.789, largest: float | None = None, lang: str = "en") -> Shown:
    """Every format with `value` in it; `largest` is that of the value's block, for INT8, INT4 and NF4."""
    lines = lines_of(value, [] if largest is None else [largest])
    head = {
        "en": [
            "format",
            "bits",
            "sign+exp+mantissa",
            "largest",
            "smallest",
            "digits",
            f"{value:.10g} becomes",
            "error",
        ],
        "ko": ["형식", "비트", "부호+지수+가수", "가장 큰 수", "가장 작은 수", "자릿수", f"{value:.10g} ->", "오차"],
    }["ko" if lang == "ko" else "en"]
    rows = []
    for line in lines:
        one = line.format
        parts = (
            f"1+{one.exponent}+{one.mantissa}"
            if one.exponent
            else {"en": "codes x scale", "ko": "부호표 x 척도"}["ko" if lang == "ko" else "en"]
        )
        reach = (
            [f"{one.largest:.5g}", f"{one.smallest:.3g}"]
            if one.exponent
            else ["scale" if lang != "ko" else "척도", "-"]
        )
        error = "inf" if math.isinf(line.error) else f"{line.relative:.2g}"
        rows.append([one.name, str(one.bits), parts, *reach, f"{one.digits:.1f}", f"{line.rounded:.12g}", error])
    facts = {
        line.format.name: {
            "bits": line.format.bits, "exponent": line.format.exponent, "mantissa": line.format.mantissa,
            "largest": line.format.largest, "smallest": line.format.smallest, "smallest_normal": line.format.smallest_normal,
            "step": line.format.step, "digits": line.format.digits, "used": line.format.used,
            "rounded": line.rounded if math.isfinite(line.rounded) else str(line.rounded),
            "error": line.error if math.isfinite(line.error) else "inf",
        }
        for line in lines
    }  # fmt: skip
    used = [f"  {one.name + ':':<10}{one.used}" for one in FORMATS.values()]
    told = "\n\nUsed for\n" + "\n".join(used) if lang != "ko" else ""
    return Shown(table(head, rows) + told, {"value": value, "formats": facts})
