"""The watch over the reward: each sign on a made-up series that has it, none on those that do not."""

import json

import numpy as np
import pytest

from tunesmith.train.watch import Watch, trend

STEPS = 120


def series(slope, noise=0.1, start=0.0, steps=STEPS, seed=0):
    """`slope` over the whole run, with noise."""
    draw = np.random.default_rng(seed)
    return start + slope * np.arange(steps) / steps + noise * draw.normal(size=steps)


def signs(watch=None, **figures):
    """Names of all signs, in the order given."""
    watch = watch or Watch(kl_limit=5.0)
    steps = len(next(iter(figures.values())))
    return [s.name for i in range(steps) for s in watch.note(i + 1, {k: float(v[i]) for k, v in figures.items()})]


def test_the_trend_test_is_mann_kendalls():
    from scipy.stats import kendalltau, norm

    draw = np.random.default_rng(0)
    for values in (draw.normal(size=30), draw.normal(size=25) + np.arange(25) / 8, draw.integers(0, 4, size=40)):
        wanted = kendalltau(range(len(values)), values, variant="b", method="asymptotic")
        assert np.sign(trend(values)) == np.sign(wanted.statistic)
        # the same S over the same deviation, but for the correction of 1 for continuity
        n = len(values)
        _, counts = np.unique(values, return_counts=True)
        deviation = np.sqrt((n * (n - 1) * (2 * n + 5) - (counts * (counts - 1) * (2 * counts + 5)).sum()) / 18)
        z = norm.isf(wanted.pvalue / 2)
        assert abs(trend(values)) == pytest.approx(abs(z) - 1 / deviation, rel=1e-6)
    assert trend([]) == trend([1.0]) == trend([2.0, 2.0, 2.0]) == 0.0


def test_a_reward_that_rises_while_the_hidden_metric_falls():
    assert signs(reward=series(1.0), hidden=series(-1.0, seed=1)) == ["hidden"]
    assert signs(reward=series(1.0), hidden=series(1.0, seed=1)) == []
    assert signs(reward=series(1.0), hidden=series(0.0, seed=1)) == []
    assert signs(reward=series(0.0), hidden=series(-1.0, seed=1)) == []
    assert signs(reward=series(1.0)) == []


def test_answers_that_grow_with_the_reward():
    assert signs(reward=series(1.0), length=series(30, noise=2, start=20, seed=1)) == ["length"]
    assert signs(reward=series(1.0), length=series(-10, noise=2, start=20, seed=1)) == []
    assert signs(reward=series(0.0), length=series(30, noise=2, start=20, seed=1)) == []
    assert signs(reward=series(1.0, noise=0.01), length=series(2, noise=0.1, start=40, seed=1)) == []  # 5 % longer


def test_answers_that_repeat_themselves_more():
    assert signs(repetition=series(0.4, noise=0.02)) == ["repetition"]
    assert signs(repetition=series(0.02, noise=0.001)) == []
    assert signs(repetition=series(-0.4, noise=0.02, start=0.5)) == []


def test_a_policy_that_is_farther_than_allowed():
    assert signs(kl=series(8.0, noise=0.3)) == ["kl"]
    spike = np.where(np.arange(STEPS) == 50, 100.0, 1.0)
    assert signs(kl=spike) == []
    assert signs(Watch(), kl=series(8.0)) == []  # no limit was set


def test_a_slow_change_is_seen_over_the_whole_run():
    """So slow that no window of 20 steps shows it: 2,000 steps of noise ten times a window's change."""
    long = {"steps": 2000, "noise": 0.1}
    assert signs(reward=series(1.0, **long), hidden=series(-1.0, seed=1, **long)) == ["hidden"]


def test_a_sign_comes_again_only_after_it_was_gone():
    watch = Watch(kl_limit=5.0)
    assert signs(watch, kl=np.concatenate([np.full(9, 6.0), np.full(9, 1.0), np.full(9, 6.0)])) == ["kl"]
    assert signs(watch, kl=np.full(40, 1.0)) == []
    assert signs(watch, kl=np.full(9, 6.0)) == ["kl"]


def test_noise_alone_is_no_sign():
    """100 runs of 200 steps of unrelated figures: hardly any sign."""
    false = 0
    for seed in range(100):
        noise = {
            "reward": series(0.0, seed=4 * seed, steps=200), "hidden": series(0.0, seed=4 * seed + 1, steps=200),
            "length": series(0.0, noise=8, start=40, seed=4 * seed + 2, steps=200),
            "repetition": 0.1 + series(0.0, noise=0.03, seed=4 * seed + 3, steps=200),
        }  # fmt: skip
        false += bool(signs(**noise))
    assert false <= 3


def test_the_same_signs_after_a_resume():
    reward, hidden = series(1.0, steps=300), series(-1.0, seed=1, steps=300)

    def run(stop):
        watch, out = Watch(), []
        for i in range(300):
            if i == stop:
                watch = Watch(state=json.loads(json.dumps(watch.state)))
            out += [
                (s.step, s.message) for s in watch.note(i, {"reward": float(reward[i]), "hidden": float(hidden[i])})
            ]
        return out, watch.state

    whole = run(None)
    assert whole[0] and run(77) == whole and run(10) == whole


def test_a_sign_says_the_numbers_and_what_to_do():
    watch = Watch()
    found = [s for i in range(STEPS) for s in watch.note(i, {"reward": i / 100, "hidden": 1 - i / 100})]
    (sign,) = found
    assert sign.name == "hidden" and sign.facts["reward"] > 0 > sign.facts["hidden"]
    assert "rose from" in sign.message and "fell from" in sign.message and "kl" in sign.fix
    with pytest.raises(ValueError):
        Watch(window=3)
