"""Soft prompts against PEFT: logits, gradients and files both ways; packed, padded and generated alike; lengths count them."""

import json

import peft
import pytest
import torch
import transformers as hf

from tunesmith.adapters._prompt import PromptEmbedding
from tunesmith.adapters._rows import merge_rows, train_rows
from tunesmith.adapters.prompt import Prompt
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.generate import generate
from tunesmith.model.policy import Policy
from tunesmith.model.tokens import add_tokens
from tunesmith.model.virtual import before, virtual_ids
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_adapter
from tunesmith.text.example import Example, Unit, together

KINDS = ["llama", "tied", "gpt2"]


def soft(new_model, kind, shake, virtual=3):
    model, adapter = new_model(kind), Prompt(virtual=virtual)
    names = attach(adapter, model, seed=3)
    shake(model.net, 0.5)
    return model, adapter, names


def logits_after(net, ids):
    """Of words behind the soft prompt."""
    front = virtual_ids(net)
    with torch.no_grad():
        return net(input_ids=torch.tensor([[*front, *ids]]), use_cache=False).logits[0, len(front) :]


@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_our_file_with_our_logits_and_gradients(
    kind, new_model, plain_net, base_of, shake, near, make_units, labels_loss, tmp_path
):
    model, adapter, names = soft(new_model, kind, shake)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of(kind)))
    theirs = peft.PeftModel.from_pretrained(plain_net(kind), folder).eval()
    theirs.active_peft_config.inference_mode = False  # PEFT loads soft prompts to be read only
    theirs.prompt_encoder.requires_grad_(True)
    with torch.no_grad():
        wanted = theirs(input_ids=torch.arange(3, 40)[None]).logits[0, 3:]
    assert near(logits_after(model.net, range(3, 40)), wanted)
    assert near(logits_after(open_adapter(folder).net, range(3, 40)), wanted)
    units = make_units([5, 17, 9])
    expected = labels_loss(theirs, units)
    expected.backward()
    gradient = theirs.prompt_encoder["default"].embedding.weight.grad
    for layout in ("packed", "padded"):
        policy = Policy(model.net, layout=layout)
        assert backward(policy, Sft(), units).loss == pytest.approx(expected.item(), rel=1e-5)
        assert gradient.any() and near(model.net.get_input_embeddings().prompt.grad, gradient)
        model.net.zero_grad()
    assert backward(model.policy, Sft(), units).loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_trained_is_read(kind, plain_net, base_of, shake, near, tmp_path):
    torch.manual_seed(0)
    theirs = peft.get_peft_model(plain_net(kind), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    shake(theirs)
    theirs.eval().save_pretrained(tmp_path / "a")
    with torch.no_grad():
        wanted = theirs(input_ids=torch.arange(3, 40)[None]).logits[0, 4:]
    opened = open_adapter(tmp_path / "a", base=str(base_of(kind)))
    assert near(logits_after(opened.net, range(3, 40)), wanted) and opened.adapter.virtual == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["auto", "merged", "grouped", "whole"])
def test_generated_tokens_are_pefts(kind, path, new_model, plain_net, base_of, shake, tmp_path):
    model, adapter, names = soft(new_model, kind, shake, virtual=18)  # long enough to be read once for all prompts
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of(kind)))
    theirs = peft.PeftModel.from_pretrained(plain_net(kind), folder).eval()
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5], [5, 6, 7, 11]]
    answers = generate(model, prompts, max_tokens=6, eos_ids=(), path=path)
    for prompt, answer in zip(prompts, answers):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(theirs(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer.ids == ids[len(prompt) :] and answer.num_prompt == len(prompt)


def test_the_context_counts_the_virtual_tokens(new_model, shake):
    model, _, _ = soft(new_model, "llama", shake, virtual=20)
    assert model.context == 128 - 20
    generate(model, [[5] * 98], max_tokens=10, eos_ids=())  # 20 + 98 + 10 = 128
    with pytest.raises(ModelError, match="over the model's context"):
        generate(model, [[5] * 99], max_tokens=10, eos_ids=())


def test_columns_and_shared_prompts_move_with_them():
    a = Example.of([5, 6, 7], [0, 0, 1], old=[0.0, 0.0, -1.5], reward=2.0)
    b = Example.of([5, 6, 8, 9], [0, 0, 1, 1], old=[0.0, 0.0, -2.0, -3.0], reward=1.0)
    (unit,) = before([together([a, b], "x:1")], (90, 91))
    assert unit.shared_prompt == 4 and unit.origin == "x:1"
    assert unit.examples[0].ids.tolist() == [90, 91, 5, 6, 7]
    assert unit.examples[1].weights.tolist() == [0, 0, 0, 0, 1, 1]
    assert (
        list(unit.examples[1].columns["old"]) == [0, 0, 0, 0, -2.0, -3.0] and unit.examples[1].columns["reward"] == 1.0
    )
    assert before([unit], (90, 91))[0] is unit  # a second time changes nothing
    assert before([unit], ()) == [unit]


def test_answers_over_one_prompt_are_laid_out_once_and_mean_the_same(new_model, shake):
    model, _, _ = soft(new_model, "llama", shake)
    examples = [Example.of([5, 6, 7, 8, *end], [0] * 4 + [1] * len(end)) for end in ([9, 10], [11], [12, 13, 14])]
    policy = model.policy
    alone = torch.cat([policy.logprobs(policy.batch([Unit((example,))])) for example in examples])
    batch = policy.batch([together(examples)])
    assert torch.allclose(policy.logprobs(batch), alone, atol=1e-5)


def test_they_start_as_words(new_model):
    table = new_model("llama").net.get_input_embeddings().weight
    model = new_model("llama")
    attach(Prompt(virtual=5, text="ab"), model)
    ids = model.tokenizer.encode("ab")
    wanted = table[[ids[number % len(ids)] for number in range(5)]]
    assert torch.equal(model.net.get_input_embeddings().prompt, wanted)
    model = new_model("llama")
    attach(Prompt(virtual=6), model, seed=1)
    prompt = model.net.get_input_embeddings().prompt
    assert all((row == table).all(1).any() for row in prompt)
    assert [n for n, p in model.net.named_parameters() if p.requires_grad] == ["model.embed_tokens.prompt"]
    with pytest.raises(SettingError, match="gives no tokens"):
        Prompt(text="ab").attach(new_model("llama").net)


def test_rows_of_new_tokens_train_beside_it(new_model, base_of, shake, near, tmp_path):
    model = new_model("tied")
    ids = add_tokens(model, ["<tool_x>"])
    names = attach(Prompt(virtual=3), model)
    train_rows(model.net, ids)
    shake(model.net)
    assert {n.rsplit(".", 1)[-1] for n, p in model.net.named_parameters() if p.requires_grad} == {"prompt", "new_rows"}
    folder = save_adapter(model, Prompt(virtual=3), names, tmp_path / "a", base=str(base_of("tied")))
    text = [5, *ids, 7, *ids]
    wanted = logits_after(model.net, text)
    assert near(logits_after(open_adapter(folder).net, text), wanted, 1e-6)
    merge_rows(model.net)
    assert isinstance(model.net.get_input_embeddings(), PromptEmbedding)
    assert near(logits_after(model.net, text), wanted)


def test_an_embedding_that_multiplies_what_it_reads_is_not_applied_twice(plain_net):
    config = hf.Gemma3TextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, query_pre_attn_scalar=8, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    net = hf.Gemma3ForCausalLM(config).eval()
    words = net.get_input_embeddings()
    Prompt(virtual=4).attach(net, seed=1)
    read = net.get_input_embeddings()(torch.tensor([[40, 41, 42, 43, 7]]))[0]
    every = words(torch.arange(40))
    assert all((row == every).all(1).any() for row in read)


def test_what_it_cannot_do_is_told(new_model, shake, base_of, tmp_path):
    model, adapter, names = soft(new_model, "llama", shake)
    opened = open_adapter(save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of("llama"))))
    with pytest.raises(ModelError, match="cannot be merged"):
        merge(opened)
    bert = hf.BertForMaskedLM(hf.BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(SettingError, match="encoder"):
        Prompt().attach(bert)
    with pytest.raises(SettingError):
        Prompt(virtual=0)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({**config, "num_virtual_tokens": 5}))
    with pytest.raises(ModelError, match="has shape"):
        open_adapter(tmp_path / "a")


def test_keeps_what_the_shelf_promises():
    check_adapter(Prompt(virtual=4))
