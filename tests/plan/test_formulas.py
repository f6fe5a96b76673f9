"""The closed formulas give the notes' numbers exactly, and the published ones."""

import pytest

from tunesmith.plan import formulas


def test_13b_at_two_bytes_is_26_gb_of_weights_and_31_2_to_run():
    assert 13e9 * 2 == 26e9
    assert formulas.inference(13e9, 2) == pytest.approx(31.2e9, rel=1e-12)


def test_13b_at_two_bytes_has_78_gb_of_gradients_and_states():
    assert formulas.states(13e9, 2) == 78e9


def test_korthikanti_34_sbh_a_layer():
    assert formulas.activations(2048, 4096, 32) == 34 * 2048 * 4096 * 32
    assert formulas.activations(2048, 4096, 32, recomputed=True) == 2 * 2048 * 4096 * 32


def test_keys_and_values_of_llama_2_7b():
    """2 x 32 layers x 4,096 wide x 2 bytes = 512 KiB a token (Kwon et al. 2023 count 800 KB for OPT-13B alike)."""
    assert formulas.kv_cache(1, 32, 32, 128, 2) == 512 << 10
    assert formulas.kv_cache(1, 40, 40, 128, 2) == 800 << 10


@pytest.mark.parametrize(("prompt", "answer"), [(40, 30), (40, 129), (40, 131), (40, 400), (300, 200)])
def test_the_cache_is_as_long_as_the_decoder_makes_it(prompt, answer, monkeypatch):
    """Columns that live at once whenever it makes a new cache, old ones and new ones."""
    seen = columns_of(monkeypatch, [[first, *[9] * (prompt - 1)] for first in (5, 6)], answer, batch=2)
    assert max(seen) == formulas.cache_columns(prompt, prompt + answer)


def test_rows_that_take_the_place_of_finished_ones_fill_the_cache_again_and_again(monkeypatch):
    lengths = [60 if number % 2 else 25 for number in range(20)]  # of the two rows one is always under way
    seen = columns_of(monkeypatch, [[first, *[9] * 39] for first in range(5, 25)], lengths, batch=2)
    assert formulas.cache_columns(40, 100) < max(seen) <= formulas.cache_columns(40, 100, refilled=True)


def columns_of(monkeypatch, prompts, answer, batch):
    from tunesmith.model.decode_lean import LeanDecoder
    from tunesmith.model.generate import generate
    from tunesmith.model.load import load

    make_room, seen = LeanDecoder._make_room, []

    def watched(self, rows, length):
        before = self.cache
        make_room(self, rows, length)
        if self.cache is not before:
            seen.append(sum(cache.shape[3] for cache in (before, self.cache) if cache.numel()))

    monkeypatch.setattr(LeanDecoder, "_make_room", watched)
    generate(load("pico"), prompts, max_tokens=answer, eos_ids=(), batch=batch, path="lean")
    return seen


@pytest.mark.parametrize(("stage", "each"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_divides_as_in_the_paper(stage, each):
    """Figure 1 of arXiv 1910.02054: 7.5B parameters, 64 devices, 2 + 2 + 12 bytes a parameter, in GB."""
    found = formulas.shard(15_000_000_000, 15_000_000_000, 90_000_000_000, devices=64, stage=stage)
    assert found.total / 1e9 == pytest.approx(each, abs=0.05)


def test_chinchilla_of_its_own_budget():
    """5.76e23 operations: about 70B parameters and 1.4T tokens (arXiv 2203.15556), and 6 N D gives the budget back."""
    parameters, tokens = formulas.compute_optimal(5.76e23)
    assert parameters == pytest.approx(70e9, rel=0.03)
    assert tokens == pytest.approx(1.4e12, rel=0.03)
    assert formulas.flops(parameters, tokens) == pytest.approx(5.76e23)
