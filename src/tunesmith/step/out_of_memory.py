"""Memory that runs out in the passes of a step: how it is known, and how all ranks come to know of it.

    with told_to_all(redone=True):    # no rank may wait for another within the block
        ...                           # where memory runs out on one rank, OutOfMemory is raised on all at the block's end

What is done then is train/out_of_memory.py's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames, walk_tb

import torch

from tunesmith.step.ranks import agree, gathered, ranks


class OutOfMemory(RuntimeError):
    """Memory ran out in a pass, forward or backward, on this rank or another; the message says on which and how."""

    def __init__(self, in_pass: str, cause: str) -> None:
        super().__init__(cause)
        self.in_pass = in_pass


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a processor or a card."""
    if isinstance(error, OutOfMemory | torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def pass_of(error: BaseException) -> str:
    """forward or backward: the pass of a step in which an error was raised. What is computed again for the backward pass is part of it."""
    if isinstance(error, OutOfMemory):
        return error.in_pass
    # a Function's forward comes through torch/autograd/ as well, but not through the engine's own door
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    files = [code.co_filename.replace("\\", "/") for code in codes if code.co_name == "backward"]
    return "backward" if any(file.endswith("/torch/autograd/__init__.py") for file in files) else "forward"


def cause_of(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def told_to_all(redone: bool) -> Iterator[None]:
    """Where memory runs out within the block on one rank, raise OutOfMemory on all at its end. It costs one number a block.

    redone  whether what was broken off is then done again; else, and of one process, errors go their way
    """
    if not redone or ranks() == 1:
        yield
        return
    found: tuple[str, str] | None = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = pass_of(error), cause_of(error)
        clear_frames(
            error.__traceback__
        )  # they hold the tensors that did not fit, and telling needs a little room on a card
    (anywhere,) = agree(found is not None)
    if anywhere:
        number, (in_pass, cause) = next((rank, told) for rank, told in enumerate(gathered(found)) if told)
        raise OutOfMemory(in_pass, f"on rank {number}: {cause}")
