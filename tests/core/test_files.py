"""Files that are never half written; journals that survive a kill."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tunesmith.core import files
from tunesmith.core.errors import DataError, SpaceError
from tunesmith.core.files import (
    Journal,
    free_path,
    hash_file,
    hash_json,
    hash_sampled,
    to_json,
    write_json,
    write_whole,
    writing,
)


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path):
    path = write_whole(tmp_path / "a" / "b.txt", "가나다")
    assert path.read_bytes() == "가나다".encode()
    write_whole(path, b"second")
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]
    assert path.read_text() == "second"


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path):
    path = write_whole(tmp_path / "x", "old")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write(b"new")
        raise RuntimeError("killed here")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_whole(tmp_path / "x", "old")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(SpaceError, match="disk is full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_path_below_a_file_is_told(tmp_path: Path):
    write_whole(tmp_path / "x", "old")
    with pytest.raises(DataError, match="cannot be written"):
        write_whole(tmp_path / "x" / "y", "new")


def test_a_really_full_device_is_a_space_error():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    journal = Journal("/dev/full")
    journal._fd = os.open("/dev/full", os.O_WRONLY)  # a device cannot be truncated, as a first append would
    with pytest.raises(SpaceError, match="disk is full"):
        journal.append({"a": 1})


def test_a_journal_reads_what_was_appended(tmp_path: Path):
    journal = Journal(tmp_path / "events.jsonl")
    assert journal.read() == [] and journal.size() == 0
    journal.append({"step": 1, "word": "가"})
    journal.append({"step": 2})
    assert journal.read() == [{"step": 1, "word": "가"}, {"step": 2}]
    assert journal.size() == journal.path.stat().st_size


@pytest.mark.parametrize("torn", [b"{", b'{"step": 3', b'{"step": 3}', b"\xec\x9d"])
def test_a_torn_last_line_is_ignored_and_then_overwritten(tmp_path: Path, torn: bytes):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + torn)
    journal = Journal(path)
    assert [event["step"] for event in journal] == [1, 2]
    assert journal.size() == 24
    journal.append({"step": 3})
    assert [event["step"] for event in Journal(path)] == [1, 2, 3]


def test_size_looks_over_long_torn_lines(tmp_path: Path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    assert Journal(path).size() == 9
    path.write_bytes(b"x" * 200_000)
    assert Journal(path).size() == 0


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"events\.jsonl:2"):
        Journal(path).read()


def test_cut_goes_back_to_a_checkpoint(tmp_path: Path):
    journal = Journal(tmp_path / "events.jsonl")
    journal.append({"step": 1})
    size = journal.size()
    journal.append({"step": 2})
    journal.cut(size)
    journal.append({"step": 22})
    assert [event["step"] for event in journal] == [1, 22]
    with pytest.raises(DataError, match="written at 999"):
        journal.cut(999)
    Journal(tmp_path / "none.jsonl").cut(0)


def test_kill_9_tears_at_most_the_last_line(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    code = (
        "import os, sys\nfrom tunesmith.core.files import Journal\njournal = Journal(sys.argv[1])\n"
        "for i in range(10**9):\n    journal.append({'i': i, 'text': 'x' * 100})\n    if i == 50: print('go', flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    found = [event["i"] for event in Journal(path)]
    assert found == list(range(len(found))) and len(found) > 50


def test_json_is_what_every_reader_takes():
    @dataclass(frozen=True)
    class Point:
        x: float
        path: Path

    value = {
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "p": Point(1.5, Path("a/b")),
        "s": {2, 1},
        "n": np.float32(2),
    }
    assert json.loads(to_json(value)) == {
        "nan": "NaN", "inf": ["Infinity", "-Infinity"], "p": {"x": 1.5, "path": "a/b"}, "s": [1, 2], "n": 2.0,
    }  # fmt: skip
    assert to_json({"a": np.arange(3)}) == '{"a": [0, 1, 2]}'
    assert to_json("가") == '"가"'
    with pytest.raises(TypeError, match="object"):
        to_json(object())


def test_hashes(tmp_path: Path):
    path = write_whole(tmp_path / "x", b"abc")
    assert hash_file(path) == hashlib.sha256(b"abc").hexdigest()
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": [1, 2], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})


def test_free_path_counts_up(tmp_path: Path):
    assert free_path(tmp_path / "runs", "train").name == "train-1"
    for name in ("train-1", "train-9", "train-10", "train-x", "eval-11"):
        (tmp_path / name).mkdir()
    assert free_path(tmp_path, "train").name == "train-11"


def test_a_sampled_hash_sees_every_byte_of_a_small_file_and_blocks_all_over_a_large_one(tmp_path: Path):
    draw = np.random.default_rng(0)
    path = tmp_path / "x"
    content = bytearray(draw.integers(0, 256, size=300_000, dtype=np.uint8).tobytes())
    path.write_bytes(content)
    whole, sampled = hash_sampled(path), hash_sampled(path, most=1 << 17)
    assert whole == hash_sampled(path) and sampled == hash_sampled(path, most=1 << 17) and whole != sampled
    for at in (0, 150_000, 299_999):
        content[at] ^= 1
        path.write_bytes(content)
        assert hash_sampled(path) != whole
        content[at] ^= 1
    path.write_bytes(draw.integers(0, 256, size=300_000, dtype=np.uint8).tobytes())
    assert hash_sampled(path, most=1 << 17) != sampled
    path.write_bytes(content + b"\0")
    assert hash_sampled(path, most=1 << 17) != sampled


def test_half_a_character_is_written_and_read_back(tmp_path: Path):
    """What a model may say: half of a surrogate pair, which UTF-8 has no bytes for."""
    said = {"label": "a\\\ud83d b \udc80 가", "n": 1}
    journal = Journal(tmp_path / "answers.jsonl")
    journal.append(said)
    journal.append({"n": 2})
    assert journal.read() == [said, {"n": 2}]
    assert json.loads(write_json(tmp_path / "summary.json", said).read_text("utf-8")) == said
    assert hash_json(said) != hash_json({**said, "label": "a\\\ud83e b \udc80 가"})
