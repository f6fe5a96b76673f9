"""The replayed CUDA allocator: rounding, segments, splitting, merging, as torch's own rules say."""

from tunesmith.plan.allocate import Allocator, replay
from tunesmith.plan.track import Log, Storage

MIB = 1 << 20


def log_of(*events: tuple[int, int]) -> Log:
    """(storage, +-1) events over storages of 1, 2, 3 ... MiB; the whole log is the step."""
    log = Log(list(events), [Storage((i + 1) * MIB, "", "", "forward") for i in range(8)])
    log.marks = {"step": 0, "end": len(events)}
    return log


def test_small_blocks_share_a_segment_of_2_mib():
    allocator = Allocator()
    for _ in range(4):
        allocator.take(300)
    assert allocator.allocated == 4 * 512 and allocator.reserved == 2 * MIB


def test_medium_blocks_come_from_20_mib_and_large_ones_are_rounded_to_2():
    allocator = Allocator()
    allocator.take(3 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.take(5 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.take(21 * MIB)
    assert allocator.reserved == 42 * MIB


def test_a_large_block_is_split_only_when_more_than_1_mib_is_left():
    allocator = Allocator()
    block = allocator.take(11 * MIB + 512)
    assert block.size == 12 * MIB == allocator.reserved


def test_freed_neighbours_merge_and_serve_a_larger_block():
    allocator = Allocator()
    blocks = [allocator.take(4 * MIB) for _ in range(5)]  # fills one segment of 20 MiB
    assert allocator.reserved == 20 * MIB
    for block in (blocks[1], blocks[3], blocks[2]):
        allocator.give(block, False)
    allocator.take(12 * MIB)
    assert allocator.reserved == 20 * MIB and allocator.allocated == 20 * MIB


def test_holes_that_do_not_fit_are_fragmentation():
    found = replay(log_of((3, 1), (4, 1), (5, 1), (3, -1), (5, -1), (6, 1), (4, -1), (6, -1)))
    assert found.reserved > found.allocated


def test_a_second_step_reuses_what_the_first_left():
    steps = ((3, 1), (5, 1), (3, -1), (5, -1))
    assert replay(log_of(*steps)).reserved == 20 * MIB
