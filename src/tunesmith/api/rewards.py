"""What methods that sample are given: answers of the model as it is now, and what they are worth.

    answer = sampler(model, text, max_tokens=64, temperature=1.0)
    answer([[5, 6], [7]], 4, seeds=range(8))            # for each prompt, four Answers
    reward = reward_of("exact_match", root)
    reward(rows, ["42", "41"])                          # [1.0, 0.0]

A reward is a metric, a reward model ({model: RUN}), or a list of them with weights ({of: ..., weight: ...}).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Reward = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float]]


def sampler(model: Any, text: Any, *, max_tokens: int, temperature: float, batch: int) -> Callable[..., Any]:
    """(prompts, n, seeds) -> for each prompt a list of n Answers, as model/generate.py makes them."""

    def answer(prompts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[list[Any]]:
        from tunesmith.model.generate import generate

        asked = [list(prompt) for prompt in prompts for _ in range(n)]
        made = generate(
            model,
            asked,
            max_tokens=max_tokens,
            temperature=temperature,
            seeds=list(seeds),
            eos_ids=text.stops,
            batch=batch,
        )
        return [made[i * n : (i + 1) * n] for i in range(len(prompts))]

    return answer


def reward_of(spec: Any, root: Path) -> Reward:
    """What a setting `reward` means: rows and answers in, one number for each out."""
    from tunesmith.objectives._rollouts import weighted_reward

    return weighted_reward(spec, lambda one: _one(one, root))


def _one(spec: Any, root: Path) -> Reward:
    from tunesmith.core.shelf import shelf

    if isinstance(spec, Mapping) and set(spec) == {"model"}:
        return _by_model(str(spec["model"]), root)
    metric = shelf("metrics").make(spec, "reward")

    def score(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
        found = [metric.score(text, dict(row)) for row, text in zip(rows, texts, strict=True)]
        return [float(value) if isinstance(value, int | float) else worth(metric, value) for value in found]

    return score


def worth(metric: Any, value: Any) -> float:
    """One answer's value of a metric that keeps more than a number for it: its summary of this answer alone."""
    found = metric.summary([value])
    return float(found.value) if found.better == "higher" else -float(found.value)


def _by_model(name: str, root: Path) -> Reward:
    from tunesmith.api.build import resolve_model
    from tunesmith.evals.reward import RewardModel

    return RewardModel.open(resolve_model(name, root)).score
