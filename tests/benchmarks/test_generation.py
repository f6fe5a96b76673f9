import torch
from benchmarks import generation
from transformers import LlamaConfig, LlamaForCausalLM


def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=generation.VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_the_benchmarked_model_has_the_size_it_names():
    with torch.device("meta"):
        net = generation.build("meta")
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 1) == 9.5


def test_cells_are_what_the_page_says_and_the_same_every_time():
    first, second = generation.cells(quick=False), generation.cells(quick=False)
    assert first == second
    assert [cell.batch for cell in first] == [1, 8, 32, 32]
    mix = first[-1]
    assert len(mix.prompts) == 96 and all(len(prompt) == 64 for prompt in mix.prompts)
    assert min(mix.lengths) >= 4 and max(mix.lengths) <= 128 and len(set(mix.lengths)) > 30


def test_both_sides_answer_alike_and_a_difference_is_listed_with_its_gap():
    net, whole = tiny(), generation.cells(quick=True)[-1]
    cell = generation.Cell("mix", whole.prompts[:5], [3, 9, 5, 4, 7], 3)
    mine, other = generation.ours(net, cell), generation.theirs(net, cell)
    assert generation.differences(net, cell, mine, other) == []
    assert [len(answer) for answer in other] == cell.lengths
    other[1][4] = (other[1][4] + 1) % generation.VOCAB
    (found,) = generation.differences(net, cell, mine, other)
    assert (found["answer"], found["token"]) == (1, 4) and found["gap"] > 0
