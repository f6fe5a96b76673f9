"""How much a CUDA caching allocator reserves for a log of storages: its rounding, its pools, its splitting, replayed.

    replay(log).reserved      # what nvidia-smi would show, less the context

Blocks are rounded up to 512 bytes; those up to 1 MiB come from segments of 2 MiB, those below 10 MiB from segments of 20
MiB, larger ones from segments of their own, rounded to 2 MiB. Freed blocks merge with free neighbours and are kept; the best
fit is taken, and split when enough is left (torch, c10/cuda/CUDACachingAllocator.cpp). What is reserved beyond what is
allocated is fragmentation. With expandable segments it would be the rounding alone.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

from tunesmith.plan.track import Log

ROUND = 512
SMALL, SMALL_SEGMENT = 1 << 20, 2 << 20
LARGE, LARGE_SEGMENT = 10 << 20, 20 << 20


@dataclass(frozen=True)
class Replayed:
    """allocated: highest sum of rounded blocks; reserved: highest sum of segments."""

    allocated: int
    reserved: int


@dataclass(eq=False)
class _Block:
    segment: int
    start: int
    size: int
    free: bool = True
    before: "_Block | None" = None
    after: "_Block | None" = None


class Allocator:
    """The caching allocator: `take` and `give` blocks; `reserved` is what was asked of the device."""

    def __init__(self) -> None:
        self.reserved = 0
        self.allocated = 0
        self.top = 0
        self._segments = 0
        self._free: dict[bool, list[tuple[int, int, int]]] = {True: [], False: []}
        self._blocks: dict[tuple[int, int], _Block] = {}

    def take(self, size: int) -> _Block:
        """A block of at least `size` bytes."""
        size = max(ROUND, -(-size // ROUND) * ROUND)
        small = size <= SMALL
        free = self._free[small]
        at = bisect_left(free, (size, 0, 0))
        if at < len(free):
            _, segment, start = free.pop(at)
            block = self._blocks[segment, start]
        else:
            whole = SMALL_SEGMENT if small else LARGE_SEGMENT if size < LARGE else -(-size // (2 << 20)) * (2 << 20)
            self._segments += 1
            block = self._blocks[self._segments, 0] = _Block(self._segments, 0, whole)
            self.reserved += whole
        left = block.size - size
        if left >= ROUND if small else left > SMALL:
            rest = _Block(block.segment, block.start + size, left, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._blocks[rest.segment, rest.start] = rest
            insort(free, (rest.size, rest.segment, rest.start))
        block.free = False
        self.allocated += block.size
        self.top = max(self.top, self.allocated)
        return block

    def give(self, block: _Block, small: bool) -> None:
        """Take a block back; it merges with free neighbours."""
        self.allocated -= block.size
        free = self._free[small]
        for neighbour, first in ((block.before, True), (block.after, False)):
            if neighbour is None or not neighbour.free:
                continue
            free.pop(bisect_left(free, (neighbour.size, neighbour.segment, neighbour.start)))
            left, right = (neighbour, block) if first else (block, neighbour)
            left.size += right.size
            left.after = right.after
            if right.after is not None:
                right.after.before = left
            del self._blocks[right.segment, right.start]
            block = left
        block.free = True
        insort(free, (block.size, block.segment, block.start))


def replay(log: Log, begin: str = "step", end: str = "end") -> Replayed:
    """Run a log through the allocator; the part from `begin` to `end` twice, as a second step meets what the first left."""
    allocator = Allocator()
    first, last = log.marks[begin], log.marks[end]
    held: dict[int, _Block] = {}
    for index in range(2):
        for number, sign in log.events[0 if index == 0 else first : last]:
            size = log.storages[number].bytes if sign else number
            if sign > 0:
                if number not in held:
                    held[number] = allocator.take(size)
            elif sign < 0:
                if number in held:
                    block = held.pop(number)
                    allocator.give(block, _is_small(size))
            else:
                block = allocator.take(size)
                allocator.give(block, _is_small(size))
    return Replayed(allocator.top, allocator.reserved)


def _is_small(size: int) -> bool:
    return max(ROUND, -(-size // ROUND) * ROUND) <= SMALL
