"""k adapters on one base: each gives what it gives alone, the base is there once, and comes back after every call."""

import shutil

import pytest
import torch

from tunesmith.adapters.bottleneck import Bottleneck
from tunesmith.adapters.dora import Dora
from tunesmith.adapters.head import Head
from tunesmith.adapters.ia3 import Ia3
from tunesmith.adapters.layernorm import Layernorm
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.pissa import Pissa
from tunesmith.adapters.prefix import Prefix
from tunesmith.adapters.prompt import Prompt
from tunesmith.adapters.qlora import Qlora
from tunesmith.adapters.store import attach, open_adapter, save_adapter
from tunesmith.adapters.switch import on_one_base
from tunesmith.adapters.tokens import Tokens
from tunesmith.adapters.top import Top
from tunesmith.core.errors import ModelError
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.model.tokens import add_tokens

EVERY = {
    "lora": Lora(rank=2), "lora2": Lora(rank=4, targets=("q_proj",)), "dora": Dora(rank=2), "pissa": Pissa(rank=2), "ia3": Ia3(),
    "norms": Layernorm(), "head": Head(), "top": Top(layers=1), "tokens": Tokens(ids=(5, 9)), "bottleneck": Bottleneck(size=4),
    "prompt": Prompt(virtual=3), "prefix": Prefix(virtual=3),
}  # fmt: skip
PROMPTS = [[5, 6, 7], [9, 8, 7, 6]]


def saved(new_model, base_of, shake, tmp_path, kind, adapters):
    base, folders = base_of(kind), {}
    for number, (name, adapter) in enumerate(adapters.items()):
        model = new_model(kind)
        names = attach(adapter, model, seed=number)
        shake(model.net, 0.3, seed=number)
        folders[name] = save_adapter(model, adapter, names, tmp_path / name, base=str(base))
    return folders


def answers(model):
    return [answer.ids for answer in generate(model, PROMPTS, max_tokens=5, eos_ids=())]


@pytest.mark.parametrize("kind", ["llama", "tied"])
def test_each_gives_what_it_gives_alone_and_the_base_comes_back(kind, new_model, base_of, shake, logits, tmp_path):
    folders = saved(new_model, base_of, shake, tmp_path, kind, EVERY)
    model, use = on_one_base(folders)
    base = new_model(kind)
    start, plain = logits(base.net), answers(base)
    held = {name: p.data_ptr() for name, p in model.net.named_parameters()}
    for name in [*folders, *reversed(folders)]:
        alone = open_adapter(folders[name])
        with use(name) as on:
            assert on is model and type(model.adapter) is type(alone.adapter)
            assert torch.equal(logits(model.net), logits(alone.net))
            assert answers(model) == answers(alone)
        assert model.adapter is None and torch.equal(logits(model.net), start)
    assert answers(model) == plain
    assert model.net.config.tie_word_embeddings == (kind == "tied")
    assert {name: p.data_ptr() for name, p in model.net.named_parameters()} == held
    assert all(torch.equal(p, model.net.get_parameter(name)) for name, p in base.net.named_parameters())


def test_the_base_is_held_once(new_model, base_of, shake, tmp_path):
    model, use = on_one_base(
        saved(new_model, base_of, shake, tmp_path, "llama", {"a": Lora(rank=2), "b": Dora(rank=2)})
    )
    base = {p.data_ptr() for p in model.net.parameters()}
    for name in ("a", "b"):
        with use(name):
            assert base <= {p.data_ptr() for p in model.net.parameters()}


def test_one_inside_another_stands_alone_and_gives_it_back(new_model, base_of, shake, logits, tmp_path):
    folders = saved(new_model, base_of, shake, tmp_path, "llama", {"a": Lora(rank=2), "b": Layernorm()})
    model, use = on_one_base(folders)
    wanted = {name: logits(open_adapter(folder).net) for name, folder in folders.items()}
    with use("a"):
        with use("b"), pytest.raises(KeyError):
            assert torch.equal(logits(model.net), wanted["b"])
            raise KeyError("an error inside")
        assert torch.equal(logits(model.net), wanted["a"])
    with pytest.raises(ModelError, match=r"no adapter 'c'"), use("c"):
        pass


def test_adapters_of_a_four_bit_base_share_it(new_model, base_of, shake, logits, tmp_path):
    folders = saved(new_model, base_of, shake, tmp_path, "llama", {"a": Qlora(rank=2), "b": Qlora(rank=1)})
    model, use = on_one_base(folders)
    for name, folder in folders.items():
        with use(name):
            assert torch.equal(logits(model.net), logits(open_adapter(folder).net))


def test_adapters_that_do_not_fit_together_are_told(new_model, base_of, shake, tmp_path):
    folders = saved(new_model, base_of, shake, tmp_path, "llama", {"a": Lora(rank=2), "b": Qlora(rank=2)})
    with pytest.raises(ModelError, match="differ in base"):
        on_one_base(folders)
    other = saved(new_model, base_of, shake, tmp_path, "tied", {"c": Lora(rank=2)})
    with pytest.raises(ModelError, match="do not stand on one base.*\n.*\nIf these are copies of one model.*base='"):
        on_one_base({"a": folders["a"], **other})
    model = new_model("llama")
    add_tokens(model, ["<tool_x>"])
    names = attach(Lora(rank=2), model)
    longer = save_adapter(model, Lora(rank=2), names, tmp_path / "longer", base=str(base_of("llama")))
    with pytest.raises(ModelError, match="brings tokens"):
        on_one_base({"a": folders["a"], "longer": longer})
    with pytest.raises(ModelError, match="no adapter to put"):
        on_one_base({})


def test_adapters_on_copies_of_one_base_are_put_on_the_one_that_is_named(new_model, base_of, shake, logits, tmp_path):
    """Two runs from one LoRA run have each merged it into a folder of their own: the same base at two places."""
    places = {name: shutil.copytree(base_of("llama"), tmp_path / f"{name}-base") for name in ("a", "b")}
    wanted, folders = {}, {}
    for name, place in places.items():
        model = load(place)
        names = attach(Lora(rank=2), model, seed=1)
        shake(model.net)
        wanted[name] = logits(model.net)
        folders[name] = save_adapter(model, Lora(rank=2), names, tmp_path / name, base=str(place))
    with pytest.raises(ModelError, match=f"base='{places['a']}'"):
        on_one_base(folders)
    model, use = on_one_base(folders, base=str(places["a"]))
    for name, logit in wanted.items():
        with use(name):
            assert torch.allclose(logits(model.net), logit, atol=1e-5)
