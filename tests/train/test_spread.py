"""Checkpoint files: written and read a tensor at a time, as the safetensors library does it whole."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.train.spread import Spread, read, write

TENSORS = {
    "a": torch.randn(3, 5, dtype=torch.float64), "b": torch.tensor(7), "none": torch.zeros(0, 4),
    "c": torch.randn(4).bfloat16(), "d": torch.arange(6, dtype=torch.int16).view(2, 3).T, "yes": torch.tensor([True, False]),
}  # fmt: skip


def same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype


def test_a_file_written_tensor_by_tensor_is_a_safetensors_file(tmp_path):
    own = torch.randn(2, 3)
    write(tmp_path / "x.safetensors", {**TENSORS, "s": Spread(own.shape, own.dtype, own.reshape(-1), (0, 6))})
    same(load_file(tmp_path / "x.safetensors"), {**TENSORS, "s": own})


def test_a_safetensors_file_is_read_tensor_by_tensor(tmp_path):
    tensors = {name: value.contiguous() for name, value in TENSORS.items()}
    save_file(tensors, tmp_path / "library.safetensors", metadata={"format": "pt"})
    write(tmp_path / "own.safetensors", tensors)
    for name in ("library", "own"):
        same(dict(read(tmp_path / f"{name}.safetensors")), tensors)


def test_only_what_is_asked_for_is_read(tmp_path):
    tensors = {f"{kind}.{i}": torch.full((i + 1,), float(i)) for i in range(3) for kind in ("param", "state", "rows")}
    write(tmp_path / "x.safetensors", tensors)
    found = dict(read(tmp_path / "x.safetensors", ("param.", "rows.1")))
    same(found, {name: value for name, value in tensors.items() if name.startswith(("param.", "rows.1"))})


@pytest.mark.parametrize("size", [4, 40, -1])
def test_a_file_that_ends_early_is_refused(tmp_path, size):
    path = tmp_path / "x.safetensors"
    write(path, {"a": torch.arange(100.0), "b": torch.arange(10.0)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="ends within"):
        list(read(path))


def test_places_that_do_not_follow_each_other_are_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(ValueError, match=r"a lies at \[4, 12\], wanted \[0, 8\]"):
        list(read(tmp_path / "x"))
