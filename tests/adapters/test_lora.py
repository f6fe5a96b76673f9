"""LoRA against PEFT: logits, gradients and files both ways; starts at the base bit by bit; merges to the same; targets."""

import json
import math

import peft
import pytest
import torch
from safetensors.torch import load_file

from tunesmith.adapters._linear import LoraLinear
from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.store import merge, open_adapter, open_run, save_adapter
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_adapter

IDS = torch.arange(3, 40)[None]
CASES = {
    "llama": ("llama", {"rank": 4}, {}),
    "alpha": ("llama", {"rank": 4, "alpha": 3.0}, {"lora_alpha": 3.0}),
    "rslora": ("llama", {"rank": 4, "rslora": True}, {"use_rslora": True}),
    "some": ("llama", {"rank": 2, "targets": ("q_proj", "mlp.down_proj")}, {"target_modules": ["q_proj", "down_proj"]}),
    "one": ("llama", {"rank": 2, "targets": "model.layers.1.*_proj"}, {"target_modules": r"model\.layers\.1\..*_proj"}),
    "head": ("llama", {"rank": 2, "targets": ("lm_head", "v_proj")}, {"target_modules": ["lm_head", "v_proj"]}),
    "tied_head": ("tied", {"rank": 2, "targets": ("lm_head", "v_proj")}, {"target_modules": ["lm_head", "v_proj"]}),
    "conv1d": ("gpt2", {"rank": 4}, {}),
}


def randomise(model, names):
    """B is 0 at the start: give it something to do."""
    draw = torch.Generator().manual_seed(2)
    for name in names:
        model.net.get_submodule(name).lora_B.data.normal_(std=0.1, generator=draw)


def adapted(new_model, case, dtype="fp32"):
    name, ours, _ = CASES[case]
    model, adapter = new_model(name, dtype), Lora(**ours)
    names = adapter.attach(model.net, seed=3)
    randomise(model, names)
    return model, adapter, names


def in_peft(plain_net, case, folder):
    return peft.PeftModel.from_pretrained(plain_net(CASES[case][0]), str(folder), is_trainable=True).eval()


@pytest.mark.parametrize("case", CASES)
def test_peft_reads_our_files_and_gives_our_logits_and_gradients(
    case, new_model, plain_net, make_units, labels_loss, tmp_path
):
    model, adapter, names = adapted(new_model, case)
    save_adapter(model, adapter, names, tmp_path / "a", base="base")
    theirs, units = in_peft(plain_net, case, tmp_path / "a"), make_units([5, 17, 9])
    with torch.no_grad():
        assert torch.allclose(model.net(input_ids=IDS).logits, theirs(input_ids=IDS).logits, atol=1e-5)
    wanted = labels_loss(theirs, units)
    wanted.backward()
    assert backward(model.policy, Sft(), units).loss == pytest.approx(wanted.item(), rel=1e-5)
    expected = {n.replace(".default", ""): p.grad for n, p in theirs.named_parameters() if p.requires_grad}
    assert len(expected) == 2 * len(names)
    for name in names:
        layer = model.net.get_submodule(name)
        for part in ("lora_A", "lora_B"):
            gradient = expected[f"base_model.model.{name}.{part}.weight"]
            assert gradient.any()
            assert (getattr(layer, part).grad - gradient).abs().max() <= 1e-5 * max(1.0, gradient.abs().max().item())


@pytest.mark.parametrize("case", CASES)
def test_we_read_what_peft_writes(case, new_model, plain_net, tmp_path):
    name, ours, theirs = CASES[case]
    base = new_model(name)
    save(base.net, base.tokenizer, tmp_path / "base", dtype="fp32")
    settings = {"r": ours["rank"], "lora_alpha": 2 * ours["rank"], "target_modules": "all-linear", **theirs}
    torch.manual_seed(0)  # PEFT draws from the global generator
    wrapped = peft.get_peft_model(
        plain_net(name), peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    )
    wrapped.eval().save_pretrained(tmp_path / "a")
    model = open_adapter(tmp_path / "a", base=str(tmp_path / "base"))
    with torch.no_grad():
        wanted = wrapped(input_ids=IDS).logits
        near = 1e-5 * max(1.0, wanted.abs().max().item())
        assert torch.allclose(model.net(input_ids=IDS).logits, wanted, atol=near)
        assert torch.allclose(merge(model).net(input_ids=IDS).logits, wanted, atol=near)
    assert model.adapter is None


@pytest.mark.parametrize("case", CASES)
def test_merged_saved_and_read_again_the_logits_are_equal(case, new_model, tmp_path):
    """A head tied to the embeddings is untied by its update: the embeddings keep their bytes."""
    model, adapter, _ = adapted(new_model, case)
    embeddings = model.net.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        wanted = model.net(input_ids=IDS).logits
        adapter.merge(model.net)
        merged = model.net(input_ids=IDS).logits
        assert torch.allclose(merged, wanted, atol=1e-5)
        assert torch.equal(model.net.get_input_embeddings().weight, embeddings)
        save(model.net, model.tokenizer, tmp_path / "m", dtype="fp32")
        assert torch.equal(load(tmp_path / "m").net(input_ids=IDS).logits, merged)
    assert not [n for n, _ in model.net.named_parameters() if "lora" in n]


@pytest.mark.parametrize("case", CASES)
def test_our_own_files_come_back_bit_by_bit(case, new_model, tmp_path):
    model, adapter, names = adapted(new_model, case)
    base = new_model(CASES[case][0])
    save(base.net, base.tokenizer, tmp_path / "base", dtype="fp32")
    save_adapter(model, adapter, names, tmp_path / "a", base=str(tmp_path / "base"))
    again = open_run(tmp_path / "a")
    assert again.adapter.scale == adapter.scale
    assert sorted(again.facts["targets"]) == sorted(names)
    with torch.no_grad():
        assert torch.equal(again.net(input_ids=IDS).logits, model.net(input_ids=IDS).logits)
    written = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(written) == 2 * len(names)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["fan_in_fan_out"] == (case == "conv1d")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_first_logits_are_the_bases_bit_by_bit(case, dtype, new_model):
    name, ours, _ = CASES[case]
    model, base = new_model(name, dtype), new_model(name, dtype)
    Lora(**ours, dropout=0.1).attach(model.net)
    with torch.no_grad():
        wanted = base.net(input_ids=IDS).logits
        assert torch.equal(model.net(input_ids=IDS).logits, wanted)
    assert torch.equal(model.net(input_ids=IDS).logits, wanted)  # the path with gradients


def test_scale_and_number_of_parameters(new_model):
    assert Lora(rank=16).scale == 2
    assert Lora(rank=16, alpha=8).scale == 0.5
    assert Lora(rank=16, alpha=8, rslora=True).scale == 8 / math.sqrt(16)
    model = new_model("llama")
    names = Lora(rank=5, targets=("q_proj", "v_proj")).attach(model.net)
    assert names == [f"model.layers.{i}.self_attn.{p}_proj" for i in range(2) for p in "qv"]
    trained = sum(p.numel() for p in model.net.parameters() if p.requires_grad)
    assert trained == 2 * (5 * (32 + 32) + 5 * (32 + 16))


def test_a_is_drawn_from_the_seed_as_peft_draws_it_and_b_is_zero(new_model):
    weights = []
    for seed in (1, 1, 2):
        model = new_model("llama")
        names = Lora(rank=4).attach(model.net, seed=seed)
        layers = [model.net.get_submodule(name) for name in names]
        assert not any(layer.lora_B.any() for layer in layers)
        for layer in layers:  # kaiming_uniform(a=sqrt(5)): uniform within 1 / sqrt(in)
            bound = 1 / math.sqrt(layer.in_features)
            assert 0.8 * bound < layer.lora_A.abs().max() <= bound
        weights.append(torch.cat([layer.lora_A.flatten() for layer in layers]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_only_the_update_is_trained(new_model):
    model = new_model("gpt2")
    Lora().attach(model.net)
    assert {n.rsplit(".", 1)[-1] for n, p in model.net.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    Full().attach(model.net)
    assert all(p.requires_grad for p in model.net.parameters())


def test_dropout_is_off_in_evaluation_and_scales_in_training(new_model):
    model, _, names = adapted(new_model, "llama")
    layer = model.net.get_submodule(names[0])
    layer.dropout = 0.5
    x = torch.randn(4000, layer.in_features)
    with torch.no_grad():
        whole = layer(x) - x @ layer.weight.T
        layer.train()
        torch.manual_seed(0)
        first = layer(x) - x @ layer.weight.T
        assert not torch.allclose(first, whole)
        torch.manual_seed(0)
        assert torch.equal(layer(x) - x @ layer.weight.T, first)
        many = torch.stack([layer(x[:5]) for _ in range(3000)]).mean(0) - x[:5] @ layer.weight.T
        assert torch.allclose(many, whole[:5], atol=0.15)
    layer.eval()


def test_in_bf16_a_small_update_is_not_rounded_away(new_model):
    """Added to a bf16 weight it would vanish; computed beside it, it comes through."""
    model = new_model("llama", "bf16")
    name = Lora(rank=2, targets=("model.layers.0.self_attn.q_proj",)).attach(model.net)[0]
    layer = model.net.get_submodule(name)
    layer.weight.data.fill_(1.0)
    layer.lora_A.data.zero_()[:, 0] = 1e-2
    layer.lora_B.data.fill_(1e-2)
    x = torch.zeros(1, layer.in_features, dtype=torch.bfloat16)
    x[0, :2] = torch.tensor([1.0, -1.0])
    wanted = layer.scale * 2 * 1e-4  # scale x rank x A x B; the base gives 1 - 1
    assert torch.equal((layer.weight + layer.delta().to(torch.bfloat16)), layer.weight)
    assert layer(x).float().tolist()[0] == pytest.approx([wanted] * layer.out_features, rel=0.02)
    with torch.no_grad():
        assert layer(x).float().tolist()[0] == pytest.approx([wanted] * layer.out_features, rel=0.02)
        layer.enabled = False
        assert not layer(x).any()
        layer.enabled = True
    assert (layer.lora_A.dtype, layer.lora_B.dtype) == (torch.float32, torch.float32)


def test_all_linear_leaves_out_head_and_router(new_model):
    for name in ("llama", "tied", "gpt2", "mixtral"):
        names = Lora().attach(new_model(name).net)
        assert names
        assert not [n for n in names if "lm_head" in n or n.endswith((".gate", ".router"))]


def test_a_pattern_that_matches_nothing_is_told(new_model):
    with pytest.raises(SettingError, match=r"(?s)'q_pro' matches no linear layer .*q_proj"):
        Lora(targets=("q_pro",)).attach(new_model("llama").net)
    with pytest.raises(SettingError, match="matches no linear layer"):
        Lora(targets=("embed_tokens",)).attach(new_model("llama").net)  # never dropped in silence


EXPERTS = {
    "both": ("mlp.experts.gate_up_proj", "mlp.experts.down_proj"),
    "one": ("mlp.experts.down_proj",),
    "all": ("experts",),
    "glob": ("model.layers.*.mlp.experts.gate_up_proj",),
}


@pytest.mark.parametrize("case", EXPERTS)
def test_experts_joined_in_one_parameter_get_updates_as_peft_gives_them(case, ours_in_peft, logits, near):
    """PEFT's target_parameters: logits and gradients of each expert, and its nesting of files."""

    def ours(name):
        name = name.removeprefix("base_model.model.")
        place, _, rest = name.partition(".lora_")
        if ".experts" not in place:
            return name.removesuffix(".weight")
        adapted = [
            end
            for end in ("gate_up_proj", "down_proj")
            if any(t in ("experts", "all") or end in t for t in EXPERTS[case])
        ]
        inner = place.count(".base_layer")
        parameter = adapted[len(adapted) - 1 - inner]
        return f"{place.replace('.base_layer', '')}.{parameter}_lora_{rest[0]}"

    model, opened, _ = ours_in_peft(Lora(rank=2, targets=("q_proj", *EXPERTS[case])), "mixtral", ours)
    wanted = logits(model.net)
    assert near(logits(merge(opened).net), wanted)
    assert not [n for n, _ in opened.net.named_parameters() if "lora" in n]


def test_what_peft_trained_of_experts_is_read(peft_in_ours):
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=2,
        target_modules=["q_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    opened = peft_in_ours(config, "mixtral")
    assert sum("experts" in name for name in opened.facts["targets"]) == 4


def test_dropout_in_experts_is_told_and_other_adapters_tell_that_they_cannot(new_model):
    from tunesmith.adapters.dora import Dora

    with pytest.raises(SettingError, match="dropout cannot go into expert parameters"):
        Lora(targets=("experts",), dropout=0.1).attach(new_model("mixtral").net)
    with pytest.raises(SettingError, match="for which this adapter has no update"):
        Dora(targets=("experts",)).attach(new_model("mixtral").net)


PATTERNS = {"rank_pattern": {"down_proj": 3, r"layers\.1\.self_attn\.q_proj": 5}, "alpha_pattern": {"v_proj": 7.0}}


def test_ranks_and_alphas_by_pattern_are_pefts(ours_in_peft, peft_in_ours):
    model, opened, _ = ours_in_peft(
        Lora(rank=2, **PATTERNS), "llama", lambda name: name.removeprefix("base_model.model.").removesuffix(".weight")
    )
    ranks = {name: model.net.get_submodule(name).rank for name in opened.facts["targets"]}
    assert ranks["model.layers.0.mlp.down_proj"] == 3 and ranks["model.layers.1.self_attn.q_proj"] == 5
    assert model.net.get_submodule("model.layers.0.self_attn.v_proj").scale == 3.5
    assert opened.adapter.rank_pattern == PATTERNS["rank_pattern"]
    peft_in_ours(
        peft.LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=3, target_modules="all-linear", **PATTERNS), "llama"
    )


@pytest.mark.parametrize("kind", ["llama", "tied"])
@pytest.mark.parametrize("whole", [["lm_head"], ["embed_tokens"], ["model.norm", "layers.1.mlp"]])
def test_modules_that_peft_saved_whole_are_read(peft_in_ours, whole, kind):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=whole)
    peft_in_ours(config, kind)


@pytest.mark.parametrize("settings", [{"rank": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_settings_without_sense_are_told(settings):
    with pytest.raises(SettingError):
        Lora(**settings)


def test_what_is_not_read_yet_is_refused_and_never_ignored(plain_net, base_of, tmp_path):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn"], fan_in_fan_out=True, lora_bias=True)
    peft.get_peft_model(plain_net("gpt2"), config).save_pretrained(tmp_path / "a")
    with pytest.raises(ModelError, match="lora_bias"):
        open_adapter(tmp_path / "a", base=str(base_of("gpt2")))


def test_an_adapter_of_another_base_or_broken_is_told(new_model, tmp_path):
    model, adapter, names = adapted(new_model, "llama")
    folder = save_adapter(model, adapter, names, tmp_path / "a", base="pico")
    with pytest.raises((ModelError, SettingError), match=r"layers\.1"):
        open_adapter(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        open_adapter(folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ModelError):
        open_adapter(folder)


@pytest.mark.parametrize(
    "adapter", [Full(), Lora(), Lora(rank=2, dropout=0.2, rslora=True), Lora(targets=("lm_head", "q_proj"))]
)
def test_keeps_what_the_shelf_promises(adapter):
    check_adapter(adapter)


def test_a_layer_that_its_mixer_reads_without_calling_is_no_target():
    """Jamba's and Mamba's dt_proj: an update beside it would train and change nothing."""
    from torch import nn

    from tunesmith.adapters._targets import targets

    net = nn.ModuleDict({"mixer": nn.ModuleDict({"in_proj": nn.Linear(3, 3), "dt_proj": nn.Linear(3, 3)})})
    assert targets(net, "all-linear") == ["mixer.in_proj"]
    with pytest.raises(SettingError, match="reads without calling it"):
        targets(net, ("mixer.*",))


def layers_over_one_input(dtype=torch.float64):
    """Three adapted layers of 12 inputs, of other widths, ranks and scales, one with a bias."""
    torch.manual_seed(0)
    made = []
    for wide, rank, scale, bias in ((8, 2, 0.5, False), (4, 3, 2.0, True), (20, 1, 1.0, False)):
        layer = LoraLinear(torch.nn.Linear(12, wide, bias=bias, dtype=dtype).requires_grad_(False), rank, scale, 0.0)
        for part in (layer.lora_A, layer.lora_B):
            part.data = torch.randn_like(part)
        made.append(layer)
    return made


def test_layers_of_one_input_together_are_each_alone():
    layers = layers_over_one_input()
    x = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
    learned = [part for layer in layers for part in (layer.lora_A, layer.lora_B)]
    found = {}
    for way in ("together", "alone"):
        outs = layers[0].together(x, layers) if way == "together" else [layer(x) for layer in layers]
        grads = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out) for out in outs]
        found[way] = [*outs, *torch.autograd.grad(outs, [x, *learned], grads)]
    assert len(found["alone"]) == 3 + 1 + 6
    for mine, theirs in zip(found["together"], found["alone"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_layers_that_are_not_alike_are_not_computed_together():
    x = torch.randn(9, 12, dtype=torch.float64)
    layers = layers_over_one_input()
    assert layers[0].together(x, layers) is not None
    assert layers[0].together(x.bfloat16(), layers) is None
    with torch.no_grad():
        assert layers[0].together(x, layers) is None
    assert layers[0].together(x, [*layers, torch.nn.Linear(12, 4, dtype=x.dtype)]) is None
    watched = layers[1].register_forward_hook(lambda *_: None)
    assert layers[0].together(x, layers) is None
    watched.remove()
    layers[2].enabled = False
    assert layers[0].together(x, layers) is None
    layers[2].enabled = True
    layers[1].dropout = 0.1
    assert layers[0].together(x, layers) is None
    layers[1].eval()
    assert layers[0].together(x, layers) is not None
