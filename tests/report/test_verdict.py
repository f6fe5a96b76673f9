"""The verdict: right about what is proved, and silent about what is not."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tunesmith.report.labels import speaker
from tunesmith.report.read import read_run
from tunesmith.report.verdict import comparison_verdict, pair_test, paired_tests, panel_of, run_verdict
from tunesmith.train.watch import Watch

spec = spec_from_file_location("report_fixtures", Path(__file__).parent / "conftest.py")
made = module_from_spec(spec)
spec.loader.exec_module(made)
say = speaker("en")


def variant(name: str, kind: str, score: float, n: int = 770) -> dict:
    return {"name": name, "kind": kind, "score": score, "low": score - 0.02, "high": score + 0.02, "n": n}


def test(a: str, b: str, difference: float, half: float = 0.03, **more) -> dict:
    return {
        "a": a,
        "b": b,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "n": 770,
        **more,
    }


test.__test__ = False
BOTH = [variant("prompt", "prompt", 0.30), variant("tuned", "lora", 0.34)]
METRIC = {"name": "exact_match", "unit": "share"}


def test_proved_better():
    verdict = comparison_verdict(
        {"metric": METRIC, "variants": BOTH, "tests": [test("prompt", "tuned", 0.04, p=0.008)]}, say, "en"
    )
    assert verdict.headline == "tuned gets 34.0% of the test rows right. prompt got 30.0%." and verdict.tone == "good"
    points = dict(verdict.points)
    assert "+4.0 points against prompt (95% interval +1.0 to +7.0, p = 0.008)" in points["How it is proved"]
    assert "the same 770 test rows" in points["How it is proved"]
    assert "No other task was measured" in points["What got worse"]


def test_a_higher_score_that_is_not_told_apart_is_no_fix():
    verdict = comparison_verdict(
        {"metric": METRIC, "variants": BOTH, "tests": [test("prompt", "tuned", 0.04, half=0.05)]}, say, "en"
    )
    assert verdict.headline == "Nothing tried here is proved better than prompt (30.0%)." and verdict.tone == "plain"


def test_without_a_test_nothing_is_claimed():
    verdict = comparison_verdict({"metric": METRIC, "variants": BOTH}, say, "en")
    assert "no paired test" in verdict.headline and verdict.tone == "plain"


def test_equal_rungs_are_named():
    three = [*BOTH, variant("full", "full", 0.35)]
    found = [test("prompt", "full", 0.05), test("tuned", "full", 0.01)]
    text = dict(comparison_verdict({"metric": METRIC, "variants": three, "tests": found}, say, "en").points)[
        "What fixed it"
    ]
    assert "Not told apart from it: tuned (34.0%)" in text


def test_lower_can_be_better():
    report = {
        "metric": {"name": "bits_per_byte", "unit": "number", "better": "lower"},
        "variants": [variant("a", "prompt", 1.5), variant("b", "full", 1.2)],
    }
    report["tests"] = [test("a", "b", -0.3, half=0.1)]
    assert paired_tests(report)[0].outcome == "better"
    assert comparison_verdict(report, say, "en").headline == "b scores 1.2 in bits_per_byte, where a scored 1.5."


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        ({"verdict": "tuned and prompt are not told apart: difference +4.0 points"}, "not_told_apart"),
        ({"verdict": "prompt와(과) tuned의 차이가 구분되지 않음: 차이 +4.0점"}, "not_told_apart"),
        ({"verdict": "tuned is better than prompt by 4.0 points (95 % 1.0 to 7.0), p = .008, n = 770"}, "better"),
        ({"low": None, "high": None, "p": 0.2}, "not_told_apart"),
        ({"low": None, "high": None, "p": 0.01}, "better"),
        ({"low": None, "high": None}, "not_told_apart"),
        ({}, "better"),
    ],
)
def test_words_then_interval_then_p(raw, outcome):
    assert paired_tests({"variants": BOTH, "tests": [{**test("prompt", "tuned", 0.04), **raw}]})[0].outcome == outcome


def test_a_test_told_the_other_way_round_is_turned():
    (found,) = paired_tests({"variants": BOTH, "tests": [test("tuned", "prompt", 0.04)]})  # 0.04 = tuned - prompt
    assert (found.a, found.b, found.outcome) == ("prompt", "tuned", "better")
    turned = pair_test([found], "tuned", "prompt")
    assert (
        turned is not None and (turned.difference, turned.outcome) == (-0.04, "worse") and turned.low < turned.high < 0
    )


def test_the_panel_is_judged_by_a_test_not_by_overlap():
    def row(before: float, after: float, half: float, **more) -> dict:
        sides = [{"value": v, "low": v - half, "high": v + half} for v in (before, after)]
        return {"task": "t", "before": sides[0], "after": sides[1], **more}

    # intervals of 0.05 to either side overlap below a difference of 0.1, but 0.08 > sqrt(2) * 0.05 is a difference
    assert [r["outcome"] for r in panel_of({"panel": [row(0.5, 0.42, 0.05), row(0.5, 0.44, 0.05), row(0.5, 0.6, 0.05)]})] == [
        "worse", "not_told_apart", "better",
    ]  # fmt: skip
    assert (
        panel_of({"panel": [row(0.5, 0.44, 0.05, low=-0.08, high=-0.04)]})[0]["outcome"] == "worse"
    )  # paired, so sharper
    assert panel_of({"panel": [row(1.4, 1.8, 0.05, better="lower")]})[0]["outcome"] == "worse"


def test_a_panel_that_declares_its_margin():
    sides = {"before": {"value": 1.4}, "after": {"value": 1.42}, "better": "lower", "variant": "full"}
    rows = [
        {**sides, "task": t, "outcome": o, "kept": k}
        for t, o, k in (("a", "worse", True), ("b", "worse", False), ("c", "not_told_apart", True))
    ]
    assert [row["outcome"] for row in panel_of({"panel": rows})] == ["worse_within", "worse", "kept"]
    text = dict(comparison_verdict({"variants": BOTH, "panel": rows}, say, "en").points)["What got worse"]
    assert text == "On 3 other tasks: b (full) got worse. A little worse, within the margin: a (full)."


def test_the_best_must_beat_the_strongest_that_needs_no_training():
    three = [*BOTH, variant("picked", "retrieval", 0.33)]
    found = [test("picked", "tuned", 0.01), test("prompt", "tuned", 0.04)]
    verdict = comparison_verdict({"metric": METRIC, "variants": three, "tests": found}, say, "en")
    assert verdict.headline == "Nothing tried here is proved better than picked (33.0%)."
    found[0] = test("picked", "tuned", 0.01, half=0.005)
    verdict = comparison_verdict({"metric": METRIC, "variants": three, "tests": found}, say, "en")
    assert verdict.headline == "tuned gets 34.0% of the test rows right. prompt got 30.0%."
    assert "against picked, the best without training" in dict(verdict.points)["How it is proved"]


def run_of(folder: Path, events: list[dict]):
    made.dump_lines(folder / "events.jsonl", events)
    return read_run(folder)


def steps(*losses) -> list[dict]:
    return [{"kind": "step", "step": k + 1, "loss": loss, "seconds": 1.0} for k, loss in enumerate(losses)]


def test_run_that_learned_by_heart(tmp_path):
    dev = [{"kind": "eval", "step": k, "dev_loss": v} for k, v in ((1, 2.0), (2, 1.0), (3, 1.4))]
    verdict = run_verdict(
        run_of(tmp_path, [*steps(3.0, 1.0, 0.1), *dev, {"kind": "end", "early": True, "seconds": 3.0}]), say, "en"
    )
    assert verdict.headline == "Loss on unseen development rows went from 2 to 1."
    points = dict(verdict.points)
    assert "rose from 1 to 1.4" in points["What was kept"] and "step 2" in points["What was kept"]
    assert points["How it ended"] == "Stopped early: the development loss no longer fell, after 3 updates in 3.00 s."
    assert "No score is in this folder yet" in points["What it scores"]


def test_run_that_is_still_going_was_stopped_or_failed(tmp_path):
    start = {"kind": "start", "steps": 10}
    assert (
        run_verdict(run_of(tmp_path / "a", [start, *steps(3.0, 2.0)]), say, "en").headline
        == "This run has not ended: step 2 of 10."
    )
    stopped = run_verdict(run_of(tmp_path / "b", [start, *steps(3.0, 2.0), {"kind": "stopped", "step": 2}]), say, "en")
    assert dict(stopped.points)["How it ended"].startswith("Stopped from outside and saved, after 2 updates")
    failed = run_verdict(
        run_of(tmp_path / "c", [start, *steps(3.0, "NaN"), {"kind": "error", "message": "the loss is NaN"}]), say, "en"
    )
    assert failed.tone == "bad" and "the loss is NaN" in failed.headline
    assert "the first at step 2" in dict(failed.points)["Loss"]


def test_signs_that_the_reward_is_gamed_are_a_point(tmp_path):
    """The events are those that the watch gives; a sign of a kind that is not known is told in its own words."""
    watch, signs = Watch(kl_limit=1.0), []
    for k in range(60):
        signs += watch.note(k + 1, {"reward": float(k), "hidden": -float(k), "kl": 3.0})
    assert [sign.name for sign in signs] == ["kl", "hidden"]
    warned = [{"kind": "warning", **vars(sign)} for sign in signs]
    warned += [{**warned[0], "step": 50}, {"kind": "warning", "name": "new", "step": 55, "message": "the moon is full"}]
    run = run_of(tmp_path, [*steps(3.0, 1.0), *warned, {"kind": "end"}])
    text = dict(run_verdict(run, say, "en").points)["Warning: is the reward being gamed?"]
    first = f"Step {signs[0].step}: the KL divergence to the starting model reached 3 nats; the limit is 1."
    assert text.startswith(f"{first} It was given 2 times in all. Step {signs[1].step}: the reward rose by ")
    assert "while the hidden metric changed by −" in text and text.endswith("Step 55: the moon is full")
    korean = dict(run_verdict(run, speaker("ko"), "ko").points)["경고: 보상만 노리고 있나?"]
    assert korean.startswith(f"{signs[0].step}단계: 처음 모델과의 KL이 3냇이 되어 한도 1을 넘었습니다. 모두 2번")
    quiet = run_of(tmp_path / "quiet", [*steps(3.0, 1.0), {"kind": "end"}])
    assert not any("gamed" in title for title, _ in run_verdict(quiet, say, "en").points)
    torn = run_of(tmp_path / "torn", [*steps(3.0), {"kind": "warning", "name": "hidden"}])
    assert any("gamed" in title for title, _ in run_verdict(torn, say, "en").points)  # and no crash


def test_memory_that_ran_out_is_told_with_its_part(tmp_path: Path):
    """The events are those that training emits when it halves its passes."""
    shrunk = [
        {"kind": "out_of_memory", "step": 3, "part": "backward", "before": 8192, "pass_tokens": 4096},
        {"kind": "out_of_memory", "step": 9, "part": "forward", "before": 4096, "pass_tokens": 2048},
    ]
    told = dict(run_verdict(run_of(tmp_path, [*STEPS_OF_MEMORY, *shrunk]), say, "en").points)["Memory ran out"]
    for part in ("2 times", "backward pass of step 3", "2,048", "8,192"):
        assert part in told
    assert "Memory ran out" not in dict(run_verdict(run_of(tmp_path, STEPS_OF_MEMORY), say, "en").points)


def test_memory_that_ran_out_elsewhere_is_told_apart(tmp_path: Path):
    shrunk = [
        {"kind": "out_of_memory", "step": 3, "part": "evaluation", "before": 8192, "pass_tokens": 4096},
        {"kind": "out_of_memory", "step": 4, "part": "rollouts", "before": 64, "prompts": 32},
        {"kind": "out_of_memory", "step": 9, "part": "rollouts", "before": 32, "prompts": 16},
    ]
    told = dict(run_verdict(run_of(tmp_path, [*STEPS_OF_MEMORY, *shrunk]), say, "en").points)["Memory ran out"]
    first, second = told.split("2 times")
    assert "1 times, first in the evaluation of step 3" in first and "4,096" in first
    assert "rollouts of step 4" in second and "16 prompts" in second and "64" in second


STEPS_OF_MEMORY = [
    {"kind": "step", "step": 1, "loss": 2.0, "steps": 9},
    {"kind": "end", "step": 9, "status": "finished"},
]
