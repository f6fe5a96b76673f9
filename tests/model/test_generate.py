from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    Ministral3Config,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model import generate as room
from tunesmith.model.decode_general import GeneralDecoder
from tunesmith.model.decode_lean import LeanDecoder, why_not
from tunesmith.model.decode_whole import WholeDecoder
from tunesmith.model.generate import generate, proved_path
from tunesmith.text.tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
VOCAB = TOKENIZER.vocab_size
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,
    "pad_token_id": None,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SIZES, bos_token_id=None, eos_token_id=None),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=8, bos_token_id=None, eos_token_id=None),
    "gemma2": lambda: Gemma2Config(
        **SIZES, head_dim=8, sliding_window=8, bos_token_id=None, eos_token_id=None, query_pre_attn_scalar=8
    ),
    "granite": lambda: GraniteConfig(
        **SIZES, residual_multiplier=0.5, logits_scaling=2.0, bos_token_id=None, eos_token_id=None
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.25,
        bos_token_id=None, eos_token_id=None,
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4, bos_token_id=None, eos_token_id=None,
        pad_token_id=None,
    ),
    "jamba": lambda: JambaConfig(
        **SIZES | {"num_hidden_layers": 2}, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, num_experts=2, mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
        bos_token_id=None, eos_token_id=None,
    ),
}  # fmt: skip
PATHS = {
    "llama": "lean", "qwen2": "lean", "qwen3": "lean", "mistral": "merged", "gemma2": "merged", "granite": "merged",
    "gpt2": "merged", "mamba": "grouped", "jamba": "grouped",
}  # fmt: skip


@dataclass
class Model:
    net: nn.Module
    tokenizer: Any = field(default_factory=lambda: TOKENIZER)


@torch.inference_mode(False)  # tests that run in that mode share models with tests that want gradients
def fresh(name: str) -> Model:
    config: PreTrainedConfig = CONFIGS[name]()
    torch.manual_seed(3)
    return Model(
        AutoModelForCausalLM.from_config(config, attn_implementation="eager" if name == "gemma2" else None).eval()
    )


model_of = cache(fresh)


def prompts_of(*lengths: int, prefix: int = 0, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(32, VOCAB, (prefix,), generator=generator).tolist()
    return [shared + torch.randint(32, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def ids(answers: list[room.Answer]) -> list[list[int]]:
    return [answer.ids for answer in answers]


def assert_same_but_for_ties(
    net: nn.Module, prompts: list[list[int]], found: list[list[int]], wanted: list[list[int]]
) -> None:
    """Equal tokens; where two differ, the model's two best logits there are within 1e-4."""
    for prompt, ours, theirs in zip(prompts, found, wanted, strict=True):
        assert len(ours) == len(theirs)
        for step, pair in enumerate(zip(ours, theirs)):
            if pair[0] != pair[1]:
                logits = net(input_ids=torch.tensor([prompt + ours[:step]])).logits[0, -1]
                best = logits.topk(2).values
                assert best[0] - best[1] <= 1e-4, f"token {step}: {pair}"
                break  # after a tie the texts differ


# -- the same tokens, whatever the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "gemma2"])
def test_greedy_tokens_are_transformers(name):
    model, prompts = model_of(name), prompts_of(11, 3, 7, 7, 1)
    wanted = []
    for prompt in prompts:
        tokens = torch.tensor([prompt])
        out = model.net.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=24, do_sample=False, pad_token_id=0
        )
        wanted.append(out[0, len(prompt) :].tolist())
    found = ids(generate(model, prompts, max_tokens=24, eos_ids=()))
    assert_same_but_for_ties(model.net, prompts, found, wanted)
    assert len({tuple(answer) for answer in found}) > 1  # the prompts matter


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_path_that_is_proved(name):
    assert proved_path(model_of(name).net, 64) == PATHS[name]


@pytest.mark.parametrize("prefix", [0, 20])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_with_and_without_cache_the_same_tokens(name, prefix):
    model, prompts = model_of(name), prompts_of(9, 2, 5, 5, 12, 1, prefix=prefix)
    without = ids(generate(model, prompts, max_tokens=14, eos_ids=(), path="whole"))
    found = ids(generate(model, prompts, max_tokens=14, eos_ids=(), batch=4))
    assert_same_but_for_ties(model.net, prompts, found, without)


@pytest.mark.parametrize("path", ["lean", "merged", "grouped"])
def test_every_path_fits_llama(path):
    model, prompts = model_of("llama"), prompts_of(9, 2, 5, 5)
    assert ids(generate(model, prompts, max_tokens=10, eos_ids=(), path=path)) == ids(
        generate(model, prompts, max_tokens=10, eos_ids=(), path="whole")
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mamba"])
def test_rows_that_join_and_leave_answer_as_if_alone(name):
    model, prompts = model_of(name), prompts_of(4, 9, 1, 6, 6, 3, 8, 2)
    limits = [3, 17, 1, 8, 30, 2, 12, 5]
    alone = [generate(model, [p], max_tokens=n, eos_ids=())[0].ids for p, n in zip(prompts, limits)]
    for batch in (1, 3, 8):
        together = ids(generate(model, prompts, max_tokens=limits, eos_ids=(), batch=batch))
        assert_same_but_for_ties(model.net, prompts, together, alone)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_long_answers_outgrow_the_first_cache(name):
    model, prompts = model_of(name), prompts_of(5, 2, 30, 8)
    limits = [150, 20, 3, 135]
    found = ids(generate(model, prompts, max_tokens=limits, eos_ids=(), batch=2))
    wanted = ids(generate(model, prompts, max_tokens=limits, eos_ids=(), path="whole"))
    assert_same_but_for_ties(model.net, prompts, found, wanted)


def decoders(net: nn.Module, prefix: list[int]) -> dict[str, Any]:
    return {
        "lean": LeanDecoder(net, prefix, longest_prompt=6),
        "lean, weights as they are": LeanDecoder(net, prefix, longest_prompt=6, num_steps=1),
        "merged": GeneralDecoder(net, prefix, merge=True),
        "grouped": GeneralDecoder(net, prefix, merge=False),
    }


@pytest.mark.parametrize("prefix", [[], [40, 41, 42]])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["lean", "lean, weights as they are", "merged", "grouped"])
@torch.inference_mode()
def test_decoders_keep_rows_in_any_order(name, kind, prefix):
    net = model_of(name).net
    decoder, reference = decoders(net, prefix)[kind], WholeDecoder(net, prefix)

    def same(call):
        torch.testing.assert_close(call(decoder), call(reference), atol=2e-5, rtol=1e-4)

    same(lambda d: d.join(prompts_of(3, 6, 3, 1)))
    same(lambda d: d.step(torch.tensor([50, 51, 52, 53])))
    for d in (decoder, reference):
        d.keep([3, 1, 0])
    same(lambda d: d.step(torch.tensor([60, 61, 62])))
    same(lambda d: d.join(prompts_of(2, 5, 5, seed=1)))
    for d in (decoder, reference):
        d.keep([5, 2, 3])
    same(lambda d: d.step(torch.tensor([70, 71, 72])))
    for d in (decoder, reference):
        d.keep([])
    same(lambda d: d.join(prompts_of(4, 4, seed=2)))
    same(lambda d: d.step(torch.tensor([80, 81])))


def test_a_shared_prefix_is_read_once_and_changes_nothing(monkeypatch):
    model = fresh("llama")
    proved_path(model.net, 100)
    prompts = prompts_of(4, 2, 7, 2, prefix=30)
    stranger = prompts_of(5, seed=9)
    read = []
    walk = LeanDecoder._walk
    monkeypatch.setattr(LeanDecoder, "_walk", lambda self, ids, *rest: read.append(len(ids)) or walk(self, ids, *rest))
    shared = generate(model, prompts, max_tokens=12, eos_ids=())
    assert sum(read) == 30 + (4 + 2 + 7 + 2) + 11 * 4
    apart = generate(model, prompts + stranger, max_tokens=12, eos_ids=())[:4]  # the stranger shares no prefix
    assert ids(shared) == ids(apart)


def test_equal_prompts_are_read_once(monkeypatch):
    model, prompt = model_of("llama"), prompts_of(9)[0]
    proved_path(model.net, 100)
    read = []
    walk = LeanDecoder._walk
    monkeypatch.setattr(LeanDecoder, "_walk", lambda self, ids, *rest: read.append(len(ids)) or walk(self, ids, *rest))
    answers = generate(model, [prompt] * 6, max_tokens=5, temperature=1.0, eos_ids=())
    assert sum(read) == 9 + 4 * 6
    assert len({tuple(answer.ids) for answer in answers}) > 1


def test_a_prompt_of_many_answers_is_read_once_though_they_join_one_after_another(monkeypatch):
    """Seven answers to each of three prompts, four at a time: every prompt goes through the model once."""
    model, prompts = model_of("llama"), prompts_of(9, 11, 9)
    proved_path(model.net, 100)
    asked, limits = [p for p in prompts for _ in range(7)], [3 + i % 5 for i in range(21)]
    settings: dict[str, Any] = {"max_tokens": limits, "temperature": 1.0, "eos_ids": ()}
    alone = [
        generate(model, [p], **settings | {"max_tokens": n, "seeds": [i]})[0]
        for i, (p, n) in enumerate(zip(asked, limits))
    ]
    read = []
    walk = LeanDecoder._walk
    monkeypatch.setattr(LeanDecoder, "_walk", lambda self, ids, *rest: read.append(len(ids)) or walk(self, ids, *rest))
    together = generate(model, asked, batch=4, **settings)
    assert ids(together) == ids(alone)
    assert sum(read) == sum(map(len, prompts)) + sum(limit - 1 for limit in limits)


@pytest.mark.parametrize("prefix", [0, 20])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mamba", "jamba"])
def test_a_prompt_of_many_answers_is_answered_as_alone(name, prefix, monkeypatch):
    model, prompts = model_of(name), prompts_of(9, 4, 9, prefix=prefix)
    asked, limits = [p for p in prompts for _ in range(5)], [3 + i % 4 for i in range(15)]
    settings: dict[str, Any] = {"temperature": 1.0, "eos_ids": ()}
    wanted = generate(model, asked, max_tokens=limits, path="whole", **settings)
    proved_path(model.net, 100)
    read = []
    forward = GeneralDecoder._forward
    monkeypatch.setattr(
        GeneralDecoder, "_forward", lambda self, ids, *rest: read.append(tuple(ids.shape)) or forward(self, ids, *rest)
    )
    found = generate(model, asked, max_tokens=limits, batch=3, **settings)
    assert ids(found) == ids(wanted)
    for one, other in zip(found, wanted):
        assert one.sampled_logprobs == pytest.approx(other.sampled_logprobs, abs=1e-4)
    if name != "llama":
        prompt_tokens = sum(rows * time for rows, time in read if time > 1)
        own = sum(len(p) - (prefix if PATHS[name] == "merged" else 0) for p in prompts)
        assert prompt_tokens == own + (prefix if PATHS[name] == "merged" else 0)


# -- how answers end ------------------------------------------------------------------------------------------------


def test_an_end_token_ends_the_answer_and_is_not_shown():
    model, prompts = model_of("llama"), prompts_of(6, 4)
    free = generate(model, prompts, max_tokens=12, eos_ids=())
    end = {free[0].ids[5], free[1].ids[2]}
    found = generate(model, prompts, max_tokens=12, eos_ids=end)
    for whole, answer in zip(free, found):
        place = next(i for i, token in enumerate(whole.ids) if token in end)
        assert answer.finish == "stop"
        assert answer.ids == whole.ids[: place + 1]
        assert answer.text == TOKENIZER.decode(whole.ids[:place])
        assert len(answer.logprobs) == len(answer.sampled_logprobs) == len(answer.ids)


class Spelling:
    """A tokenizer that spells tokens 0, 1, 2 ... with the given pieces."""

    eos_ids = ()

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")


class Recite(nn.Module):
    """A causal LM that says the token after the last one, and the first after the last."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.eye(vocab).roll(1, 1) * 9)
        self.config = LlamaConfig(vocab_size=vocab, max_position_embeddings=64)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def forward(self, input_ids, use_cache=None):
        return type("Output", (), {"logits": self.table(input_ids)})()


def recite(text: str, stop: Any, *, cuts: list[int], max_tokens: int = 20) -> room.Answer:
    data = text.encode()
    pieces = [b"", *(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)]))]
    net = Recite(len(pieces) + 1)
    pieces.append(b"")
    return generate(Model(net, Spelling(pieces)), [[0]], max_tokens=min(max_tokens, len(pieces) - 2), stop=stop)[0]


def test_a_stop_string_over_three_tokens():
    answer = recite("abc<|im_end|>def", "<|im_end|>", cuts=[3, 6, 9, 11, 13, 15])
    assert (answer.text, answer.finish) == ("abc", "stop_string")
    assert answer.ids == [1, 2, 3, 4, 5]  # up to the token that completes it


def test_a_stop_string_inside_one_token_is_cut_out():
    answer = recite("one STOP two three", "STOP", cuts=[4, 12])
    assert (answer.text, answer.finish, answer.ids) == ("one ", "stop_string", [1, 2])


def test_the_first_of_several_stop_strings_wins():
    answer = recite("aa;bb.cc", [".", ";", "zz"], cuts=[8])
    assert (answer.text, answer.finish) == ("aa", "stop_string")


def test_a_stop_string_of_characters_split_between_tokens():
    text = "값은 셋이다。 끝"
    answer = recite(text, "。", cuts=list(range(1, len(text.encode()))), max_tokens=40)
    assert (answer.text, answer.finish) == ("값은 셋이다", "stop_string")


def test_without_the_stop_string_the_answer_runs_to_its_length():
    answer = recite("abcabc", "abd", cuts=[1, 2, 3, 4, 5])
    assert (answer.text, answer.finish) == ("abcabc", "length")


def test_an_answer_is_never_longer_than_allowed():
    for limit in (1, 2, 9):
        answers = generate(model_of("gpt2"), prompts_of(3, 5), max_tokens=limit, eos_ids=())
        assert [(len(answer.ids), answer.finish) for answer in answers] == [(limit, "length")] * 2


def test_prompt_and_answer_over_the_context_name_three_numbers():
    with pytest.raises(ModelError) as caught:
        generate(model_of("llama"), [*prompts_of(5), [40] * 500], max_tokens=13)
    assert all(number in str(caught.value) for number in ("500", "13", "512"))
    assert "12 or less" in str(caught.value)
    assert len(generate(model_of("llama"), [[40] * 500], max_tokens=12, eos_ids=())[0].ids) == 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1},
        {"stop": ["a", ""]}, {"seeds": [1, 2]}, {"batch": 0}, {"path": "fast"}, {"max_tokens": [3, 3]},
    ],
)  # fmt: skip
def test_impossible_settings(wrong):
    with pytest.raises(SettingError):
        generate(model_of("llama"), prompts_of(4), **{"max_tokens": 4} | wrong)


def test_an_empty_prompt_is_named():
    with pytest.raises(SettingError, match="prompt 1 is empty"):
        generate(model_of("llama"), [[40], []], max_tokens=4)


def test_no_prompts_no_answers():
    assert generate(model_of("llama"), [], max_tokens=4) == []


# -- sampling -------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_answer_in_any_company():
    model, prompts = model_of("llama"), prompts_of(6, 3, 9, 3)
    settings = {"max_tokens": 15, "temperature": 0.9, "top_p": 0.95, "eos_ids": ()}
    together = ids(generate(model, prompts, seeds=[11, 12, 13, 14], **settings))
    assert together == ids(generate(model, prompts, seeds=[11, 12, 13, 14], **settings))
    order = [2, 0, 3, 1]
    turned = ids(generate(model, [prompts[i] for i in order], seeds=[11 + i for i in order], batch=2, **settings))
    assert turned == [together[i] for i in order]
    assert ids(generate(model, [prompts[2]], seeds=[13], **settings)) == [together[2]]
    assert ids(generate(model, [prompts[2]], seeds=[99], **settings)) != [together[2]]


def test_logprobs_are_the_models():
    model, prompts = model_of("llama"), prompts_of(6, 3)
    plain = generate(model, prompts, max_tokens=10, temperature=1.0, eos_ids=())
    warm = generate(model, prompts, max_tokens=10, temperature=0.5, eos_ids=())
    for answers, temperature in ((plain, 1.0), (warm, 0.5)):
        for prompt, answer in zip(prompts, answers):
            logits = model.net(input_ids=torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
            index = torch.tensor(answer.ids)[:, None]
            wanted = logits.log_softmax(-1).gather(-1, index)[:, 0].tolist()
            tempered = (logits / temperature).log_softmax(-1).gather(-1, index)[:, 0].tolist()
            assert answer.logprobs == pytest.approx(wanted, abs=1e-4)
            assert answer.sampled_logprobs == pytest.approx(tempered, abs=1e-4)


def repeats(answers: list[room.Answer]) -> int:
    return sum(len(answer.ids) - len(set(answer.ids)) for answer in answers)


@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_repeats_fall_as_a_penalty_rises(penalty):
    model, prompts = model_of("gpt2"), prompts_of(6, 3, 8)
    counts = [
        repeats(generate(model, prompts, max_tokens=40, eos_ids=(), **{penalty: value})) for value in (0.0, 2.0, 200.0)
    ]
    assert counts[0] > counts[1] > counts[2] == 0


def test_penalties_count_generated_tokens_of_their_own_row_only():
    model, prompts = model_of("llama"), prompts_of(6, 3, 8)
    limits = [9, 25, 16]
    settings = {"frequency_penalty": 0.7, "presence_penalty": 0.4, "eos_ids": ()}
    for prompt, answer in zip(prompts, generate(model, prompts, max_tokens=limits, batch=2, **settings)):
        counts = torch.zeros(VOCAB)
        for step, token in enumerate(answer.ids):  # by the definition, one forward a token
            logits = model.net(input_ids=torch.tensor([prompt + answer.ids[:step]])).logits[0, -1]
            logits = logits - 0.7 * counts - 0.4 * (counts > 0)
            assert logits.max() - logits[token] <= 1e-4
            counts[token] += 1


# -- models as they come --------------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """A Linear with a low-rank part beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(2, base.in_features) * 0.5)
        self.up = nn.Parameter(torch.randn(base.out_features, 2) * 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


@pytest.mark.parametrize("part", ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"])
def test_an_adapted_layer_takes_effect_on_the_lean_path(part):
    model, prompts = fresh("llama"), prompts_of(6, 3)
    before = ids(generate(model, prompts, max_tokens=30, eos_ids=()))
    parent, name = part.split(".")
    torch.manual_seed(0)
    for layer in model.net.model.layers:
        setattr(getattr(layer, parent), name, Adapted(getattr(getattr(layer, parent), name)))
    assert proved_path(model.net, 64) == "lean"
    after = ids(generate(model, prompts, max_tokens=30, eos_ids=()))
    assert after != before
    assert after == ids(generate(model, prompts, max_tokens=30, eos_ids=(), path="whole"))


def test_a_hook_on_a_projection_takes_effect():
    model, prompts = fresh("llama"), prompts_of(6, 3)
    generate(model, prompts, max_tokens=30, eos_ids=())
    for layer in model.net.model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda module, args, out: out * 3)
    found = ids(generate(model, prompts, max_tokens=30, eos_ids=()))
    assert found == ids(generate(model, prompts, max_tokens=30, eos_ids=(), path="whole"))


def test_weights_changed_between_calls_take_effect():
    model, prompts = fresh("llama"), prompts_of(6, 3)
    before = ids(generate(model, prompts, max_tokens=30, eos_ids=()))
    for parameter in model.net.parameters():
        parameter.data.mul_(-1.3)  # behind autograd's version counter
    after = ids(generate(model, prompts, max_tokens=30, eos_ids=()))
    assert after != before
    assert after == ids(generate(model, prompts, max_tokens=30, eos_ids=(), path="whole"))


def test_a_window_shorter_than_the_text_keeps_off_the_lean_path():
    config = CONFIGS["mistral"]()
    config.sliding_window = 16
    net = AutoModelForCausalLM.from_config(config).eval()
    assert "looks back 16" in why_not(net, longest=17)
    assert proved_path(net, 16) == "lean"
    assert proved_path(net, 17) == "merged"


def test_parts_with_another_meaning_are_found_out():
    assert why_not(model_of("granite").net, longest=64) == ""  # looks like Llama, but scales its residuals
    assert proved_path(model_of("granite").net, 64) == "merged"


def test_attention_that_changes_with_the_position_is_found_out():
    torch.manual_seed(0)
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "original_max_position_embeddings": 64,
        "llama_4_scaling_beta": 0.5,
    }
    config = Ministral3Config(**SIZES, head_dim=8, bos_token_id=None, eos_token_id=None, rope_parameters=rope)
    net = AutoModelForCausalLM.from_config(config).eval()
    assert why_not(net, longest=64) == ""  # the first 64 positions are as in Llama
    assert proved_path(net, 64) == "merged"
    model, prompts = Model(net), prompts_of(70, 60)
    found = ids(generate(model, prompts, max_tokens=10, eos_ids=()))
    assert found == ids(generate(model, prompts, max_tokens=10, eos_ids=(), path="whole"))


def test_training_mode_and_gradients_are_left_as_they_were():
    model = fresh("llama")
    model.net.train()
    model.net.lm_head.eval()
    generate(model, prompts_of(4), max_tokens=3)
    assert model.net.training and model.net.model.layers[0].training and not model.net.lm_head.training
    loss = model.net(input_ids=torch.tensor(prompts_of(5))).logits.sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.net.parameters())


def test_answers_are_announced_as_they_finish_and_returned_in_order():
    announced = []
    prompts, limits = prompts_of(3, 4, 5, 6), [9, 2, 7, 4]
    answers = generate(
        model_of("llama"),
        prompts,
        max_tokens=limits,
        eos_ids=(),
        on_answer=lambda i, answer: announced.append((i, answer)),
    )
    assert [index for index, _ in announced] == [1, 3, 2, 0]
    assert all(answers[index] is answer for index, answer in announced)
    assert [answer.num_prompt for answer in answers] == [3, 4, 5, 6]
    assert [len(answer.ids) for answer in answers] == limits
    assert all(answer.seconds > 0 for answer in answers)


def test_output_that_is_not_a_number_is_an_error():
    model = fresh("llama")
    model.net.model.norm.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="not a number"):
        generate(model, prompts_of(4), max_tokens=4, path="lean")


def test_bf16_runs_on_the_lean_path_and_agrees_with_its_own_forward():
    model = fresh("qwen3")
    model.net.to(torch.bfloat16)
    assert proved_path(model.net, 64) == "lean"
    prompts = prompts_of(6, 3, 9)
    for prompt, answer in zip(prompts, generate(model, prompts, max_tokens=12, eos_ids=())):
        logits = model.net(input_ids=torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1].float()
        chosen = logits.gather(-1, torch.tensor(answer.ids)[:, None])[:, 0]
        assert (logits.amax(-1) - chosen).max() <= 0.1 * logits.std()  # the best, or within bf16's rounding of it


def test_a_lora_layer_takes_effect_merged_and_called():
    from tunesmith.adapters._linear import LoraLinear

    model, prompts = fresh("qwen2"), prompts_of(6, 3)
    before = ids(generate(model, prompts, max_tokens=40, eos_ids=()))
    torch.manual_seed(0)
    for layer in model.net.model.layers:
        for parent, name in ((layer.self_attn, "q_proj"), (layer.self_attn, "o_proj"), (layer.mlp, "down_proj")):
            adapted = LoraLinear(getattr(parent, name), rank=2, scale=1.0, dropout=0.1)
            nn.init.normal_(adapted.lora_A, std=0.4)
            nn.init.normal_(adapted.lora_B, std=0.4)
            setattr(parent, name, adapted.eval())
    wanted = ids(generate(model, prompts, max_tokens=40, eos_ids=(), path="whole"))
    assert wanted != before
    assert proved_path(model.net, 64) == "lean"
    assert ids(generate(model, prompts, max_tokens=40, eos_ids=())) == wanted  # long: merged
    short = ids(generate(model, prompts, max_tokens=8, eos_ids=()))  # short: called
    assert short == [answer[:8] for answer in wanted]
    for module in model.net.modules():
        if isinstance(module, LoraLinear):
            module.enabled = False
    assert ids(generate(model, prompts, max_tokens=40, eos_ids=())) == before
