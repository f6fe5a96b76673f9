"""Added tokens: only their rows train, tied or not, and PEFT reads what was saved."""

import json
import warnings

import pytest
import torch
import transformers as hf

from tunesmith.adapters._rows import RowEmbedding, RowHead, merge_rows, refuse_untrained, row_layers, train_rows
from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.store import merge, open_adapter, save_adapter
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.model.generate import generate
from tunesmith.model.load import Model, fresh, load
from tunesmith.model.save import save
from tunesmith.model.tokens import add_tokens
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Example, Unit
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.train.optim import Optimizer
from tunesmith.train.run import embedding_names, fit

TOKENS = ["<tool_x>", "주문번호"]
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 128, "initializer_range": 0.3, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
NETS = {
    "tied": lambda rows: hf.LlamaConfig(vocab_size=rows, tie_word_embeddings=True, **SIZES),
    "untied": lambda rows: hf.LlamaConfig(vocab_size=rows, tie_word_embeddings=False, **SIZES),
    "padded": lambda rows: hf.LlamaConfig(vocab_size=rows + 32, tie_word_embeddings=True, **SIZES),
    "gemma": lambda rows: hf.Gemma3TextConfig(vocab_size=rows, head_dim=8, query_pre_attn_scalar=8, sliding_window=64, **SIZES),
    "gpt2": lambda rows: hf.GPT2Config(
        vocab_size=rows, n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    ),
}  # fmt: skip
every_net = pytest.mark.parametrize("kind", NETS)
two_nets = pytest.mark.parametrize("kind", ["tied", "untied"])


@pytest.fixture
def base(tmp_path):
    """base("tied") -> a small model that lies on disk, loaded from there."""

    def make(kind) -> Model:
        made = fresh(NETS[kind], byte_tokenizer(), name=kind)
        save(made.net, made.tokenizer, tmp_path / kind)
        return load(tmp_path / kind)

    return make


def with_tokens(model, adapter=None):
    """(model, its adapter, names of the layers, ids of the new tokens) as a run sets them up."""
    adapter = adapter or Lora(rank=2)
    ids = add_tokens(model, TOKENS)
    names = adapter.attach(model.net)
    train_rows(model.net, ids)
    return adapter, names, ids


def units_of(model):
    texts = ["call <tool_x> now", "the 주문번호 is <tool_x><tool_x>", "no tool at all", "주문번호? 주문번호!"]
    made = [model.tokenizer.encode(text) for text in texts]
    return [Unit((Example.of(ids, [0.0] + [1.0] * (len(ids) - 1)),), origin="t") for ids in made]


def learn(model, tmp_path, **settings):
    settings = {"steps": 4, "batch_size": 4, "lr": 1e-2, "weight_decay": 0.1, **settings}
    fit(
        model,
        Sft(),
        units_of(model),
        None,
        folder=RunFolder.create(tmp_path / "run", project={}, verb="train"),
        **settings,
    )
    return model


def logits(net, ids):
    net.eval()
    with torch.no_grad():
        return net(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def table_bytes(net):
    return [layer.weight.detach().clone() for layer in (net.get_input_embeddings(), net.get_output_embeddings())]


@every_net
def test_a_new_row_starts_as_the_mean_of_its_pieces(base, kind):
    model, plain = base(kind), base(kind)
    pieces = [plain.tokenizer.encode(token) for token in TOKENS]
    ids = add_tokens(model, TOKENS)
    assert model.tokenizer.encode("".join(TOKENS)) == ids
    assert model.tokenizer.decode(ids) == "".join(TOKENS)
    before, after = table_bytes(plain.net), table_bytes(model.net)
    for old, new in zip(before, after):
        for id, parts in zip(ids, pieces):
            assert torch.allclose(new[id], old[parts].mean(0), atol=1e-6)
        assert torch.equal(new[: ids[0]], old[: ids[0]])
    assert len(after[0]) == model.net.config.vocab_size == (len(before[0]) if kind == "padded" else ids[-1] + 1)
    assert (model.net.get_input_embeddings().weight is model.net.get_output_embeddings().weight) == (kind != "untied")


@every_net
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_the_new_rows_of_the_tables_move(base, tmp_path, kind, precision):
    model = base(kind)
    with_tokens(model)
    if precision == "bf16":
        model.net.to(torch.bfloat16).float()  # values that bf16 holds, so that the cast changes no byte
    before, start = table_bytes(model.net), model.net.get_input_embeddings().new_rows.detach().clone()
    learn(model, tmp_path, precision=precision)
    for old, new in zip(before, table_bytes(model.net)):
        assert torch.equal(old, new.float())
    embedding, head = model.net.get_input_embeddings(), model.net.get_output_embeddings()
    assert ((embedding.new_rows - start).abs().max(1).values > 1e-3).all()
    assert (embedding.new_rows is head.new_rows) == (kind != "untied")
    assert embedding.new_rows.dtype == torch.float32 and embedding.weight.requires_grad is False


@two_nets
def test_new_rows_get_no_weight_decay_and_are_held_once(base, kind):
    model = base(kind)
    with_tokens(model)
    optim = Optimizer(model.net.named_parameters(), weight_decay=0.1, embeddings=embedding_names(model.net))
    rows = {name for name in optim.names if name.endswith("new_rows")}
    assert rows == {"model.embed_tokens.new_rows", *(["lm_head.new_rows"] if kind == "untied" else [])}
    undecayed = {id(p) for group in optim.inner[0].param_groups if not group["weight_decay"] for p in group["params"]}
    assert all((id(p) in undecayed) == (name in rows) for name, p in zip(optim.names, optim.parameters))


@every_net
def test_chunked_loss_and_its_gradients_are_those_of_the_module(base, kind, labels_loss, gradients):
    model = base(kind)
    with_tokens(model)
    torch.manual_seed(0)
    for name, parameter in model.net.named_parameters():
        if name.endswith(("new_rows", "lora_B")):
            parameter.data += torch.randn_like(parameter) * 0.1
    units = units_of(model)
    wanted = labels_loss(model.net, units)
    wanted.backward()
    theirs = gradients(model.net)
    policy = model.policy
    total, logp = policy.nll(policy.batch(units))
    (total / len(logp)).backward()
    ours = gradients(model.net)
    assert torch.allclose(total / len(logp), wanted, atol=1e-5)
    assert any(name.endswith(("embed_tokens.new_rows", "wte.new_rows")) for name in ours)
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5, rtol=1e-4), name


@every_net
def test_full_tables_with_the_rows_in_place_say_the_same(base, kind, tmp_path):
    model = learn_rows(base(kind), tmp_path)
    embedding, head = model.net.get_input_embeddings(), model.net.get_output_embeddings()
    ids = units_of(model)[1].examples[0].ids.tolist()
    states = torch.randn(5, embedding.embedding_dim)
    assert torch.allclose(head(states), states @ head.effective_weight().T, atol=1e-6)
    before = logits(model.net, ids)
    weights = [embedding.effective_weight(), head.effective_weight()]
    merge_rows(model.net)
    assert not any(isinstance(m, RowEmbedding | RowHead) for m in model.net.modules())
    assert all(torch.equal(a, b) for a, b in zip(weights, table_bytes(model.net)))
    assert torch.allclose(logits(model.net, ids), before, atol=1e-5)


def learn_rows(model, tmp_path):
    with_tokens(model)
    return learn(model, tmp_path)


@every_net
def test_saved_and_opened_gives_equal_logits_and_so_does_merging(base, kind, tmp_path):
    model = base(kind)
    adapter, names, ids = with_tokens(model)
    learn(model, tmp_path)
    folder = save_adapter(model, adapter, names, tmp_path / "adapter", base=str(tmp_path / kind))
    text = units_of(model)[1].examples[0].ids.tolist()
    wanted = logits(model.net, text)
    opened = open_adapter(folder)
    assert opened.tokenizer.encode("".join(TOKENS)) == ids
    assert torch.equal(logits(opened.net, text), wanted)
    merged = merge(opened)
    assert torch.allclose(logits(merged.net, text), wanted, atol=1e-5)
    again = load(save(merged.net, merged.tokenizer, tmp_path / "merged"))
    assert torch.allclose(logits(again.net, text), wanted, atol=1e-5)
    assert again.net.config.vocab_size == len(again.net.get_input_embeddings().weight)
    assert again.tokenizer.encode("".join(TOKENS)) == ids


@every_net
def test_peft_loads_it_with_equal_logits(base, kind, tmp_path):
    peft = pytest.importorskip("peft")
    model = base(kind)
    adapter, names, _ = with_tokens(model)
    learn(model, tmp_path)
    folder = save_adapter(model, adapter, names, tmp_path / "adapter", base=str(tmp_path / kind))
    text = units_of(model)[1].examples[0].ids.tolist()
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path / kind, dtype=torch.float32)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("call <tool_x> 주문번호", add_special_tokens=False).input_ids == model.tokenizer.encode(
        "call <tool_x> 주문번호"
    )
    if len(tokenizer) > theirs.config.vocab_size:
        theirs.resize_token_embeddings(len(tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of missing and unexpected keys
        for other in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=other)
        theirs = peft.PeftModel.from_pretrained(theirs, folder)
    assert torch.allclose(logits(theirs, text), logits(model.net, text), atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert len(config["trainable_token_indices"]) == (2 if kind == "untied" else 1)


@two_nets
def test_what_peft_saved_is_read(base, kind, tmp_path):
    peft = pytest.importorskip("peft")
    plain = base(kind)
    ids = add_tokens(plain, TOKENS)
    save(plain.net, plain.tokenizer, tmp_path / "resized")
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "resized", dtype=torch.float32)
    indices = {"embed_tokens": ids, "lm_head": ids} if kind == "untied" else ids
    settings = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", trainable_token_indices=indices)
    theirs = peft.get_peft_model(theirs, settings)
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    theirs.save_pretrained(tmp_path / "theirs")
    opened = open_adapter(tmp_path / "theirs")
    text = units_of(plain)[1].examples[0].ids.tolist()
    assert torch.allclose(logits(opened.net, text), logits(theirs, text), atol=1e-5)


@every_net
def test_generated_tokens_are_those_of_the_whole_forward(base, kind, tmp_path):
    model = learn_rows(base(kind), tmp_path)
    torch.manual_seed(0)
    for name, parameter in model.net.named_parameters():
        if name.endswith("new_rows"):
            parameter.data = torch.randn_like(parameter) * 3  # so large that new tokens are among the answers
    model.net.eval()
    prompts = [unit.examples[0].ids.tolist() for unit in units_of(model)]
    answers = generate(model, prompts, max_tokens=6, eos_ids=())
    for prompt, answer in zip(prompts, answers):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(logits(model.net, ids)[-1].argmax()))
        assert list(answer.ids) == ids[len(prompt) :]
    assert any(id >= model.tokenizer.vocab_size - 2 for answer in answers for id in answer.ids)


@two_nets
def test_full_saves_the_longer_tables_and_their_size(base, kind, tmp_path):
    model = base(kind)
    _, _, ids = with_tokens(model, Full())
    assert not any(isinstance(m, RowEmbedding | RowHead) for m in model.net.modules())
    learn(model, tmp_path)
    folder = save(model.net, model.tokenizer, tmp_path / "full", dtype="fp32")
    again = load(folder)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == ids[-1] + 1
    assert again.tokenizer.encode("".join(TOKENS)) == ids
    text = units_of(model)[1].examples[0].ids.tolist()
    assert torch.equal(logits(again.net, text), logits(model.net, text))
    assert add_tokens(again, TOKENS) == ids  # they are there: nothing is added, their rows go on
    assert torch.equal(logits(again.net, text), logits(model.net, text))


def test_adding_twice_gives_equal_models(base):
    one, two = base("untied"), base("untied")
    add_tokens(one, TOKENS)
    torch.rand(3)
    add_tokens(two, TOKENS)
    assert all(torch.equal(a, b) for a, b in zip(table_bytes(one.net), table_bytes(two.net)))


def test_with_the_rows_switched_off_the_start_is_back(base, tmp_path):
    model = base("untied")
    with_tokens(model)
    text = units_of(model)[1].examples[0].ids.tolist()
    start = logits(model.net, text)
    learn(model, tmp_path)
    for layer in model.net.modules():
        if hasattr(layer, "enabled"):
            layer.enabled = False
    assert torch.allclose(logits(model.net, text), start, atol=1e-5)


@pytest.mark.parametrize("tokens, said", [(["a b", ""], "''"), (["<x>", "<x>"], "twice")])
def test_strange_tokens_are_refused(base, tokens, said):
    with pytest.raises(SettingError, match=said):
        add_tokens(base("tied"), tokens)


def test_an_adapter_in_the_head_is_refused(base):
    model = base("untied")
    with pytest.raises(SettingError, match="LoraLinear"):
        with_tokens(model, Lora(rank=2, targets=("lm_head",)))


def test_an_embedding_that_does_more_than_look_up_is_refused(base):
    model = base("tied")
    model.net.get_input_embeddings().register_forward_hook(lambda module, given, out: out * 2)
    with pytest.raises(ModelError, match="more than look rows up"):
        with_tokens(model)


def test_rows_that_do_not_fit_the_base_are_refused(base, tmp_path):
    model = base("untied")
    adapter, names, _ = with_tokens(model)
    folder = save_adapter(model, adapter, names, tmp_path / "adapter", base=str(tmp_path / "untied"))
    base("tied")
    with pytest.raises(ModelError, match="do not fit the base"):
        open_adapter(folder, base=str(tmp_path / "tied"))


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_data_with_a_token_whose_row_nobody_trained_is_refused(base, value):
    model = base("untied")
    dead = model.tokenizer.id_of("<|fim_prefix|>"), model.tokenizer.id_of("<|mask|>")
    model.net.get_input_embeddings().weight.data[list(dead)] = value
    used = [40, 41, dead[1]]
    refuse_untrained(model, used)  # the whole table trains
    _, _, ids = with_tokens(model)
    refuse_untrained(model, [40, 41, *ids])
    with pytest.raises(ModelError, match=r"never trained.*<\|mask\|>") as error:
        refuse_untrained(model, used)
    assert "add_tokens" in error.value.fix


def test_named_in_add_tokens_an_untrained_row_trains(base):
    model = base("untied")
    id = model.tokenizer.id_of("<|mask|>")
    model.net.get_input_embeddings().weight.data[id] = 0.0
    assert add_tokens(model, ["<|mask|>"]) == [id]
    Lora(rank=2).attach(model.net)
    train_rows(model.net, [id])
    refuse_untrained(model, [40, id])


@two_nets
def test_a_run_that_was_stopped_goes_on_to_the_same_rows(base, kind, tmp_path):
    def rows(name, *parts):
        model = base(kind)
        with_tokens(model)
        for settings in parts:
            path = tmp_path / name
            folder = (
                RunFolder.open(path) if settings.get("resume") else RunFolder.create(path, project={}, verb="train")
            )
            fit(model, Sft(), units_of(model), None, folder=folder, steps=4, batch_size=2, lr=1e-2, **settings)
            at = [layer.new_rows.detach().clone() for layer in row_layers(model.net).values()]
            model = base(kind)
            with_tokens(model)
        return at

    whole, resumed = rows("whole", {}), rows("parts", {"stop_after": 2}, {"resume": True})
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed))


@two_nets
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_other_optimisers_move_only_the_new_rows_too(base, kind, optimizer, tmp_path):
    model = base(kind)
    with_tokens(model)
    before, start = table_bytes(model.net), model.net.get_output_embeddings().new_rows.detach().clone()
    learn(model, tmp_path, optimizer=optimizer, lr=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, table_bytes(model.net)))
    assert (model.net.get_output_embeddings().new_rows != start).any(1).all()


def test_an_adapter_folder_with_a_part_missing_is_refused(base, tmp_path):
    model = base("tied")
    adapter, names, _ = with_tokens(model)
    folder = save_adapter(model, adapter, names, tmp_path / "adapter", base=str(tmp_path / "tied"))
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="its base has 288 rows"):
        open_adapter(folder)
    (folder / "tokenizer.json").write_text(whole)
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["trainable_token_indices"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not say of which"):
        open_adapter(folder)
