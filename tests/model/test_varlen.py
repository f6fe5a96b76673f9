"""Varlen attention: what torch's function is asked for. Its kernel wants a GPU; here one of the same contract stands in."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.utils.checkpoint

from tunesmith.model import attention, varlen
from tunesmith.model.segments import Segments

BOUNDS = (0, 3, 3, 20, 21, 60)


def documented(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):  # fmt: skip
    """What torch.nn.attention.varlen.varlen_attn says it does (2.13), in plain torch."""
    assert cu_seq_q.dtype == torch.int32 and cu_seq_q is cu_seq_k and query.is_contiguous()
    assert max_q == max_k == max(end - start for start, end in pairwise(cu_seq_q.tolist()))
    if query.shape[1] != key.shape[1]:
        assert enable_gqa, "Expect query and key/value to have the same number of heads"
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    left, right = window_size
    out = []
    for start, end in pairwise(cu_seq_q.tolist()):
        scores = torch.einsum("ihd,jhd->hij", query[start:end], key[start:end])
        i, j = torch.meshgrid(torch.arange(end - start), torch.arange(end - start), indexing="ij")
        seen = (j <= i + right if right >= 0 else True) & ((j >= i - left) if left >= 0 else torch.ones_like(i).bool())
        scores = (scores * (query.shape[-1] ** -0.5 if scale is None else scale)).masked_fill(~seen, float("-inf"))
        out.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), value[start:end]))
    return torch.cat(out)


def older(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    """torch 2.11: heads are to be equal."""
    return documented(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)


@pytest.fixture(params=[documented, older], ids=["2.13", "2.11"])
def kernel(request, monkeypatch):
    monkeypatch.setattr(varlen, "_call", lambda: request.param)
    varlen._proved.cache_clear()
    yield request.param
    varlen._proved.cache_clear()


def parts(heads=4, groups=2, dim=8):
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(BOUNDS[-1], n, dim, generator=draw, dtype=torch.float64) for n in (heads, groups, groups)]


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_it_is_the_attention_of_each_document_alone(kernel, window, groups):
    q, k, v = parts(groups=groups)
    found = varlen.attend(q, k, v, Segments(BOUNDS), None, window)
    assert torch.allclose(found, varlen.one_by_one(q, k, v, BOUNDS, window), atol=1e-12)
    assert torch.allclose(varlen.attend(q, k, v, Segments(BOUNDS), 8**-0.5, window), found, atol=1e-12)


def test_the_model_s_attention_gives_it_packed_rows_and_takes_shared_prompts_apart(kernel, monkeypatch):
    q, k, v = (x.transpose(0, 1)[None] for x in parts())
    usual, _ = attention.segment_attention(None, q, k, v, None, segments=BOUNDS, sliding_window=7)
    asked = []
    monkeypatch.setattr(
        varlen, "attends", lambda query, key, value, window: asked.append((query.shape, window)) or True
    )
    found, _ = attention.segment_attention(None, q, k, v, None, segments=BOUNDS, sliding_window=7)
    assert asked == [((60, 4, 8), 7)] and found.shape == usual.shape and torch.allclose(found, usual, atol=1e-12)
    place = torch.cat([torch.arange(20), torch.arange(10), torch.arange(20, 30)])
    source = torch.cat([torch.arange(20), torch.arange(30, 40)])
    shared = Segments((0, 20, 40)).sharing(place, source)
    q, k, v = (x[:, :, :30] for x in (q, k, v))
    found, _ = attention.segment_attention(None, q, k, v, None, segments=shared, sliding_window=7)
    monkeypatch.setattr(varlen, "attends", lambda *_: False)
    usual, _ = attention.segment_attention(None, q, k, v, None, segments=shared, sliding_window=7)
    assert torch.allclose(found, usual, atol=1e-12)


def test_a_kernel_that_is_wrong_or_refuses_is_not_used(kernel, monkeypatch):
    key = (torch.device("cpu"), torch.bfloat16, 4, 2, 16, False)
    assert varlen._proved(*key) and varlen._proved(*key[:-1], True)
    for number, broken in enumerate((lambda *args, **more: kernel(*args, **more) * 1.2, lambda *args, **more: 1 / 0)):
        varlen._proved.cache_clear()

        def call(*args, scale=None, window_size=(-1, -1), broken=broken, **more):
            try:
                return broken(*args, scale=scale, window_size=window_size, **more)
            except ZeroDivisionError:
                raise RuntimeError("no kernel image is available") from None

        monkeypatch.setattr(varlen, "_call", lambda: call)
        with pytest.warns(UserWarning, match=("it is 0.2", "no kernel image is available")[number]):
            assert not varlen._proved(key[0], key[1], 4, 4, 16, False)


def test_the_proof_leaves_no_trace_in_a_checkpointed_layer(kernel):
    """The first call proves, the second does not: recomputation in the backward pass finds the tensors of the first all the same."""
    x = torch.randn(6, 8, requires_grad=True)
    proved = []

    def layer(x):
        proved.append(varlen._proved(torch.device("cpu"), torch.bfloat16, 4, 2, 16, False))
        return (x * x).sin()

    torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert proved == [True, True] and torch.allclose(x.grad, 2 * x.detach() * (x.detach() ** 2).cos(), atol=1e-6)


def test_who_is_served(monkeypatch):
    monkeypatch.setattr(varlen, "_call", lambda: documented)
    monkeypatch.setattr(varlen, "_proved", lambda *_: True)
    capability = [(8, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability[0])

    def tensor(kind="cuda", dtype=torch.bfloat16, dim=64):
        return SimpleNamespace(device=torch.device(kind), dtype=dtype, shape=(10, 4, dim))

    def served(value={}, **changes):  # noqa: B006
        return varlen.attends(tensor(**changes), tensor(**changes), tensor(**{**changes, **value}), None)

    assert served() and served(dtype=torch.float16) and served(dim=256)
    assert not served(kind="cpu") and not served(dtype=torch.float32) and not served(dim=264) and not served(dim=12)
    assert not served(value={"dim": 32}), "narrower values"
    capability[0] = (7, 5)
    assert not served()
    capability[0] = (9, 0)
    monkeypatch.setattr(varlen, "_call", lambda: None)
    assert not served()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
@pytest.mark.parametrize("window", [None, 33])
def test_on_a_gpu_it_is_used_and_right(window):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("flash attention wants compute capability 8.0")
    q, k, v = (x.to("cuda", torch.bfloat16) for x in parts(dim=64))
    assert varlen.attends(q, k, v, window)
    found = varlen.attend(q, k, v, Segments(BOUNDS), None, window)
    wanted = varlen.one_by_one(*(x.float() for x in (q, k, v)), BOUNDS, window)
    assert float((found.float() - wanted).abs().max()) < 0.03
