"""Bytes: the formula is what lies on the disk, tensor by tensor."""

import pytest
import torch

from tunesmith.model.load import DTYPES, load
from tunesmith.model.save import save
from tunesmith.quantize.choose import choose, packed_copy
from tunesmith.quantize.sizes import kv_cache_bytes, on_disk, sizes

# pico: seven matrices of 32 x 32 (2), 16 x 32 (2), 64 x 32 (2), 32 x 64; embeddings 288 x 32, tied; three norms of 32
ROWS = 2 * 32 + 2 * 16 + 2 * 64 + 32
WEIGHTS = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64
OTHERS = 288 * 32 + 3 * 32


def test_the_formula_by_hand():
    net = load("pico").net
    found = sizes(net, choose(net, "int8").shapes, rest_bytes=2)
    assert found["16-bit"] == {
        "codes": 2 * WEIGHTS, "scales": 0, "tables": 0, "matrices": 2 * WEIGHTS, "rest": 2 * OTHERS,
        "total": 2 * (WEIGHTS + OTHERS),
    }  # fmt: skip
    eight, four = found["int8"], found["nf4"]
    assert (eight["codes"], eight["scales"], eight["tables"]) == (WEIGHTS, 4 * ROWS, 7)
    assert four["codes"] == WEIGHTS // 2 and four["scales"] == WEIGHTS // 64 + 7 * (4 + 4)
    assert eight["matrices"] == WEIGHTS + 4 * ROWS + 7 and eight["total"] == eight["matrices"] + 2 * OTHERS
    assert sizes(net, choose(net, "int8").shapes, rest_bytes=4)["nf4"]["rest"] == 4 * OTHERS


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_lies_on_the_disk_is_the_formula(kind, precision, tmp_path):
    model = load("pico", seed=1)
    choice = choose(model.net, kind)
    wanted = sizes(model.net, choice.shapes, rest_bytes=DTYPES[precision].itemsize)
    made = packed_copy(model.net, kind, choice.names, DTYPES[precision])
    folder = save(made, model.tokenizer, tmp_path / "small", dtype=precision)
    found = on_disk(folder, choice.names)
    assert (found["matrices"], found["rest"]) == (wanted[kind]["matrices"], wanted[kind]["rest"])
    assert found["file"] == (folder / "model.safetensors").stat().st_size
    assert found["file"] == found["matrices"] + found["rest"] + found["headers"]
    plain = save(model.net, model.tokenizer, tmp_path / "plain", dtype="bf16")
    assert on_disk(plain, choice.names)["matrices"] + on_disk(plain, choice.names)["rest"] == wanted["16-bit"]["total"]


def test_large_matrices_take_a_half_and_a_quarter():
    net = torch.nn.Module()
    net.state_dict = lambda: {"w": torch.empty(4096, 4096, device="meta")}
    found = sizes(net, {"w": (4096, 4096)}, rest_bytes=2)
    whole = found["16-bit"]["matrices"]
    assert found["int8"]["matrices"] / whole == pytest.approx(0.5, abs=0.001)
    assert found["nf4"]["matrices"] / whole == pytest.approx(
        4.127 / 16, abs=0.0001
    )  # bits a weight with double quantisation


def test_bytes_of_the_cache_are_those_that_a_pass_keeps():
    net = load("pico").net
    with torch.no_grad():
        cache = net(input_ids=torch.arange(3, 23)[None], use_cache=True).past_key_values
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert kv_cache_bytes(net.config, number=4) * 20 == held
