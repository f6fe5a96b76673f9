"""The architecture matrix: losses and gradients equal transformers', packing proved or refused, save, LoRA, merge."""

import numpy as np
import pytest
import torch
import transformers as hf

from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import ModelError
from tunesmith.model.load import fresh, load
from tunesmith.model.policy import Policy
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.text.example import Example, Unit

LENGTHS = [5, 17, 9]
ROUNDED = ("mixtral", "qwen3_moe", "phimoe_window", "gpt_oss", "jamba")


def logits_of(net, units):
    """The module's own logits, document by document."""
    with torch.no_grad():
        rows = (torch.tensor(unit.examples[0].ids, dtype=torch.int64)[None] for unit in units)
        return torch.cat([net(input_ids=ids, use_cache=False).logits[0] for ids in rows])


def all_trained(*documents):
    return [Unit((Example.of(list(ids), [1.0] * len(ids)),)) for ids in documents]


def near(ours, theirs, share=1e-5):
    scale = max(1.0, theirs.abs().max().item())
    return (ours - theirs).abs().max().item() <= share * scale


def alike(architecture, ours, theirs):
    """To the last bit; where there are experts or narrow products, whose sums a processor may order by the rows they have, to 1e-6."""
    return torch.equal(ours, theirs) or (architecture in ROUNDED and near(ours, theirs, 1e-6))


def test_loss_and_gradients_equal_transformers_labels(
    architecture, model_of, plain_net, make_units, labels_loss, gradients
):
    model, units = model_of(architecture), make_units(LENGTHS)
    plain = plain_net(architecture)
    wanted = labels_loss(plain, units)
    wanted.backward()
    stats = backward(model.policy, Sft(), units)
    assert stats.loss == pytest.approx(wanted.item(), rel=1e-5)
    ours, theirs = gradients(model.net), gradients(plain)
    assert sum(g.abs().sum() for g in theirs.values()) > 0
    largest = max(g.abs().max().item() for g in theirs.values())
    assert [name for name in theirs if not near(ours[name], theirs[name], 1e-5 * max(1.0, largest))] == []


def test_packed_or_padded_with_the_reason(architecture, model_of, why_padded):
    proof = model_of(architecture).proof
    word = why_padded(architecture)
    assert proof.layout == ("packed" if word is None else "padded")
    assert (proof.reason == "") if word is None else (word in proof.reason)


def test_another_documents_tokens_change_nothing(architecture, model_of, make_units):
    """Bit-equal log-probabilities of document B, and no gradient from B's loss into what only A reads."""
    model = model_of(architecture)
    a, b, other = make_units([11], seed=1)[0], make_units([17], seed=2)[0], make_units([11], seed=3)[0]
    policy = model.policy

    def of_b(units):
        batch = policy.batch(units)
        with torch.no_grad():
            return policy.logprobs(batch)[batch.unit[batch.example] == 1]

    assert alike(architecture, of_b([a, b]), of_b([other, b]))
    # what the embedding gives each place, and not its table: a tied head reads that for every token
    read = []

    def keep(module, inputs, out):
        read.append(out.detach().requires_grad_(True))
        return read[-1]

    hook = model.net.get_input_embeddings().register_forward_hook(keep)
    batch = policy.batch([a, b])
    try:
        chosen = policy.logprobs(batch)[batch.unit[batch.example] == 1]
    finally:
        hook.remove()
    states = torch.autograd.grad(chosen.sum(), read[0])[0].flatten(0, -2)  # (places, width)
    if batch.ids.shape[0] == 1:  # packed: A's places, then B's
        of_a, of_b_too = states[: len(a.examples[0])], states[len(a.examples[0]) :]
    else:
        of_a, of_b_too = states.view(2, -1, states.shape[-1])
    assert len(read) == 1 and not of_a.any() and of_b_too.any()


def test_packed_equals_one_by_one(architecture, model_of, make_units, gradients):
    model, units = model_of(architecture), make_units([3, 17, 8, 8, 12], seed=4)
    together = backward(model.policy, Sft(), units)
    at_once = gradients(model.net)
    each = backward(model.policy, Sft(), units, pass_tokens=1)
    assert each.num_passes == 5
    assert together.loss == pytest.approx(each.loss, rel=1e-5)
    one_by_one = gradients(model.net)
    largest = max(g.abs().max().item() for g in at_once.values())
    assert all(near(at_once[n], one_by_one[n], 1e-5 * max(1, largest)) for n in at_once)


def test_a_later_token_changes_nothing_before_it(architecture, model_of, make_units):
    """Bit-equal: every log-probability before the changed token."""
    model = model_of(architecture)
    ids = make_units([20], seed=5)[0].examples[0].ids
    changed = np.concatenate([ids[:15], (ids[15:] + 1) % 280 + 3])
    policy = model.policy
    with torch.no_grad():
        before, after = (policy.logprobs(policy.batch(all_trained(x))) for x in (ids, changed))
    assert torch.equal(before[:14], after[:14])
    assert not torch.equal(before[14:], after[14:])


def test_saved_and_read_again_the_logits_are_equal(architecture, model_of, make_units, tmp_path):
    model, units = model_of(architecture), make_units(LENGTHS)
    save(model.net, model.tokenizer, tmp_path / "m", dtype="fp32")
    again = load(tmp_path / "m")
    assert again.proof == model.proof
    assert torch.equal(logits_of(again.net, units), logits_of(model.net, units))
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "m", attn_implementation="eager")
    assert near(logits_of(plain, units), logits_of(model.net, units))


def test_lora_starts_at_the_base_and_merges_to_the_same(architecture, new_model, model_of, make_units):
    model, units = new_model(architecture), make_units(LENGTHS)
    base = logits_of(model.net, units)
    adapter = Lora(rank=3)
    names = adapter.attach(model.net, seed=1)
    assert names
    assert alike(architecture, logits_of(model.net, units), base)
    assert alike(architecture, logits_of(model.net, units), logits_of(model_of(architecture).net, units))
    torch.manual_seed(0)
    for name in names:
        model.net.get_submodule(name).lora_B.data.normal_(std=0.1)
    adapted = logits_of(model.net, units)
    assert not near(adapted, base)
    policy = model.policy
    with torch.no_grad():
        through = policy.nll(policy.batch(units))[0]
        adapter.merge(model.net)
        assert near(logits_of(model.net, units), adapted)
        assert float(policy.nll(policy.batch(units))[0]) == pytest.approx(float(through), rel=1e-5)
    assert {name for name, _ in model.net.named_parameters()} == {
        n for n, _ in model_of(architecture).net.named_parameters()
    }


ENCODERS = {
    "bert": hf.BertConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4),
    "roberta": hf.RobertaConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4),
    "electra": hf.ElectraConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_refused(name, tokenizer):
    with pytest.raises(ModelError, match="reads later tokens: it is an encoder"):
        fresh(lambda _: ENCODERS[name], tokenizer, name=name)


def test_a_bert_folder_is_refused(tmp_path, tokenizer):
    hf.BertLMHeadModel(ENCODERS["bert"]).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(ModelError, match="it is an encoder"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (hf.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2), "t5"),
        (hf.BartConfig(vocab_size=300, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                       decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32), "bart"),
    ],
)  # fmt: skip
def test_encoder_decoders_are_refused(config, kind, tmp_path, tokenizer):
    hf.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(ModelError, match=rf"encoder-decoder \({kind}\)"):
        load(tmp_path)


def test_attention_that_ours_does_not_implement_is_given_back(model_of):
    assert model_of("gpt_oss").net.config._attn_implementation == "eager"
    assert model_of("llama").net.config._attn_implementation == "tunesmith"


def test_logits_that_are_not_the_heads_are_refused(tokenizer, new_model):
    from tunesmith.model.prove import prove

    net = new_model("llama").net
    head = net.lm_head
    net.lm_head = torch.nn.Sequential(head)
    net.lm_head.register_forward_hook(lambda module, inputs, out: out)
    net.get_output_embeddings = lambda: net.lm_head
    assert prove(net).exact_head is False  # only the module itself knows: it is called chunk by chunk
    forward = net.forward

    def louder(**inputs):
        out = forward(**inputs)
        out.logits = out.logits * 2 + 1
        return out

    net.forward = louder
    with pytest.raises(ModelError, match="not what its head makes"):
        prove(net)


def test_a_head_that_only_its_module_knows_gives_the_same_loss(model_of, make_units, gradients):
    model, units = model_of("gemma2"), make_units(LENGTHS)
    wanted = backward(model.policy, Sft(), units).loss
    by_weight = gradients(model.net)
    through = Policy(model.net, exact_head=False)
    assert backward(through, Sft(), units).loss == pytest.approx(wanted, rel=1e-5)
    by_module = gradients(model.net)
    assert all(near(by_module[n], by_weight[n]) for n in by_weight)
