"""Attention's own kernel against softmax attention by the book in fp64, and what happens where it cannot be built."""

from itertools import accumulate

import pytest
import torch

from tunesmith.model import compiled
from tunesmith.model.segments import Segments, attend

SIZES = (1, 5, 16, 17, 64, 130, 3, 0, 300, 33)
built = pytest.mark.skipif(bool(compiled.why_not()), reason=f"no kernel here: {compiled.why_not()}")


def by_the_book(query, key, value, bounds, scale):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.einsum("ihd,jhd->hij", query, key) * scale
    document = torch.bucketize(torch.arange(len(query)), torch.tensor(bounds[1:]), right=True)
    place = torch.arange(len(query))
    seen = (document[:, None] == document[None]) & (place[:, None] >= place[None])
    return torch.einsum("hij,jhd->ihd", torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1), value)


def parts_of(heads, groups, dim, dtype, tokens, seed=0):
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, h, dim, generator=made).to(dtype).requires_grad_() for h in (heads, groups, groups)]


@built
@pytest.mark.parametrize("shape", [(4, 2, 32), (8, 4, 64), (3, 1, 16), (2, 2, 128), (4, 4, 80)])
@pytest.mark.parametrize(("dtype", "room"), [(torch.float32, 5e-6), (torch.bfloat16, 1.5e-2)])
def test_the_kernel_is_attention_and_its_gradient(shape, dtype, room, lanes):
    bounds = (0, *accumulate(SIZES))
    parts = parts_of(*shape, dtype, bounds[-1])
    assert compiled.attends(parts[0])
    out = attend(*parts, Segments(bounds), 0.3)
    wide = [x.detach().double().requires_grad_() for x in parts]
    wanted = by_the_book(*wide, bounds, 0.3)
    assert out.dtype == dtype
    assert (out - wanted).detach().abs().max() <= room * max(1.0, float(wanted.detach().abs().max()))
    given = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for mine, theirs in zip(torch.autograd.grad(out, parts, given), torch.autograd.grad(wanted, wide, given.double())):
        assert (mine - theirs).abs().max() <= room * float(theirs.abs().max())


@built
def test_a_later_token_and_another_document_change_not_a_bit():
    bounds = (0, 40, 90)
    parts, others = parts_of(4, 2, 32, torch.float32, 90), parts_of(4, 2, 32, torch.float32, 90, seed=1)
    changed = [torch.cat([a[:60], b[60:]]) for a, b in zip(parts, others)]
    before, after = (attend(*x, Segments(bounds), 0.3) for x in (parts, changed))
    assert torch.equal(before[:60], after[:60]) and not torch.equal(before[60:], after[60:])
    for gradient in torch.autograd.grad(before[40:].sum(), parts):
        assert not gradient[:40].any()


@built
def test_the_number_of_threads_changes_not_a_bit():
    bounds = (0, *accumulate(SIZES))
    parts, threads = parts_of(4, 2, 32, torch.float32, bounds[-1]), torch.get_num_threads()
    made = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            out = attend(*parts, Segments(bounds), 0.3)
            made.append([out, *torch.autograd.grad(out.square().sum(), parts)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made))


@built
def test_scores_far_apart_and_infinite_losses_stay_what_they_are(lanes):
    parts = parts_of(2, 2, 16, torch.float32, 40)
    out = attend(*(x * 100 for x in parts), Segments((0, 40)), 1.0)
    assert torch.isfinite(out).all()
    broken = [x.detach().clone() for x in parts]
    broken[2][3] = float("nan")
    out = attend(*broken, Segments((0, 20, 40)), 0.3)
    assert torch.isnan(out[3:20]).all() and torch.isfinite(out[20:]).all()


@pytest.fixture
def without(monkeypatch):
    """A machine that was never built on, in this process."""

    def set_up(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        compiled.shared_library.cache_clear()
        compiled._reasons.clear()

    yield set_up
    monkeypatch.undo()
    compiled.shared_library.cache_clear()
    compiled._reasons.clear()


def test_switched_off_torch_computes_it(without):
    without(TUNESMITH_KERNELS="off")
    parts = parts_of(4, 2, 32, torch.float32, 50)
    assert not compiled.attends(parts[0]) and compiled.why_not() == "TUNESMITH_KERNELS=off"
    wanted = by_the_book(*(x.double() for x in parts), (0, 20, 50), 0.3)
    assert torch.allclose(attend(*parts, Segments((0, 20, 50)), 0.3).double(), wanted, atol=1e-5)


def test_without_a_compiler_or_with_a_broken_one_torch_computes_it(without, tmp_path):
    without(PATH=str(tmp_path), CC="none-there", XDG_CACHE_HOME=str(tmp_path / "cache"), TUNESMITH_KERNELS="")
    assert "no C compiler" in compiled.why_not()
    liar = tmp_path / "cc"
    liar.write_text("#!/bin/sh\nexit 1\n")
    liar.chmod(0o755)
    without(CC=str(liar))
    assert "could not build" in compiled.why_not()
    assert not compiled.attends(torch.zeros(1, 2, 16))


def test_what_it_cannot_do_is_left_to_torch():
    assert not compiled.attends(torch.zeros(1, 2, 24)) and not compiled.attends(
        torch.zeros(1, 2, 16, dtype=torch.float64)
    )


def tiny(kind, **more):
    import transformers

    shape = {
        "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3,
        "head_dim": 16, "vocab_size": 90, "max_position_embeddings": 256, "tie_word_embeddings": True,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**{**shape, **more})
    torch.manual_seed(3)
    net = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in net.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data.normal_(1.0, 0.2)
    return net


@pytest.mark.skipif(bool(compiled.why_not("decode")), reason=compiled.why_not("decode"))
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])  # plain; with biases; with norms of queries and keys
@pytest.mark.parametrize("prefix", [(), (5, 6, 7, 8, 9)])
@torch.no_grad()
def test_a_step_in_c_gives_the_models_own_logits(kind, prefix):
    from tunesmith.model.decode_lean import LeanDecoder

    net = tiny(kind)
    decoder = LeanDecoder(net, list(prefix), longest_prompt=9)
    assert decoder.compiled is not None
    texts = [[11, 12, 13], [20] * 9, [30, 31], [40, 41, 42, 43], [50], [60, 61], [70, 71, 72]]
    decoder.join(texts[:5])
    decoder.join(texts[5:])
    for round_ in range(6):
        new = [(7 * n + 3 * round_) % 90 for n in range(len(texts))]
        if round_ == 3:  # rows leave, the others move up
            decoder.keep([0, 2, 3, 6])
            texts = [texts[n] for n in (0, 2, 3, 6)]
            new = new[:4]
        logits = decoder.step(torch.tensor(new))
        texts = [[*text, token] for text, token in zip(texts, new)]
        for row, text in zip(logits, texts):
            wanted = net(torch.tensor([[*prefix, *text]])).logits[0, -1]
            assert (row - wanted).abs().max() <= 2e-5 * wanted.abs().max()


@pytest.mark.skipif(bool(compiled.why_not("decode")), reason=compiled.why_not("decode"))
def test_adapters_are_merged_and_what_the_kernel_does_not_know_is_left_to_torch():
    from tunesmith.core.shelf import shelf
    from tunesmith.model.decode_lean import LeanDecoder

    net = tiny("Llama")
    shelf("adapters").make({"lora": {"rank": 4}}).attach(net, seed=0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
        decoder = LeanDecoder(net, longest_prompt=4)
        assert decoder.compiled is not None
        decoder.join([[3, 4]])
        logits, wanted = decoder.step(torch.tensor([5])), net(torch.tensor([[3, 4, 5]])).logits[0, -1]
        assert (logits[0] - wanted).abs().max() <= 2e-5 * wanted.abs().max()
        assert LeanDecoder(tiny("Llama", hidden_act="gelu"), longest_prompt=4).compiled is None
        assert LeanDecoder(tiny("Llama", mlp_bias=True), longest_prompt=4).compiled is None
        assert LeanDecoder(tiny("Llama").to(torch.bfloat16), longest_prompt=4).compiled is None
