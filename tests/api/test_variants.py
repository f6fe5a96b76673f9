"""The table of a chain's variants: what is told of it."""

from types import SimpleNamespace

from tunesmith.api.variants import _apart, _blank, _signs, told


def one(value, half, better="higher"):
    return {"value": value, "n": 20, "low": value - half, "high": value + half, "better": better, "extra": {}}


def variant(name, **measures):
    return {
        "name": name, "from": "base", "method": "sft", "adapter": "full", "steps": 3, "dev_loss": 1.0,
        "trainable_share": 0.5, "measures": measures,
    }  # fmt: skip


COMPARE = SimpleNamespace(judge="reward", reference="sft")
ASKING = SimpleNamespace(stage="sft", metrics={"token_f1": None})


def answered(name, judged, true, half=0.05):
    return variant(name, **{"sft: score by reward": one(judged, half), "sft: token_f1": one(true, half)})


def test_a_score_that_rises_while_the_hidden_metric_falls_is_told():
    variants = [answered("sft", 0.0, 0.8), answered("ppo", 0.5, 0.8), answered("free", 1.0, 0.3)]
    (sign,) = _signs(variants, COMPARE, ASKING)
    assert (
        "reward hacking in free" in sign and "rose over sft's by 1.000" in sign and "fell from 0.800 to 0.300" in sign
    )
    # within the noise, or without a judge, nothing is claimed
    assert _signs([answered("sft", 0.0, 0.8, 0.5), answered("free", 0.4, 0.5, 0.5)], COMPARE, ASKING) == []
    assert _signs(variants, SimpleNamespace(judge=None, reference="sft"), ASKING) == []
    assert _signs(variants, SimpleNamespace(judge="reward", reference=None), ASKING) == []


def test_differences_count_only_beyond_their_intervals_and_more_is_better():
    assert _apart(one(1.0, 0.1), one(0.5, 0.1)) == 0.5 and _apart(one(1.0, 0.3), one(0.5, 0.3)) == 0
    assert _apart(one(1.0, 0.1, "lower"), one(0.5, 0.1, "lower")) == -0.5
    assert _apart(one(1.0, 0.1) | {"low": None}, one(0.5, 0.1)) == 0


def test_the_best_of_a_column_is_marked_unless_all_are_equal():
    variants = [
        variant("a", x=one(1.0, 0.1), y=one(2.0, 0.1, "lower")),
        variant("b", x=one(1.0, 0.1), y=one(1.5, 0.1, "lower")),
    ]
    found = {"variants": variants, "measures": ["x", "y"], "left_out": {"x": 2}, "seen": [], "signs": ["A sign."]}
    text = told(found)
    assert text.count("*") == 2 and "b  1.500 [1.400, 1.600] *" in text  # one mark, and the line that explains it
    assert "A sign." in text and "2 rows of x do not fit" in text
    lines = told(found, markdown=True).splitlines()
    assert lines[0].startswith("| variant | from |") and lines[3].endswith(
        "| 1.000 [0.900, 1.100] | 1.500 [1.400, 1.600] * |"
    )


def test_blank_cells_of_one_reason_are_one_line():
    found = [{"variant": "reward", "measure": name, "why": "it is a classifier"} for name in ("sft: bits/byte", "a: b")]
    assert _blank([*found, {"variant": "base", "measure": "c: d", "why": "it is an encoder-decoder"}]) == [
        "reward has no sft: bits/byte, a: b: it is a classifier.", "base has no c: d: it is an encoder-decoder.",
    ]  # fmt: skip
