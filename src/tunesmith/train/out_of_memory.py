"""Out of memory in the middle of a step: forget what it began, halve the tokens of a pass, do the step again.

    fitting = Fitting(pass_tokens=8192, least=512)
    stats = fitting.run(lambda tokens: backward(..., pass_tokens=tokens), forget=optimizer.clear)
    fitting.pass_tokens          # 4096 from then on

The step's Units stay the same, and what a step computes does not depend on how it is cut into passes: so the run goes on as if
it had been cut so from the start, and only slower. Elsewhere nothing can be halved: the part where memory ran out is named.

    with during("evaluation"):
        ...
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import TypeVar

import torch

from tunesmith.core.errors import SpaceError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a processor or a card."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


FIX = "tunesmith plan --fit says what to change: train.checkpointing=true, precision=bf16, adapter=lora, a shorter length."


def pass_of(error: BaseException) -> str:
    """forward or backward: the pass of a step in which an error was raised. What is computed again for the backward pass is part of it."""
    frames = (frame.f_code.co_filename.replace("\\", "/") for frame, _ in walk_tb(error.__traceback__))
    return "backward" if any("/torch/autograd/" in name for name in frames) else "forward"


@contextmanager
def during(part: str, told: Callable[[str], object] = lambda message: None) -> Iterator[None]:
    """Name the part of a run in which memory ran out, where nothing can be halved: a SpaceError, told to `told` first."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"memory ran out in the {part}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        told(message)
        raise SpaceError(message, fix=FIX) from error


@dataclass
class Fitting:
    """pass_tokens: what a pass may hold now; least: one Unit's tokens, below which nothing can be halved.

    told  called with (old, new) tokens each time and the pass that did not fit, forward or backward, to journal it
    """

    pass_tokens: int
    least: int
    told: Callable[[int, int, str], object] | None = None
    halved: list[int] = field(default_factory=list)

    def run(self, step: Callable[[int], T], *, forget: Callable[[], object]) -> T:
        """step(pass_tokens), again with half as many tokens whenever memory runs out.

        forget  clears the gradients that a step broken off has left
        Raises SpaceError when one Unit alone does not fit.
        """
        while True:
            try:
                return step(self.pass_tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = str(error).splitlines()[0] if str(error) else type(error).__name__
                part = pass_of(error)
            # outside the handler: the error's frames hold the tensors that did not fit
            forget()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.pass_tokens <= self.least:
                raise SpaceError(
                    f"one row alone does not fit into memory in the {part} pass, with {self.least:,} tokens to a pass: {cause}",
                    fix=FIX,
                )
            new = max(self.least, self.pass_tokens // 2)
            if self.told is not None:
                self.told(self.pass_tokens, new, part)
            self.halved.append(self.pass_tokens)
            self.pass_tokens = new
