"""Which device a project computes on: the one place where the setting `device` becomes a word that torch knows.

    place("auto")            # "cuda" where torch finds a GPU, else "cpu"
    place("cuda")            # of several processes each has a card of its own: "cuda:1" where LOCAL_RANK is 1
    take("cuda:1")           # the same, and kernels and counts of memory that ask for no card look at that one

api hands the word to every load; a batch, a loss, an optimiser's state and a cache follow their network.
"""

import os
import re
from typing import Any

from tunesmith.core.errors import SettingError
from tunesmith.core.memory import usable

WANTED = "auto, cpu, cuda, or one card of several by its number: cuda:0, cuda:1, ..."
_KNOWN = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_device(wanted: str) -> str:
    """The setting as it is. A SettingError when it names no device; whether the device is there is not asked."""
    if not _KNOWN.fullmatch(wanted):
        raise SettingError(f"device is {wanted}.", wanted=WANTED)
    return wanted


def place(wanted: str, *, process: int | None = None) -> str:
    """cpu, cuda or cuda:N, as torch takes it.

    process  which of several processes of this machine; default: what torchrun says of this one (LOCAL_RANK), if it is one of several
    Raises SettingError when there is no such GPU, or fewer than processes.
    """
    import torch

    check_device(wanted)
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise SettingError(
            f"device is {wanted}, but torch finds no GPU on this machine.",
            fix="Set device=cpu, or device=auto, which takes a GPU where there is one. For a GPU that is there: does "
            "torch.cuda.is_available() say so? It wants the driver and a torch built for it.",
        )
    _, _, number = wanted.partition(":")
    if process is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        process = int(os.environ.get("LOCAL_RANK", "0"))
    if process is not None and number:
        raise SettingError(
            f"device is {wanted}, but several processes train together.",
            fix="Set device=cuda: each process takes a card of its own. CUDA_VISIBLE_DEVICES says which there are.",
        )
    if process is None and not number:
        return "cuda"
    card, cards = int(number) if process is None else process, torch.cuda.device_count()
    if card < cards:
        return f"cuda:{card}"
    have = "only 1 GPU" if cards == 1 else f"only {cards} GPUs"
    if process is None:
        raise SettingError(f"device is {wanted}, but torch finds {have}, counted from 0.", wanted=WANTED)
    raise SettingError(
        f"process {card + 1} of this machine finds {have}: each process takes a card of its own.",
        fix=f"Start {cards} processes on this machine, or set device=cpu.",
    )


def take(wanted: str) -> str:
    """`place`, with a numbered card made the one that torch means where none is named."""
    import torch

    found = place(wanted)
    if found.startswith("cuda:"):
        torch.cuda.set_device(found)
    return found


def memory(device: str) -> int:
    """Bytes of memory of a place: the machine's, or the card's."""
    if device == "cpu":
        return usable()
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def machine(device: str, processes: int = 1) -> Any:
    """A place as the planner sees it (plan/devices.Device): a card under its name, or the processor with a process' share of the memory."""
    from tunesmith.plan.devices import host, named
    from tunesmith.train.defaults import precision

    if device == "cpu":
        return host(usable(processes))
    return named(card(device), memory(device), bf16=precision(device) == "bf16")


def card(device: str) -> str:
    """What a card calls itself; "" for the processor."""
    if device == "cpu":
        return ""
    import torch

    return str(torch.cuda.get_device_name(device))
