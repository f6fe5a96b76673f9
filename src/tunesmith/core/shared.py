"""Equal data is stored once: large files of several runs that hold the same bytes are one file with several names.

    share([run / "data" / "train.jsonl"], runs / STORE)      # bytes that are not stored a second time

The store beside the runs names each file by its hash; a run's file and the store's are hard links to it, read-only, for a change to one would
be a change to all: what is written into, such as a journal, is not shared. A file that no run has any longer is removed. Where the file
system has no links, each run keeps its own.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tunesmith.core.files import hash_file

STORE = ".tunesmith-data"  # beside the runs
LEAST = 1 << 20  # bytes; smaller files stay as they are


def share(files: Iterable[Path], store: Path, *, least: int = LEAST) -> int:
    """Make the large ones of these files one with equal ones of `store`; the number of bytes that this freed."""
    freed = 0
    for path in files:
        if not path.is_file() or path.is_symlink():
            continue
        found = path.stat()
        if found.st_size < least or found.st_nlink > 1:  # small, or one of several already
            continue
        known = store / hash_file(path)
        try:
            if known.exists() and hash_file(known) != known.name:
                known.unlink()  # somebody wrote into it; the runs that have it keep it, and say so
            if known.exists():
                beside = path.with_name(f".{path.name}.{os.getpid()}.link")
                os.link(known, beside)
                os.replace(beside, path)
                freed += found.st_size
            else:
                store.mkdir(parents=True, exist_ok=True)
                os.link(path, known)
                known.chmod(0o444)
        except OSError:  # no links here, or too many of one file
            continue
    return freed


def forget(store: Path) -> int:
    """Remove what no run has any longer; the number of bytes."""
    freed = 0
    for path in store.iterdir() if store.is_dir() else ():
        found = path.stat()
        if re.fullmatch("[0-9a-f]{64}", path.name) and path.is_file() and found.st_nlink == 1:
            path.unlink()
            freed += found.st_size
    if store.is_dir() and not any(store.iterdir()):
        store.rmdir()
    return freed
