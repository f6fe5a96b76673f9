"""The heap of a training run: freed memory stays inside the context and goes back after it."""

import ctypes
import json
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.core.heap import ask_large_pages

# Page faults of 20 rounds of tensors of 8 MB, and resident memory after: without the context, inside it, after it.
PROBE = """
import contextlib, gc, json, resource, sys
import numpy as np
from tunesmith.core.heap import steady_heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def rounds():
    before = faults()
    for _ in range(20):
        parts = [np.ones(1 << 20) for _ in range(4)]
        del parts
    return faults() - before

found = {"without": rounds()}
with steady_heap() as told, steady_heap():
    rounds()
    found |= {"told": told, "inside": rounds(), "held": resident()}
found["left"] = resident()
found["after"] = rounds()
print(json.dumps(found))
"""


def probe(**environment):
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_training_run_keeps_what_it_frees_and_gives_it_back_at_the_end():
    found = probe()
    if not found["told"]:
        pytest.skip("not glibc")
    # 640 MB anew each time: 160,000 faults of 4 KB pages, or a few hundred where the kernel gives pages of 2 MB
    assert min(found["without"], found["after"]) > 200
    assert found["inside"] < 100
    assert found["held"] - found["left"] > 20 << 20


def test_variables_set_by_hand_are_left_alone():
    assert probe(MALLOC_TRIM_THRESHOLD_="131072")["told"] is False


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells which memory may have large pages")
def test_large_pages_are_asked_for_inside_the_block_only():
    with mmap.mmap(-1, 12 << 20) as block:
        first = ctypes.c_char.from_buffer(block)
        address = ctypes.addressof(first)
        del first  # or the block cannot be closed
        if not ask_large_pages(address + 5, 9 << 20):
            pytest.skip("this kernel has none")
        flags = {}
        for line in Path("/proc/self/smaps").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if "-" in name and not name.endswith(":"):
                start, end = (int(part, 16) for part in name.split("-"))
            elif name == "VmFlags:":
                flags[start, end] = rest.split()
        asked = [
            (start, end)
            for (start, end), said in flags.items()
            if "hg" in said and address <= start < address + (12 << 20)
        ]
        assert asked, "no part of the block was marked"
        assert all(start >= address + 5 and end <= address + 5 + (9 << 20) for start, end in asked)
    assert not ask_large_pages(4096, 1 << 20)  # too small to hold one


NARROW = """
import json
import numpy as np
from tunesmith.core.heap import ease, steady_heap, written

found = {"outside": ease()}
for name, room in (("wide", 100 << 30), ("narrow", 300 << 20), ("no", None)):
    with steady_heap(room) as told:
        parts = [np.ones(8 << 20) for _ in range(4)]
        before = written()
        del parts
        kept = written()
        found[name] = {"told": told, "eased": ease(), "before": before, "kept": kept, "after": written()}
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_is_freed_goes_back_once_the_room_becomes_narrow():
    done = subprocess.run([sys.executable, "-c", NARROW], env={}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if not found["wide"]["told"]:
        pytest.skip("not glibc")
    size = 4 * 8 * (8 << 20)
    assert found["outside"] is False
    for name, eased in (("wide", False), ("narrow", True), ("no", False)):
        seen = found[name]
        assert seen["eased"] is eased and seen["before"] >= size
        assert seen["before"] - seen["kept"] < size // 10  # freed, and still there
        assert (seen["kept"] - seen["after"] > 0.9 * size) is eased
