"""How much memory a process may hold here: what the machine has, or less where a container or a batch job limits it (cgroups).

usable()                 # bytes; of several processes that torchrun started on this machine, one's share
limit()                  # the container's alone; None without one
"""

import os
from pathlib import Path

UNKNOWN = 8 << 30  # where the system does not say what it has
NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2**63 where nothing is limited


def physical() -> int | None:
    """Bytes of memory of the machine; None where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def limit(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The least memory limit of this process's cgroup and of those above it, version 1 or 2, in bytes; None without one.

    own   the kernel's list of the groups that the process is in;  root  where their files are. Inside a container the list may name
          folders that only the host sees: the container's own limit then stands at the root.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        steps = [step for step in path.split("/") if step not in ("", "..")]
        for top in (root / "memory",) if controllers else (root, root / "unified"):
            found += [size for depth in range(len(steps) + 1) for size in _size(top.joinpath(*steps[:depth], name))]
    return min(found, default=None)


def _size(file: Path) -> list[int]:
    """The limit that stands in a file; [] for none."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:  # not every group has one: the topmost of version 2
        return []
    return [int(text)] if text.isdigit() and int(text) < NO_LIMIT else []


def usable(processes: int | None = None) -> int:
    """Bytes that one of `processes` processes on this machine may hold; None = as many as torchrun started here."""
    least = min((size for size in (physical(), limit()) if size), default=UNKNOWN)
    return least // (processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
