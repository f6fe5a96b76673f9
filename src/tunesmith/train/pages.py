"""Optimiser states that wait between two updates outside the memory that is short: in a file, or in the host's memory for a GPU.

    pages = Pages("disk", run / "states.scratch")
    pages.back(inner)        # for the update of one parameter: the states of its torch optimiser, on its device
    pages.out(inner)         # and away again

Parameters are then updated one at a time, so that the states of one are in memory at once, however many there are. They come
back bit by bit. With states in eight bits the codes go, and a fourth of the bytes travels. (The paged optimiser of QLoRA:
Dettmers et al. 2023, arXiv 2305.14314, section 3; bitsandbytes leaves the moving to the driver of the GPU.)
"""

from pathlib import Path
from typing import Any

import torch

from tunesmith.core.errors import SettingError
from tunesmith.train.offload import KINDS, LEAST, Away, Scratch


class Pages:
    """Where the states wait.

    kind   disk: a scratch file without a name, so that no kill leaves it behind; pinned: page-locked memory of the host; none: they stay
    least  bytes below which a state stays
    """

    def __init__(self, kind: str, path: Path, *, least: int = LEAST) -> None:
        if kind not in KINDS:
            raise SettingError(f"offload_states {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
        self.kind, self.least = kind, least
        self._file = Scratch(path) if kind == "disk" else None

    def __bool__(self) -> bool:
        return self.kind != "none"

    def moves(self, num_bytes: int) -> bool:
        """Whether a state of so many bytes goes."""
        return self.kind != "none" and num_bytes >= self.least

    def out(self, inner: torch.optim.Optimizer) -> None:
        """Send the states of an optimiser away."""
        for state in inner.state.values():
            for name, value in state.items():
                if torch.is_tensor(value) and self.moves(value.numel() * value.element_size()):
                    state[name] = Away(value, self._file)

    def back(self, inner: torch.optim.Optimizer) -> None:
        """Fetch them again."""
        for state in inner.state.values():
            for name, value in state.items():
                if isinstance(value, Away):
                    state[name] = value.back()


def seen(value: Any) -> torch.Tensor:
    """A state as a tensor to be read through, without fetching it: for a checkpoint."""
    return value.seen() if isinstance(value, Away) else torch.as_tensor(value)
