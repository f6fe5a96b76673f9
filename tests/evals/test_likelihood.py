"""likelihoods against the plain forward of transformers, and the tree against one answer at a time."""

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, GPT2Config, MambaConfig, MixtralConfig, Qwen3Config

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.evals import likelihood as module
from tunesmith.evals.files import read_evaluation
from tunesmith.evals.likelihood import Tree, answer_ids, evaluate_likelihood, likelihoods
from tunesmith.metrics.accuracy import Accuracy
from tunesmith.model.load import fresh
from tunesmith.text.tokenizer import byte_tokenizer

PROMPTS = [[40, 50, 60, 70], [41, 90], [100, 40, 50, 60, 70, 80, 90]]
ANSWERS = [[50, 60, 5], [50, 60, 70, 5], [50, 5], [99, 5], [50, 60, 70, 71, 72, 5]]


def by_hand(net, prompt, answer):
    """Sum of log-softmax of transformers' own logits over the answer."""
    with torch.no_grad():
        logits = net(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0].float()
    logp = torch.log_softmax(logits, -1)
    return sum(logp[len(prompt) + i - 1, token].item() for i, token in enumerate(answer))


def test_equals_the_plain_forward(pico):
    found = likelihoods(pico, PROMPTS, ANSWERS)
    wanted = np.array([[by_hand(pico.net, prompt, answer) for answer in ANSWERS] for prompt in PROMPTS])
    assert found.shared and np.allclose(found.sums, wanted, atol=1e-4)
    assert found.tokens.tolist() == [3, 4, 2, 2, 6]
    assert found.choice().tolist() == wanted.argmax(1).tolist()
    assert found.choice(per_token=True).tolist() == (wanted / found.tokens).argmax(1).tolist()
    assert found.shares().sum(1) == pytest.approx([1, 1, 1])


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CONFIGS = {
    "qwen3": lambda v: Qwen3Config(vocab_size=v, num_key_value_heads=1, head_dim=16, **SMALL),
    "gemma2": lambda v: Gemma2Config(vocab_size=v, num_key_value_heads=1, head_dim=16, sliding_window=64, **SMALL),
    "gemma2 narrow": lambda v: Gemma2Config(
        vocab_size=v, num_key_value_heads=1, head_dim=16, sliding_window=4, **SMALL
    ),
    "gpt2": lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=2, n_positions=64, attn_pdrop=0.0),
    "mixtral": lambda v: MixtralConfig(vocab_size=v, num_key_value_heads=1, num_local_experts=2, **SMALL),
    "mamba": lambda v: MambaConfig(vocab_size=v, hidden_size=32, num_hidden_layers=2, state_size=4),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_shared_or_not(kind):
    model = fresh(CONFIGS[kind], byte_tokenizer(), name=kind)
    model.net.eval()
    found = likelihoods(model, PROMPTS, ANSWERS)
    wanted = np.array([[by_hand(model.net, prompt, answer) for answer in ANSWERS] for prompt in PROMPTS])
    assert np.allclose(found.sums, wanted, atol=2e-4)
    assert found.shared == (kind not in ("mamba", "gemma2 narrow"))


def test_one_by_one_in_several_passes(pico, monkeypatch):
    whole = module._one_by_one(pico.policy, PROMPTS[0], ANSWERS)
    monkeypatch.setattr(module, "PASS_TOKENS", 15)
    with torch.no_grad():
        assert np.allclose(module._one_by_one(pico.policy, PROMPTS[0], ANSWERS), whole.tolist(), atol=1e-5)


def test_tree():
    tree = Tree.of([[5, 6], [5, 7], [8], [5, 6]])
    assert tree.ids.tolist() == [5, 6, 7, 8] and tree.parents.tolist() == [-1, 0, 0, -1]
    assert tree.depths.tolist() == [0, 1, 1, 0]
    assert tree.paths.astype(int).tolist() == [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    assert tree.sees().astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_the_models_mode_is_left_as_it_was(pico):
    pico.net.train()
    try:
        likelihoods(pico, PROMPTS[:1], ANSWERS)
        assert pico.net.training
    finally:
        pico.net.eval()


def test_refusals(pico):
    with pytest.raises(SpaceError, match="514 tokens"):
        likelihoods(pico, [[40] * 511], [[50, 60, 5]])
    for prompts, answers in (([[]], [[5]]), ([[5]], [[]]), ([[5]], [])):
        with pytest.raises(DataError):
            likelihoods(pico, prompts, answers)


def test_an_evaluation_by_likelihood(pico, text, rows, tmp_path):
    labels = [row["messages"][1]["content"] for row in rows]
    summary = evaluate_likelihood(pico, text, rows, labels, {"accuracy": Accuracy()}, folder=tmp_path, name="chosen")
    found = read_evaluation(tmp_path / "chosen")
    prompts = [text.prompt(row["messages"][:1]) for row in rows]
    answers = [answer_ids(text, rows[0]["messages"][:1], label) for label in labels]
    assert text.decode(answers[2]) == "SEOUL" and answers[2][-1] == text.end_of_turn
    choice = likelihoods(pico, prompts, answers).choice()
    assert [line["prediction"] for line in found.rows] == [labels[i] for i in choice]
    assert all(line["runner_up"] != line["prediction"] and line["logprob"] <= 0 for line in found.rows)
    assert summary["metrics"]["accuracy"]["n"] == 6 and summary["likelihood"]["labels"] == 6
    wrapped = evaluate_likelihood(
        pico, text, rows, labels, {}, folder=tmp_path, name="json", say=lambda label: f'{{"city": "{label}"}}'
    )
    assert read_evaluation(tmp_path / "json").rows[0]["prediction"].startswith('{"city": "') and wrapped["n"] == 6
    with pytest.raises(DataError, match="two labels"):
        evaluate_likelihood(pico, text, rows, ["a", "a"], {}, folder=tmp_path, name="one")
