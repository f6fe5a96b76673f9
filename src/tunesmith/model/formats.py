"""Number formats: how many bits, how far they reach, how fine they are, and what becomes of a value in each.

    FORMATS["fp16"].round(123456.789)       # inf: above its largest number, 65504
    FORMATS["bf16"].round(123456.789)       # 123392.0: reaches as far as fp32, but has 8 bits of precision instead of 24
    table(3.14159)                          # a line for every format

Rounding is ours, in exact integers and float64, to the nearest number and to the even one of two equally near (IEEE 754-2019,
section 4.3.1); torch and numpy are what the tests compare it with. FP8: Micikevicius et al. 2022, arXiv 2209.05433. NF4 (Dettmers
et al. 2023, arXiv 2305.14314): quantiles of a normal distribution times the largest of 64 neighbours. INT8 and INT4 likewise are
steps of a scale, that of the largest value in the block, so one value alone is its own scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

# NF4's codebook, as published with QLoRA.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One number format.

    bits        in memory, without the scale of a block
    exponent, mantissa   bits of each, for floating point; 0 for steps of a scale
    finite      True when it has no infinity (FP8 E4M3): what is too large becomes the largest number, infinity becomes NaN
    levels      the values of a code between -1 and 1, for formats with a scale per block
    """

    name: str
    bits: int
    exponent: int = 0
    mantissa: int = 0
    finite: bool = False
    levels: tuple[float, ...] = ()
    used: str = ""

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def largest(self) -> float:
        """The largest number; of formats with a scale, in steps of that scale."""
        if not self.exponent:
            return max(self.levels) if self.name == "nf4" else float((1 << (self.bits - 1)) - 1)
        if self.finite:  # E4M3 has no infinity and one NaN: the top exponent holds numbers too
            return float((2 - 2 * 2.0**-self.mantissa) * 2.0 ** (self.bias + 1))
        return float((2 - 2.0**-self.mantissa) * 2.0**self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above 0, subnormal ones included."""
        if not self.exponent:
            return min(level for level in self.levels if level > 0) if self.name == "nf4" else 1.0
        return 2.0 ** (1 - self.bias - self.mantissa)

    @property
    def smallest_normal(self) -> float:
        """The smallest number with full precision."""
        return 2.0 ** (1 - self.bias) if self.exponent else self.smallest

    @property
    def digits(self) -> float:
        """Decimal digits that survive."""
        if self.exponent:
            return (self.mantissa + 1) * math.log10(2)
        return math.log10(2 * self.largest + 1) if self.name != "nf4" else math.log10(16)

    @property
    def step(self) -> float:
        """From 1 to the next number: the relative fineness."""
        return 2.0**-self.mantissa if self.exponent else 1 / self.largest

    def round(self, value: float, scale: float | None = None) -> float:
        """The number nearest to `value`, ties to even; inf where it is out of reach (E4M3: its largest).

        scale  the largest value of the block, for formats that have one; None = the value's own
        """
        value = float(value)
        if math.isnan(value) or value == 0:
            return value
        if not self.exponent:
            return self._by_scale(value, abs(value) if scale is None else float(scale))
        if math.isinf(value):
            return math.copysign(math.nan, value) if self.finite else value
        _, power = math.frexp(abs(value))  # abs(value) = m * 2**power, 0.5 <= m < 1
        grain = max(power - 1, 1 - self.bias) - self.mantissa  # the last place is worth 2**grain
        exact = Fraction(abs(value)) / (Fraction(2) ** grain)
        nearest = _half_to_even(exact) * Fraction(2) ** grain
        if nearest > Fraction(self.largest):
            return math.copysign(self.largest if self.finite else math.inf, value)
        return math.copysign(float(nearest), value)

    def _by_scale(self, value: float, scale: float) -> float:
        if not math.isfinite(value) or scale == 0:
            return value if scale else 0.0
        if self.levels:
            nearest = min(self.levels, key=lambda level: abs(Fraction(level) - Fraction(value) / Fraction(scale)))
            return nearest * scale
        top = int(self.largest)
        steps = _half_to_even(Fraction(value) * top / Fraction(scale))
        return float(Fraction(max(-top, min(top, steps))) * Fraction(scale) / top)


def _half_to_even(exact: Fraction) -> int:
    return round(exact)  # Python rounds a Fraction's half to even


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("fp64", 64, 11, 52, used="reference computations, tests"),
        Format("fp32", 32, 8, 23, used="master weights, optimiser state, sums"),
        Format("tf32", 32, 8, 10, used="matrix products of fp32 on Ampere and later; kept in 32 bits"),
        Format("bf16", 16, 8, 7, used="weights and activations of mixed training"),
        Format("fp16", 16, 5, 10, used="the same with a scaled loss; inference"),
        Format("fp8_e4m3", 8, 4, 3, finite=True, used="weights and activations on Hopper and later"),
        Format("fp8_e5m2", 8, 5, 2, used="gradients on Hopper and later"),
        Format("int8", 8, used="weights for inference; a scale per block"),
        Format("int4", 4, used="weights for inference; a scale per block"),
        Format("nf4", 4, levels=NF4, used="frozen weights under QLoRA; a scale per block"),
    )
}


@dataclass(frozen=True)
class Line:
    """A value in one format: what it becomes and by how much it is off, relative to it."""

    format: Format
    rounded: float
    error: float
    relative: float


def table(value: float, block: Sequence[float] = ()) -> list[Line]:
    """`value` in every format. `block` are its neighbours, whose largest sets the scale of INT8, INT4 and NF4.

    table(123456.789)[4] -> fp16: inf
    """
    scale = max((abs(float(each)) for each in (*block, value)), default=0.0)
    lines = []
    for one in FORMATS.values():
        rounded = one.round(value, None if one.exponent else scale)
        error = abs(rounded - value) if math.isfinite(rounded) else math.inf
        lines.append(Line(one, rounded, error, error / abs(value) if value else 0.0))
    return lines


def loss_of_loading(source: Path, dtype: Any) -> dict[str, Any] | None:
    """What is lost by loading the safetensors of a folder as `dtype` (a torch dtype); None when every number survives.

    {"stored": "bf16", "loaded": "fp16", "infinite": 3, "zeroed": 1200, "changed": 0.31, "worst": 0.004}
    Formats that hold all numbers of the stored one are not read.
    """
    import torch
    from safetensors import safe_open

    names = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    stored: set[str] = set()
    total = changed = infinite = zeroed = 0
    worst = 0.0
    for path in sorted(Path(source).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                kind = file.get_slice(name).get_dtype()
                held = {"F64": "fp64", "F32": "fp32", "BF16": "bf16", "F16": "fp16"}.get(kind)
                if held is None or dtype not in names or holds(FORMATS[names[dtype]], FORMATS[held]):
                    continue
                before = file.get_tensor(name)
                after = before.to(dtype).to(before.dtype)
                stored.add(held)
                differs = after != before
                total += before.numel()
                changed += int(differs.sum())
                infinite += int((after.isinf() & ~before.isinf()).sum())
                zeroed += int(((after == 0) & differs).sum())
                kept = differs & ~after.isinf() & (after != 0)
                if kept.any():
                    worst = max(worst, float(((after - before).abs() / before.abs())[kept].max()))
    if not changed:
        return None
    return {
        "stored": "+".join(sorted(stored)), "loaded": names[dtype], "changed": changed / total, "infinite": infinite,
        "zeroed": zeroed, "worst": worst,
    }  # fmt: skip


def holds(one: Format, other: Format) -> bool:
    """Whether every number of `other` is a number of `one`."""
    return one.exponent >= other.exponent and one.mantissa >= other.mantissa


def warning(lost: dict[str, Any], name: str) -> str:
    """`loss_of_loading` as a sentence."""
    more = [
        f"{lost['infinite']:,} became infinite" if lost["infinite"] else "",
        f"{lost['zeroed']:,} became 0" if lost["zeroed"] else "",
    ]
    told = "".join(f", {part}" for part in more if part)
    return (
        f"{name} is stored as {lost['stored']} and loaded as {lost['loaded']}: {lost['changed']:.1%} of its weights changed, by up to "
        f"{lost['worst']:.1g} of their value{told}. Load it as stored, or as fp32, unless memory forbids it."
    )
