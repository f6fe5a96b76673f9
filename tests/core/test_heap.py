"""The heap of a training run: freed memory stays inside the context and goes back after it."""

import json
import subprocess
import sys

import pytest

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
