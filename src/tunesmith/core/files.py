"""Files that are never half written.

`write_whole` and `writing` write beside the file and rename, so that a reader sees the old content or the new one.
`Journal` grows a line at a time; what a kill -9 tore off its last line is ignored and later overwritten.

>>> journal = Journal("events.jsonl"); journal.append({"kind": "step", "loss": 0.5}); journal.read()
[{'kind': 'step', 'loss': 0.5}]
"""

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tunesmith.core.errors import DataError, SpaceError, UserError


def write_whole(path: str | Path, content: bytes | str) -> Path:
    """Write a file whole or not at all: beside it, to the disk, renamed. A full disk is a SpaceError. Makes its folder."""
    with writing(path) as file:
        file.write(as_bytes(content) if isinstance(content, str) else content)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """`write_whole` of a value as indented JSON."""
    return write_whole(path, to_json(value, indent=2) + "\n")


@contextmanager
def writing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file to be written in pieces; it appears under its name only when the block ends without an error.

    with writing("rows.jsonl") as file: file.write(b"...")
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        explained = explain_os_error(error, path)
        if explained is None:
            raise
        raise explained from error
    finally:
        if path.parent.is_dir():
            beside.unlink(missing_ok=True)


def explain_os_error(error: OSError, path: str | Path | None = None) -> UserError | None:
    """The system errors that are nobody's bug (disk full, quota, read-only, no permission, a file where a folder should be), in words; None for the others."""
    where = str(path or error.filename or "the disk")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(
            f"The disk is full: {where} could not be written.", fix="Free some space, or choose another folder: out=..."
        )
    if error.errno == errno.EFBIG:
        return SpaceError(
            f"{where} grew over the file size limit of this system.", fix="Choose another folder: out=..."
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
        return DataError(f"{where} cannot be written: {error.strerror}.", fix="Choose another path.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(f"No permission for {where}.", fix="Change its permissions, or choose another folder.")
    return None


class Journal:
    """A file of JSON lines that grows. One writer at a time; any number of readers."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._fd: int | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, in one system call. The first append of a writer removes a torn last line."""
        try:
            if self._fd is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                os.ftruncate(self._fd, self.size())
            line = as_bytes(to_json(record) + "\n")
            written = os.write(self._fd, line)
            while written < len(line):  # a nearly full disk takes a part; the next write says why
                written += os.write(self._fd, line[written:])
        except OSError as error:
            explained = explain_os_error(error, self.path)
            if explained is None:
                raise
            raise explained from error

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; [] when there is no file. A broken line that is not the last is a DataError naming it."""
        return list(self)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(
                        f"{self.path}:{number} is not a JSON line: {error}", fix="Remove that line, or the whole file."
                    ) from None

    def size(self) -> int:
        """Bytes up to the end of the last whole line: what a checkpoint notes, to `cut` back to."""
        if not self.path.exists():
            return 0
        with open(self.path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                last = file.read(end - start).rfind(b"\n")
                if last >= 0:
                    return start + last + 1
                end = start
        return 0

    def cut(self, size: int) -> None:
        """Shorten to the first `size` bytes, as noted by `size()`. A journal that is shorter already is a DataError."""
        have = self.path.stat().st_size if self.path.exists() else 0
        if have < size:
            raise DataError(
                f"{self.path} has {have} bytes, the checkpoint was written at {size}.",
                wanted="The journal of the same run.",
                fix="Start the run again without --resume.",
            )
        self.close()
        if self.path.exists():
            os.truncate(self.path, size)

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class NoJournal(Journal):
    """A journal of a process that only computes: what is appended goes nowhere, what is there can be read."""

    def append(self, record: dict[str, Any]) -> None:
        """Nothing is written."""

    def cut(self, size: int) -> None:
        """Nothing is cut."""


def to_json(value: Any, *, indent: int | None = None, sort: bool = False) -> str:
    """JSON that every reader takes: NaN and infinities become the strings "NaN", "Infinity", "-Infinity"; dataclasses
    become objects, numpy and torch numbers plain ones, paths strings, sets sorted lists."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, indent=indent, sort_keys=sort, allow_nan=False)


def as_bytes(text: str) -> bytes:
    """Text in UTF-8. Half of a surrogate pair, which a model may write and UTF-8 has no bytes for, becomes \\udXXX: in JSON
    that is read back as it was."""
    return text.encode("utf-8", "backslashreplace")


def hash_file(path: str | Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_sampled(path: str | Path, *, most: int = 64 << 20) -> str:
    """sha256 of a file's size and of blocks spread evenly over it, `most` bytes in all; of a smaller file every byte. In hex.

    For weights of many gigabytes, which another training changes everywhere."""
    block, size = 1 << 16, os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for at in range(0, size, max(block, -(-size * block // most))):
            file.seek(at)
            digest.update(file.read(block))
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """sha256 of a value as JSON with sorted keys, in hex: equal values have equal hashes, whatever the order of keys."""
    return hashlib.sha256(as_bytes(to_json(value, sort=True))).hexdigest()


def free_path(folder: str | Path, name: str) -> Path:
    """`folder/name-N` with the first N that is higher than all there: train-1, train-2, ..."""
    folder = Path(folder)
    matches = [re.fullmatch(rf"{re.escape(name)}-(\d+)", p.name) for p in folder.iterdir()] if folder.is_dir() else []
    return folder / f"{name}-{max((int(m[1]) for m in matches if m), default=0) + 1}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _finite(_plain(value))


def _sync_folder(folder: Path) -> None:
    # without this a power cut can forget the rename; not every file system allows it
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)
