"""The process's heap during a training run: big tensors are freed and asked for again thousands of times.

    with steady_heap():
        ...steps...

glibc gives large freed blocks back to the kernel, which must clear their pages before the next tensor may have them. Inside
the context freed memory stays with the process; leaving it gives everything back. What stays has holes, and grows from pass to pass:

    with steady_heap(room=2 << 30):
        for batch in batches:
            ease()                     # gives freed memory back, at the cost of clearing it again, once the room becomes narrow

Elsewhere than on Linux with glibc, and where MALLOC_* variables are set by hand, nothing is done.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h: parameter numbers of mallopt(3), what a training run wants, and glibc's defaults.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_DURING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 256 << 20}
_AFTER = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 0}
NARROW = 0.75  # share of the room from which on freed memory is given back
_depth = 0
_room: int | None = None

_HUGEPAGE = 14  # madvise(2)
_LARGE = 2 << 20  # bytes of a large page


@contextmanager
def steady_heap(room: int | None = None) -> Iterator[bool]:
    """Keep freed memory while the block runs; yields whether the allocator could be told. May be nested.

    room  bytes that this process may hold, for `ease`; None: as much as it likes
    """
    global _depth, _room
    glibc, before = _glibc(), _room
    _room = room if glibc is not None else None
    _depth += 1
    if glibc is not None and _depth == 1:
        glibc.malloc_trim(0)  # what was freed before is not the run's to keep
        _tell(glibc, _DURING)
    try:
        yield glibc is not None
    finally:
        _depth, _room = _depth - 1, before
        if glibc is not None and _depth == 0:
            _tell(glibc, _AFTER)
            glibc.malloc_trim(0)


def ease() -> bool:
    """Give freed memory back if this process has written to so much that its room becomes narrow; whether it did."""
    if _room is None or written() < NARROW * _room:  # asked before each pass: the rest only when it is so
        return False
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)
    return glibc is not None


def written() -> int:
    """Bytes of memory that this process has written to and holds: what the kernel cannot take back. 0 where it does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def ask_large_pages(address: int, size: int) -> bool:
    """Ask for pages of 2 MB in `size` bytes from `address` on that were not touched yet; whether there was one to ask.

    What is read once a step from all over a large block costs less when its pages are few. The kernel may refuse; nothing changes then.
    """
    first = -(-address // _LARGE) * _LARGE
    whole = (address + size - first) // _LARGE * _LARGE
    if sys.platform != "linux" or whole <= 0:
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "madvise") and not library.madvise(
        ctypes.c_void_p(first), ctypes.c_size_t(whole), _HUGEPAGE
    )


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


def _tell(glibc: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        glibc.mallopt(ctypes.c_int(parameter), ctypes.c_int(value))
