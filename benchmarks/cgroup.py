"""A limit on memory that the kernel enforces: a cgroup (v1 or v2) of its own, made under /sys/fs/cgroup, which wants root.

    group = Group(600 << 20)
    subprocess.run(command, preexec_fn=group.enter)     # killed where it holds more
    group.peak(); group.close()

Pages of files count too, but the kernel takes them back before it kills. Libraries that other processes have read already are
charged to those.
"""

import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Group:
    """A memory cgroup of its own: limit, who is in it, the most it ever held."""

    def __init__(self, limit: int | None) -> None:
        old = (ROOT / "memory").is_dir()
        self.path = (ROOT / "memory" if old else ROOT) / f"tunesmith-{os.getpid()}-{time.monotonic_ns()}"
        self.peak_file = "memory.max_usage_in_bytes" if old else "memory.peak"

        self.path.mkdir()
        if limit is not None:
            (self.path / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
            if not old:
                (self.path / "memory.swap.max").write_text("0")

    def enter(self) -> None:
        """The calling process joins."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int:
        """Most bytes at once, the kernel's cache of what was read included."""
        return int((self.path / self.peak_file).read_text())

    def close(self) -> None:
        """Remove it; its processes have ended."""
        self.path.rmdir()
