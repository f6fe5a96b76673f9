"""Activations in a file: the same losses, gradients and weights; what is moved is let go; the file leaves nothing behind."""

import gc
import weakref

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SettingError
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.offload import Offload


@pytest.mark.parametrize(
    "settings", [{}, {"checkpointing": True}, {"adapter": Lora(rank=2)}, {"precision": "bf16"}], ids=str
)
def test_a_run_is_the_same_bit_by_bit(train, same_weights, events, run_folder, settings, monkeypatch):
    monkeypatch.setattr(Offload.__init__, "__kwdefaults__", {"least": 256})
    _, usual = train("a", steps=3, **settings)
    _, moved = train("b", steps=3, offload="disk", **settings)
    assert same_weights(usual, moved)
    for one, other in zip(events("a", "step"), events("b", "step"), strict=True):
        assert one["loss"] == other["loss"] and one["grad_norm"] == other["grad_norm"]
    assert not list(run_folder("b").path.glob("*.scratch"))


@pytest.mark.parametrize("layout", ["plain", "transposed", "bf16", "gaps"])
def test_what_comes_back_has_the_same_bytes_in_the_same_layout(tmp_path, layout):
    made = {
        "plain": torch.randn(40, 30),
        "transposed": torch.randn(30, 40).T,
        "bf16": torch.randn(5, 4, 60).to(torch.bfloat16).transpose(0, 1),
        "gaps": torch.randn(40, 60)[:, ::2],
    }[layout]
    offload = Offload("disk", tmp_path / "s", least=1000)
    packed = offload._pack(made)
    moved = layout != "gaps"
    assert (packed is made) is not moved and (offload.num_bytes > 0) is moved
    if moved:
        assert offload._pack(made) is packed, "kept twice, written once"
        back = packed.back()
        assert torch.equal(back, made) and back.stride() == made.stride() and back.dtype == made.dtype
        made.add_(1)  # another version: another tensor
        assert not torch.equal(offload._pack(made).back(), back)


def test_saved_tensors_leave_memory_and_places_are_used_again(pico, make_units, tmp_path):
    model = pico()
    offload = Offload("disk", tmp_path / "s", model.net.parameters(), least=1024)
    written = []
    usual = offload._pack

    def pack(tensor):
        packed = usual(tensor)
        if packed is not tensor:
            written.append(weakref.ref(tensor.untyped_storage()))
        return packed

    offload._pack = pack
    units = make_units([60, 70])
    with offload.here():
        (loss,) = Sft().loss(model.policy, model.policy.batch(units), None).terms.values()
    gc.collect()
    assert len(written) >= 20 and sum(one() is not None for one in written) < len(written) / 10
    loss.backward()
    end = offload._file.end
    del loss
    assert end > 0 and sum(size * len(free) for size, free in offload._file.places.items()) == end
    with offload.here():
        backward(model.policy, Sft(), units)
    assert offload._file.end == end and not list(tmp_path.iterdir())


def test_small_tensors_and_weights_stay(tmp_path):
    weight = torch.randn(100, 100, requires_grad=True)
    offload = Offload("disk", tmp_path / "s", [weight], least=4096)
    assert offload._pack(weight) is weight and offload._pack(weight.T).data_ptr() == weight.data_ptr()
    small = torch.randn(10)
    assert offload._pack(small) is small and offload.num_bytes == 0


def test_pinned_memory_wants_a_gpu_and_other_words_are_refused(train, tmp_path):
    with pytest.raises(SettingError, match="GPU"):
        train("a", offload="pinned")
    with pytest.raises(SettingError, match="not known"):
        Offload("cloud", tmp_path / "s")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")
def test_pinned_gradients_are_the_same(tmp_path):
    made = torch.randn(512, 512, device="cuda", requires_grad=True)
    wanted = torch.autograd.grad((made.sin() * made.cos()).sum(), made)[0]
    offload = Offload("pinned", tmp_path / "s", [made])
    with offload.here():
        loss = (made.sin() * made.cos()).sum()
    assert offload.num_bytes >= 2 * made.nbytes
    assert torch.equal(torch.autograd.grad(loss, made)[0], wanted)
