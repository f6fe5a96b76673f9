"""A chain's file checked whole, before its first stage trains: hours of stages must not end at a typo in the last one.

projects = check_stages(plan)          # {"sft": (Project, filled)}; errors name the stage or the setting of compare
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ProjectError, UserError
from tunesmith.core.names import nearest
from tunesmith.core.result import Result
from tunesmith.core.shelf import shelf

_QUESTIONS = ("chat", "prompt")  # rows that are questions; of those that compare answers the prompt can be asked
_WITH_PROMPTS = (*_QUESTIONS, "preference", "scored")


def check_stages(plan: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The project of every stage and its filled settings, each with its method, adapter, metrics and files checked; the table too.

    What only a finished stage could tell (its run, as "@reward") is taken as given."""
    from tunesmith.api.chain import _project
    from tunesmith.api.fit import refuse_changes
    from tunesmith.api.variants import metrics_of

    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    methods: dict[str, Any] = {}
    adapters: dict[str, Any] = {}
    for stage in plan.stages:
        run = plan.out / stage.name
        try:
            project, filled, root = _project(plan, stage, stage.base or plan.model, run, {})
            methods[stage.name] = shelf("objectives").make(project.method, "method")
            adapters[stage.name] = shelf("adapters").make(project.adapter, "adapter")
            metrics_of(project.metrics, root)
            if hasattr(methods[stage.name], "fit"):
                refuse_changes(project, filled)
            if not (run / "manifest.json").is_file():  # a run that is there has its rows
                _check_data(project.data, root)
        except UserError as error:
            raise type(error)(f"stages.{stage.name}: {error.found}", wanted=error.wanted, fix=error.fix) from None
        if stage.base is not None:
            _check_start(stage, found[stage.base][1], adapters[stage.base], methods[stage.base])
        found[stage.name] = (project, filled)
    _check_compare(plan, methods, found)
    return found


def checked(config: Any, keys: dict[str, Any]) -> Result:
    """What `tunesmith check` says of a file with stages."""
    from tunesmith.api.chain import _plan
    from tunesmith.api.check import _spec_text, base_model

    plan = _plan(config, keys)
    found = {name: filled for name, (_, filled) in check_stages(plan).items()}
    base = base_model(plan.model, plan.root)
    lines = [f"model     {plan.model} ({base})"]
    for stage in plan.stages:
        filled = found[stage.name]
        told = f"{_spec_text(filled['method'])}, {_spec_text(filled['adapter'])}"
        lines.append(f"{stage.name:<9} from {stage.base or 'base'}: {told}")
    lines += ["", "All settings and names of all stages are right."]
    return Result(stages=found, root=str(plan.root), base=base, text="\n".join(lines))


def _check_data(data: Any, root: Path) -> None:
    from tunesmith.api.check import data_files

    if data.path is None and data.name is None:
        raise ProjectError("it has no data.", fix="Say where it is: data: questions.jsonl")
    data_files(data.path, root, "data.path")
    for name, value in (("data.dev", data.dev), ("data.test", data.test)):
        if isinstance(value, str):
            data_files(value, root, name)


def _check_start(stage: Any, filled: Mapping[str, Any], adapter: Any, method: Any) -> None:
    """A stage can only go on from a model: an adapter that stays beside its base is none."""
    if hasattr(method, "fit"):
        raise ProjectError(
            f"stages.{stage.name} starts from {stage.base}, whose method={next(iter(filled['method']))} changes no model.",
            fix=f"stages.{stage.name}.from: another stage, or base",
        )
    if not getattr(adapter, "merges", True):
        raise ProjectError(
            f"stages.{stage.name} starts from {stage.base}, whose adapter {next(iter(filled['adapter']))} cannot be put into the "
            "weights, so that no model is there to go on from.",
            fix=f"stages.{stage.base}.adapter: lora, or stages.{stage.name}.from: another stage, or base",
        )


def _check_compare(plan: Any, methods: Mapping[str, Any], found: Mapping[str, tuple[Any, dict[str, Any]]]) -> None:
    """Every setting of the table names a stage that can be what it is named for."""
    from tunesmith.api.variants import metrics_of

    compare = plan.compare
    for word in ("answer", "judge", "reference"):
        _check_named(word, getattr(compare, word), methods)
    metrics_of(compare.metrics, plan.root, where="compare.metrics")

    def told(name: str) -> str:
        return f"{name}, a stage of method={next(iter(found[name][1]['method']))}"

    def can(word: str, fits: Any, wanted: str) -> None:
        name = getattr(compare, word)
        if name is not None and not fits(methods[name]):
            others = [other for other, method in methods.items() if fits(method)]
            raise ProjectError(
                f"compare.{word} is {told(name)}.", wanted=wanted,
                fix=f"There is: {', '.join(others)}" if others else f"Leave compare.{word} out.",
            )  # fmt: skip

    can("judge", _scores_answers, "A stage that makes a reward model: method=reward.")
    can("reference", _writes, "A stage whose model writes, as method=sft.")
    can(
        "answer",
        lambda method: _asks(method, _WITH_PROMPTS),
        "A stage with questions whose model writes, as method=sft.",
    )
    wants = [word for word in ("judge", "reference", "metrics") if getattr(compare, word)]
    if wants and compare.answer is None and not any(map(_asks, methods.values())):
        raise ProjectError(
            f"compare.{wants[0]} is set, and no stage has questions to answer.",
            wanted="A stage with questions, as method=sft.", fix=f"Leave compare.{wants[0]} out.",
        )  # fmt: skip


def _check_named(word: str, name: str | None, stages: Mapping[str, Any]) -> None:
    if name is None or name in stages:
        return
    close = nearest(name, stages)
    raise ProjectError(
        f"compare.{word} is {name}, which is no stage.",
        wanted=f"One of: {', '.join(stages)}.",
        fix=f"Did you mean: {close[0]}" if close else "",
    )


def _writes(method: Any) -> bool:
    return getattr(method, "kind", "causal") == "causal"


def _asks(method: Any, kinds: tuple[str, ...] = _QUESTIONS) -> bool:
    shape = getattr(method, "shape", "chat")
    return _writes(method) and any(kind in kinds for kind in ((shape,) if isinstance(shape, str) else shape))


def _scores_answers(method: Any) -> bool:
    """Whether a method makes a network with one score: a reward model, or a regression."""
    one = len(getattr(method, "labels", ())) == 1 or getattr(method, "problem", "") == "regression"
    return getattr(method, "kind", "causal") == "classify" and one
