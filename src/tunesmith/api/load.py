"""tunesmith.load: a model ready to answer, by name, folder or run (Python only)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.model.load import Model


def load(
    name: str | Path,
    *,
    precision: str = "fp32",
    device: str = "auto",
    merge: bool = False,
    kind: str | None = None,
    labels: Sequence[str] = (),
    problem: str = "single",
    rope: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> "Model":
    """A model with its tokenizer: `mini`, a folder, a run's folder, an adapter's, or a Hugging Face name.

    precision  fp32, bf16, fp16
    device     auto = a GPU where there is one; cpu, cuda, cuda:1
    merge      put an adapter's update into the weights: the same answers, faster
    kind       causal, classify, masked, seq2seq or embed; default: what it was saved as, classify where labels are given
    labels     names of a new classifier's scores; problem: single, multi or regression; seed draws its new head
    rope       {"kind": "yarn", "factor": 4}: a longer context

    model = tunesmith.load("runs/train-1"); model.answer("How do I activate my card?")
    """
    from tunesmith.adapters.store import merge as merged
    from tunesmith.adapters.store import open_run
    from tunesmith.api.chat import asking_of
    from tunesmith.api.device import take
    from tunesmith.core.errors import ModelError

    where = take(device)
    if kind is None and not labels and rope is None:
        if problem != "single":
            raise ModelError(f"problem is {problem}, but no labels are given.", fix="Give them: labels=(...).")
        model: Model = open_run(name, dtype=precision, device=where)
        model.facts["asking"] = asking_of(str(name))
        return merged(model) if merge else model
    from tunesmith.api.build import base_to_train
    from tunesmith.core.registry import named
    from tunesmith.model.load import load as loaded
    from tunesmith.model.load import made_as

    found = base_to_train(str(named(str(name))), Path())
    if (Path(found) / "adapter_config.json").is_file():
        raise ModelError(
            f"{name} is an adapter: it was trained on a network of its own kind, labels and context.",
            fix="Leave kind, labels and rope out, or merge it first: tunesmith merge",
        )
    kind = kind or ("classify" if labels else made_as(found))
    return loaded(
        found, kind=kind, labels=tuple(labels), problem=problem, dtype=precision, device=where, seed=seed, rope=rope
    )
