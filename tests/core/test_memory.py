"""A container's limit, as the kernel writes it: version 1 and 2, nested groups, a container that sees only its own root."""

from pathlib import Path

import pytest

from tunesmith.core import memory
from tunesmith.core.runs import hardware

GIB = 1 << 30
MANY = 9223372036854771712  # what version 1 says where nothing is limited


def groups(tmp_path: Path, lines: str, files: dict[str, str]) -> tuple[Path, Path]:
    own, root = tmp_path / "cgroup", tmp_path / "sys"
    own.write_text(lines, encoding="utf-8")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    return own, root


@pytest.mark.parametrize(
    ("lines", "files", "wanted"),
    [
        ("0::/job\n", {"job/memory.max": 2 * GIB}, 2 * GIB),
        ("0::/job/step\n", {"job/memory.max": 2 * GIB, "job/step/memory.max": "max"}, 2 * GIB),
        ("0::/job/step\n", {"job/memory.max": 4 * GIB, "job/step/memory.max": GIB}, GIB),
        ("0::/\n", {"memory.max": 3 * GIB}, 3 * GIB),
        ("0::/../..\n", {"memory.max": 3 * GIB}, 3 * GIB),
        ("0::/docker/ab\n", {"memory.max": 3 * GIB}, 3 * GIB),
        ("0::/job\n", {"job/memory.max": "max"}, None),
        ("0::/job\n", {"unified/job/memory.max": GIB}, GIB),
        ("5:cpu,cpuacct:/a\n4:memory:/a\n0::/a\n", {"memory/a/memory.limit_in_bytes": GIB, "cpu/a/x": 1}, GIB),
        ("4:memory:/docker/ab\n", {"memory/memory.limit_in_bytes": 5 * GIB}, 5 * GIB),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": MANY, "memory/memory.limit_in_bytes": MANY}, None),
        ("1:name=systemd:/a\n", {"memory.max": GIB}, None),
    ],
)
def test_the_least_limit_on_the_way_up_counts(tmp_path: Path, lines, files, wanted):
    assert memory.limit(*groups(tmp_path, lines, files)) == wanted


def test_no_cgroups_no_limit(tmp_path: Path):
    assert memory.limit(tmp_path / "none", tmp_path) is None


def test_a_limit_below_the_machines_memory_is_what_may_be_held(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "physical", lambda: 64 * GIB)
    monkeypatch.setattr(memory, "limit", lambda: 6 * GIB)
    assert memory.usable(1) == 6 * GIB and memory.usable(3) == 2 * GIB
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.usable() == hardware()["memory"] == 3 * GIB
    monkeypatch.setattr(memory, "limit", lambda: None)
    assert memory.usable(1) == 64 * GIB
    monkeypatch.setattr(memory, "physical", lambda: None)
    assert memory.usable(1) == memory.UNKNOWN
