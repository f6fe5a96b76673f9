"""A saved model is whole: tied weights once, padding equal to eos harmless, dtype as asked, plain transformers reads it."""

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from tunesmith.core.errors import ModelError
from tunesmith.model.batch import pad
from tunesmith.model.load import fresh, load
from tunesmith.model.policy import Policy
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward


@pytest.mark.parametrize("name", ["llama_tied", "gemma2", "gpt2"])
def test_tied_embeddings_are_saved_once_and_stay_tied(name, model_of, tmp_path):
    model = model_of(name)
    save(model.net, model.tokenizer, tmp_path / "m", dtype="fp32")
    written = load_file(tmp_path / "m" / "model.safetensors")
    assert sum(v.numel() for v in written.values()) == sum(p.numel() for p in model.net.parameters())
    again = load(tmp_path / "m").net
    assert again.config.tie_word_embeddings
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    ids = torch.arange(3, 20)[None]
    assert torch.equal(again(input_ids=ids).logits, model.net(input_ids=ids).logits)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_dtype_is_that_asked_for_and_written_into_the_config(dtype, model_of, tmp_path):
    model = model_of("llama")
    before = model.net.config.dtype
    save(model.net, model.tokenizer, tmp_path / "m", dtype=dtype)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    assert {v.dtype for v in load_file(tmp_path / "m" / "model.safetensors").values()} == {wanted}
    assert hf.AutoModelForCausalLM.from_pretrained(tmp_path / "m").dtype == wanted
    assert model.net.config.dtype == before
    assert next(model.net.parameters()).dtype == torch.float32


def test_a_rope_scaling_is_written_and_read(tokenizer, tmp_path):
    config = hf.LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}, pad_token_id=None,
    )  # fmt: skip
    model = fresh(lambda _: config, tokenizer, name="scaled")
    save(model.net, tokenizer, tmp_path / "m")
    again = load(tmp_path / "m").net
    assert again.config.rope_parameters["factor"] == 4.0
    ids = torch.arange(3, 60)[None]
    assert torch.equal(again(input_ids=ids).logits, model.net(input_ids=ids).logits)


def in_several_files(model, folder):
    """The model as transformers writes one too large for a file: parts, and an index of which weight lies where."""
    model.net.save_pretrained(folder, max_shard_size="60KB")
    model.tokenizer.save(folder)
    assert (folder / "model.safetensors.index.json").is_file() and not (folder / "model.safetensors").exists()
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_a_model_in_several_files_is_read(name, model_of, tmp_path):
    model = model_of(name)
    again = load(in_several_files(model, tmp_path / "m"))
    ids = torch.arange(3, 20)[None]
    assert torch.equal(again.net(input_ids=ids).logits, model.net(input_ids=ids).logits)
    save(again.net, again.tokenizer, tmp_path / "one", dtype="fp32")  # and written as one
    assert torch.equal(load(tmp_path / "one").net(input_ids=ids).logits, model.net(input_ids=ids).logits)


@pytest.mark.parametrize("base", ["int8", "nf4", "streamed"])
def test_a_base_in_several_files_is_packed_or_streamed_as_from_one(base, model_of, tmp_path):
    model = model_of("llama")
    save(model.net, model.tokenizer, tmp_path / "one", dtype="fp32")
    ids = torch.arange(3, 20)[None]
    one, several = (
        load(folder, base=base).net for folder in (tmp_path / "one", in_several_files(model, tmp_path / "m"))
    )
    with torch.no_grad():
        assert torch.equal(several(input_ids=ids).logits, one(input_ids=ids).logits)


def test_a_model_with_a_file_missing_is_told(model_of, tmp_path):
    folder = in_several_files(model_of("llama"), tmp_path / "m")
    sorted(folder.glob("*.safetensors"))[1].unlink()
    with pytest.raises(ModelError, match="00002-of"):
        load(folder)


def test_a_kill_while_saving_leaves_the_old_model(model_of, tmp_path, monkeypatch):
    model = model_of("llama")
    save(model.net, model.tokenizer, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    monkeypatch.setattr(type(model.tokenizer), "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(model.net, model.tokenizer, tmp_path / "m", dtype="bf16")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


def test_the_padding_id_may_equal_any_other(model_of, make_units, gradients):
    """pad == eos, pad == a spare id, pad == a token that is trained on: the same gradients."""
    model, units = model_of("llama"), make_units([4, 11, 7])
    trained = int(units[0].examples[0].ids[-1])
    found = []
    for pad_id in (5, 20, trained):
        policy = Policy(model.net, layout="padded", pad_id=pad_id)
        assert torch.equal(policy.batch(units).ids, pad(units, pad_id).ids)
        found.append((backward(policy, Sft(), units).loss, gradients(model.net)))
    assert found[0][0] == found[1][0] == found[2][0]
    assert all(torch.equal(found[0][1][n], other[n]) for _, other in found[1:] for n in other)


def test_missing_weights_are_refused_and_not_made_up(model_of, tmp_path):
    from safetensors.torch import save_file

    model = model_of("llama")
    save(model.net, model.tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    kept = {n: v for n, v in load_file(path).items() if n != "lm_head.weight"}
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of LlamaForCausalLM's, such as lm_head.weight"):
        load(tmp_path / "m")


def test_damaged_weights_are_told(model_of, tmp_path):
    model = model_of("llama")
    save(model.net, model.tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="damaged|cannot be loaded"):
        load(tmp_path / "m")


def test_only_safetensors_are_read(model_of, tmp_path):
    model = model_of("llama")
    save(model.net, model.tokenizer, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.net.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors weights, only pytorch_model.bin"):
        load(tmp_path / "m")


def test_a_tokenizer_with_more_ids_than_rows_is_refused(model_of, tmp_path):
    from tunesmith.text.tokenizer import byte_tokenizer

    model, larger = model_of("llama"), byte_tokenizer()
    larger.add_tokens([f"<|extra_{i}|>" for i in range(3)])
    save(model.net, larger, tmp_path / "m")
    with pytest.raises(ModelError, match="291 ids, its model only 288 rows"):
        load(tmp_path / "m")


def test_names_that_do_not_exist_name_the_nearest(tmp_path):
    with pytest.raises(ModelError, match=r"(?s)no model 'minni'.*mini"):
        load("minni")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config.json"):
        load(tmp_path / "empty")
    with pytest.raises(ModelError, match="fp8"):
        load("pico", dtype="fp8")


def test_models_made_on_the_spot_are_fixed_by_the_seed_and_leave_the_random_state():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = load("pico", seed=1), load("pico", seed=1), load("pico", seed=2)
    assert torch.equal(torch.rand(3), wanted)
    weights = [m.net.model.embed_tokens.weight for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not one.net.training
