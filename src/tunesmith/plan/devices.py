"""What a device takes and gives: its memory, its context, how fast it multiplies and copies.

    device("T4").memory, device("12GB").memory, device("H100").flops["bfloat16"]

Memory is what torch finds on such a card, which is less than its name says. Speeds are the makers' figures for dense
matrices; training reaches a share of them (`REACHED`) until a run here has measured it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunesmith.core.errors import SettingError
from tunesmith.core.names import nearest

GIB = 1 << 30
REACHED = 0.45  # share of a maker's figure that matrix products of training reach, where nothing was measured
CONTEXT = 520 << 20  # CUDA context with cuBLAS and kernels loaded: 0.3 to 0.6 GiB, by driver and card


@dataclass(frozen=True)
class Device:
    """memory and context in bytes; flops by number format and bandwidth a second; measured: whether on this machine.

    workspace  what cuBLAS keeps inside the allocator: 8 MiB, from Hopper on 32 MiB
    """

    name: str
    memory: int
    context: int = CONTEXT
    workspace: int = 8519680
    flops: Mapping[str, float] = field(default_factory=dict)
    bandwidth: float = 0.0
    measured: bool = False
    bf16: bool = True

    @property
    def cuda(self) -> bool:
        return self.context > 0


def _gpu(
    name: str, gib: float, half: float, single: float, bandwidth: float, *, bf16: bool = True, hopper: bool = False
) -> Device:
    flops = {"float32": single * 1e12, "bfloat16": half * 1e12 if bf16 else single * 1e12, "float16": half * 1e12}
    return Device(
        name, int(gib * GIB), flops=flops, bandwidth=bandwidth * 1e9, bf16=bf16, workspace=(32 << 20) if hopper else 8519680
    )  # fmt: skip


# name: GiB that torch finds, dense TFLOP/s in half precision and in fp32 (TF32 not counted), GB/s. Makers' data sheets.
GPUS = {
    each.name.lower(): each
    for each in (
        _gpu("T4", 14.57, 65, 8.1, 320, bf16=False), _gpu("V100", 15.77, 125, 15.7, 900, bf16=False),
        _gpu("RTX-3060", 11.75, 51, 12.7, 360), _gpu("RTX-3090", 23.69, 71, 35.6, 936), _gpu("RTX-4060-Ti", 15.57, 88, 22, 288),
        _gpu("RTX-4090", 23.64, 165, 82.6, 1008), _gpu("RTX-5090", 31.36, 209, 104.8, 1792), _gpu("L4", 22.03, 121, 30.3, 300),
        _gpu("A10", 22.06, 125, 31.2, 600), _gpu("L40S", 44.4, 362, 91.6, 864), _gpu("A6000", 47.5, 155, 38.7, 768),
        _gpu("A100-40", 39.39, 312, 19.5, 1555), _gpu("A100", 79.25, 312, 19.5, 2039),
        _gpu("H100", 79.1, 989, 66.9, 3350, hopper=True), _gpu("H200", 139.8, 989, 66.9, 4800, hopper=True),
        _gpu("B200", 178.3, 2250, 80, 8000, hopper=True),
    )
}  # fmt: skip
ALIKE = {
    "colab": "t4",
    "3060": "rtx-3060",
    "3090": "rtx-3090",
    "4090": "rtx-4090",
    "5090": "rtx-5090",
    "a100-80": "a100",
    "a10g": "a10",
}

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(gb|gib|g|mb|mib|m)?$")


def named(name: str, memory: int, *, bf16: bool) -> Device:
    """A card that is there, by what it calls itself ("NVIDIA A100-SXM4-40GB"): the speeds of the known one that is named, its own
    memory. One that is not known has none."""
    words = re.split(r"[\s-]+", name.lower())
    words += [ALIKE[word] for word in words if word in ALIKE]
    words += ["40"] if "40gb" in words else []
    known = [key for key in GPUS if set(key.split("-")) <= set(words)]
    if not known:
        return Device(name, memory, bf16=bf16)
    return replace(GPUS[max(known, key=len)], name=name, memory=memory, bf16=bf16)


def device(name: str) -> Device:
    """A card by name (`T4`, `H100`), or a memory size: `12GB`, a card of that size whose speed is not known, or `cpu:12GB`, a
    processor's process with so much.

    Raises SettingError with the nearest names.
    """
    text = name.strip().lower().replace(" ", "-").replace("_", "-").removeprefix("nvidia-")
    found = GPUS.get(ALIKE.get(text, text)) or GPUS.get(f"rtx-{text}")
    if found is not None:
        return found
    size = bytes_of(text.removeprefix("cpu:"))
    if size is not None and text.startswith("cpu:"):
        return host(size)
    if size is None:
        close = ", ".join(nearest(text, [*GPUS, *ALIKE]) or sorted(GPUS))
        raise SettingError(
            f"the device {name!r} is not known.",
            wanted=f"A memory size such as 12GB or, without a card, cpu:12GB, or one of: {close}.",
        )
    return Device(name, size)


def bytes_of(text: str) -> int | None:
    """ "12GB" -> bytes, counted in GiB as memory is; None for what is no size."""
    found = _SIZE.match(text.strip().lower())
    if not found:
        return None
    return int(float(found[1]) * (1 << 20 if (found[2] or "g").startswith("m") else GIB))


def host(memory: int) -> Device:
    """This machine's processor: no context, no rounding worth counting."""
    return Device("cpu", memory, context=0, workspace=0)
