"""What methods that sample are given: answers of the model as it is now, and what they are worth.

    answer = sampler(model, text, max_tokens=64, temperature=1.0)
    answer([[5, 6], [7]], 4, seeds=range(8))            # for each prompt, four Answers
    reward = reward_of("exact_match", root)
    reward(rows, ["42", "41"])                          # [1.0, 0.0]

A reward is a metric, a reward model ({model: RUN}), or a list of them with weights ({of: ..., weight: ...}).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Reward = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float]]
Vectors = Callable[[Sequence[str]], Any]  # texts -> array (texts, dim)


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


@dataclass(frozen=True, eq=False)
class Paid:
    """A reward, called with rows and answers, and the networks that it asks."""

    score: Reward
    networks: tuple[Any, ...]

    def __call__(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
        return self.score(rows, texts)


def reward_of(spec: Any, root: Path, device: str = "cpu") -> Paid:
    """What a setting `reward` means: rows and answers in, one number for each out. A reward model computes on `device`."""
    from tunesmith.objectives._rollouts import weighted_reward

    networks: list[Any] = []
    score = weighted_reward(spec, lambda one: _one(one, root, device, networks))
    return Paid(score, tuple(networks))


def models_of(spec: Any) -> list[str]:
    """The reward models that a setting `reward` names, each as often as it is opened; none is."""
    from tunesmith.core.shelf import shelf
    from tunesmith.objectives._rollouts import weighted_reward

    found: list[str] = []

    def note(one: Any) -> Reward:
        if isinstance(one, Mapping) and set(one) == {"model"}:
            found.append(str(one["model"]))
        elif getattr(metric := shelf("metrics").make(one, "reward"), "needs", ()):
            found.append(str(metric.model))
        return lambda rows, texts: []

    weighted_reward(spec, note)
    return found


def _one(spec: Any, root: Path, device: str, networks: list[Any]) -> Reward:
    from tunesmith.core.shelf import shelf

    if isinstance(spec, Mapping) and set(spec) == {"model"}:
        return _by_model(str(spec["model"]), root, device, networks)
    name = spec if isinstance(spec, str) else next(iter(spec), "") if isinstance(spec, Mapping) else type(spec).__name__
    metric = given(
        shelf("metrics").make(spec, "reward"),
        str(name),
        lambda model: _by_model(model, root, device, networks),
        root,
        device,
    )

    def score(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
        found = [metric.score(text, dict(row)) for row, text in zip(rows, texts, strict=True)]
        return [float(value) if isinstance(value, int | float) else worth(metric, value) for value in found]

    return score


def worth(metric: Any, value: Any) -> float:
    """One answer's value of a metric that keeps more than a number for it: its summary of this answer alone."""
    found = metric.summary([value])
    return float(found.value) if found.better == "higher" else -float(found.value)


def _by_model(name: str, root: Path, device: str, networks: list[Any]) -> Reward:
    """The scores of a reward model, which is added to `networks`."""
    from tunesmith.api.build import resolve_model
    from tunesmith.evals.reward import RewardModel

    judge = RewardModel.open(resolve_model(name, root), device=device)
    networks.append(judge.model.net)
    return judge.score


def given(metric: Any, name: str, reward: Callable[[str], Reward], root: Path, device: str) -> Any:
    """A metric together with what it needs, so that it scores like any other.

    reward  the scores of the reward model of a name, for a metric that needs `reward` and says in its setting `model` whose;
            one that needs `vectors` says likewise whose vectors of texts, and is given them as `vectors_later` makes them

    Raises SettingError where nothing provides what it needs.
    """
    from tunesmith.core.errors import SettingError
    from tunesmith.evals.given import Given

    needs = tuple(getattr(metric, "needs", ()))
    if not needs:
        return metric
    provided: dict[tuple[str, ...], tuple[str, Callable[[str], Any]]] = {
        ("reward",): ("a reward model", reward),
        ("vectors",): ("an embedding model", lambda model: vectors_later(model, root, device)),
    }
    if needs not in provided:
        raise SettingError(f"The metric {name} needs {', '.join(needs)}.", wanted="Nothing can provide that yet.")
    kind, provide = provided[needs]
    if not getattr(metric, "model", ""):
        raise SettingError(
            f"The metric {name} needs {kind} and does not say which.",
            fix=f"Give it a setting model, as {{{name}: {{model: RUN}}}}.",
        )
    return Given(metric, {needs[0]: provide(str(metric.model))})


def score_later(name: str, root: Path, device: str = "cpu") -> Reward:
    """The scores of a reward model, opened when the first answer is scored."""
    from functools import cache

    opened = cache(lambda: _by_model(name, root, device, []))
    return lambda rows, texts: opened()(rows, texts)


def step_helpers(root: Path, device: str = "auto") -> dict[str, Any]:
    """What the data steps of a project may need (data/steps/__init__.py); a model is opened when the first rows ask for it."""

    def nll(name: str) -> Callable[[Sequence[str]], list[tuple[float, int, int]]]:
        from tunesmith.adapters.store import open_run
        from tunesmith.api.build import resolve_model
        from tunesmith.api.device import take
        from tunesmith.core.errors import ModelError
        from tunesmith.evals.perplexity import surprises

        model = open_run(resolve_model(name, root), device=take(device))
        if model.kind != "causal":
            raise ModelError(
                f"{name} predicts no next token.", wanted="A causal language model to measure surprise with."
            )
        return lambda texts: surprises(model, texts)

    return {"nll": nll}


def vectors_later(name: str, root: Path, device: str = "cpu") -> Vectors:
    """The vectors that a model gives to texts, opened when the first answer is scored."""
    from functools import cache

    from tunesmith.adapters.store import open_run
    from tunesmith.api.build import resolve_model
    from tunesmith.evals.vectors import embed

    opened = cache(lambda: open_run(resolve_model(name, root), device=device))
    return lambda texts: embed(opened(), texts)
