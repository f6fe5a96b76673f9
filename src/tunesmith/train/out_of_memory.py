"""Out of memory in the middle of a step: forget what it began, halve what is computed at once, do the step again.

    fitting = Fitting(8192)                                # tokens to a pass
    stats = fitting.run(lambda tokens: backward(..., pass_tokens=tokens), bounds=lambda: (512, 8000), forget=optimizer.clear)
    fitting.size                                           # 4000 from then on

The step's Units stay the same, and what a step computes does not depend on how it is cut into passes: so the run goes on as if
it had been cut so from the start, and only slower. Of several ranks all halve, whichever had too little (step/out_of_memory.py).
Where nothing can be halved, the part where memory ran out is named.

    with during("checkpoint"):
        ...
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from tunesmith.core.errors import SpaceError
from tunesmith.step.out_of_memory import OutOfMemory, cause_of, is_out_of_memory, pass_of
from tunesmith.step.ranks import ranks

T = TypeVar("T")

FIX = "tunesmith plan --fit says what to change: train.checkpointing=true, precision=bf16, adapter=lora, a shorter length."


@contextmanager
def during(part: str = "", told: Callable[[str], object] = lambda message: None, *, fix: str = FIX) -> Iterator[None]:
    """Name the part of a run in which memory ran out: a SpaceError, told to `told` first.

    part  "" = the forward or backward pass, as the error shows
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"memory ran out in the {part or f'{pass_of(error)} pass'}: {cause_of(error)}"
        told(message)
        raise SpaceError(message, fix=fix) from error


@dataclass
class Fitting:
    """How much is computed at once, halved whenever memory runs out.

    size  tokens of a pass, or prompts answered, at once; None = all there are
    part  the part of a run that is told; "" = the pass that did not fit, forward or backward
    told  called with (before, now, part) each time, to journal it
    """

    size: int | None
    part: str = ""
    told: Callable[[int, int, str], object] | None = None
    halved: list[int] = field(default_factory=list)
    """the sizes that did not fit"""

    def run(
        self,
        step: Callable[[int | None], T],
        *,
        bounds: Callable[[], tuple[int, int]],
        forget: Callable[[], object] = lambda: None,
    ) -> T:
        """step(size), again with half the size whenever memory runs out; of several ranks, on all of them (`told_to_all`).

        bounds  (the least that can be computed at once, all there is), asked for when memory has run out
        forget  clears the gradients that a step broken off has left
        Raises OutOfMemory when the least does not fit: see `during`.
        """
        while True:
            try:
                return step(self.size)
            except (RuntimeError, MemoryError) as error:
                # what one rank alone knows of the others cannot do again
                if not is_out_of_memory(error) or (ranks() > 1 and not isinstance(error, OutOfMemory)):
                    raise
                in_pass, cause = pass_of(error), cause_of(error)
            # outside the handler: the error's frames hold the tensors that did not fit
            forget()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            least, whole = bounds()
            before = whole if self.size is None else self.size
            if min(before, whole) <= least:
                raise OutOfMemory(in_pass, f"also with the least at once, {least:,}: {cause}")
            self.size = max(least, min(before, whole) // 2)
            self.halved.append(before)
            if self.told is not None:
                self.told(before, self.size, self.part or in_pass)
