"""Stages in a row: which stage starts from which, what it takes from the shared settings, and what is still to be done.

>>> stages = read_stages({"pretrain": {"method": "pretrain"}, "sft": {"from": "pretrain"}}, kind_of=kinds)
>>> [(stage.name, stage.base) for stage in stages]
[('pretrain', None), ('sft', 'pretrain')]

A stage without `from` goes on from the last one that made a model to go on from: not from a reward model, a classifier or
an embedder. `@NAME` anywhere in a stage's settings stands for the run of an earlier stage.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.core.errors import ProjectError
from tunesmith.core.limits import at_least
from tunesmith.core.names import nearest

BASE = "base"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_ENDS = ("classify", "embed")  # kinds of networks that answer a narrower question; nothing is trained on top of them


@dataclass(frozen=True)
class Stage:
    """One stage. base: the stage it starts from, None = the chain's own base. refs: stages its settings name by @."""

    name: str
    settings: Mapping[str, Any]
    base: str | None
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompareSettings:
    """The table at the end: every variant on the same test rows."""

    rows: int | None = 200
    """Most test rows of each stage. Null = all.

    단계마다 쓸 시험 행의 최대 수. null이면 전부."""

    metrics: tuple[Any, ...] = ()
    """Metrics that every variant's own answers are scored by. None given = those of the project.

    모든 변형의 답을 채점할 지표. 없으면 프로젝트의 것."""

    answer: str | None = None
    """The stage whose test rows every variant answers. Null = the last with questions and answers.

    모든 변형이 답할 시험 행을 가진 단계. null이면 질문과 답이 있는 마지막 단계."""

    judge: str | None = None
    """The stage of a reward model that scores every variant's answers. Answers are then sampled at temperature 1.

    모든 변형의 답에 점수를 매길 보상 모델의 단계. 이때 답은 온도 1로 뽑습니다."""

    reference: str | None = None
    """The stage that KL divergence is measured to, over sampled answers: how far each variant went from it.

    KL 발산을 잴 기준이 되는 단계. 각 변형이 거기서 얼마나 멀어졌는지 보여 줍니다."""

    panel: bool = False
    """Also measure every variant on the fixed panel of other tasks: what general language it lost.

    정해진 다른 과제들에서도 모든 변형을 재어, 일반 언어 능력을 얼마나 잃었는지 봅니다."""

    max_tokens: int | None = None
    """Most tokens of an answer. Null = generate.max_tokens.

    답의 최대 토큰 수. null이면 generate.max_tokens."""

    def __post_init__(self) -> None:
        if self.rows is not None:
            at_least("compare.rows", self.rows, 1)


@dataclass(frozen=True)
class ChainSettings:
    """What a chain's file has besides the settings that all its stages share."""

    stages: Mapping[str, Any]
    """Trainings in a row, each a name with settings of its own, as  sft: {method: sft, data: faq.jsonl}. A stage starts from the one
    before it, or from its `from:` (a stage, or base); "@reward" in its settings is the run of the stage reward.

    차례로 이어지는 학습들. 이름마다 제 설정을 적습니다. 예: sft: {method: sft, data: faq.jsonl}. 단계는 바로 앞 단계에서, 또는 `from:`에 적은
    단계(또는 base)에서 시작합니다. 설정에 "@reward"라고 쓰면 reward 단계의 실행을 뜻합니다."""

    compare: CompareSettings = field(default_factory=CompareSettings)
    """The table at the end: how every stage's model is measured on the same test rows.

    마지막에 나오는 표: 모든 단계의 모델을 같은 시험 행에서 어떻게 재는지."""


def read_stages(raw: Any, *, kind_of: Callable[[str, Mapping[str, Any]], str]) -> list[Stage]:
    """The stages of a project file in their order.

    kind_of  (name, settings) -> the kind of network a stage makes: causal, masked, seq2seq, classify, embed

    Raises ProjectError for what cannot be a chain: no stages, a name that is no folder's name, a stage that starts from
    itself or a later one.
    """
    if not isinstance(raw, Mapping) or not raw:
        raise ProjectError(
            "stages: holds no stages.", wanted="stages:\n  pretrain: {method: pretrain, data: raw.txt}\n  sft: {method: sft, data: faq.jsonl}"
        )  # fmt: skip
    stages: list[Stage] = []
    kinds: dict[str, str] = {}
    for name, settings in raw.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == BASE:
            raise ProjectError(
                f'"{name}" cannot be the name of a stage: it names the folder of its run.',
                wanted=f"Lower-case letters, digits, - and _; {BASE} is the model that the chain starts from.",
            )
        if not isinstance(settings, Mapping):
            raise ProjectError(f"stages.{name} is {settings!r}.", wanted="Settings:  {method: sft, data: faq.jsonl}")
        own = {key: value for key, value in settings.items() if key != "from"}
        for key in ("model", "out"):
            if key in own:
                raise ProjectError(
                    f"stages.{name}.{key} is given.",
                    fix=f"Say where it starts: stages.{name}.from: {BASE} (or a stage)."
                    if key == "model"
                    else "A stage's run lies in the chain's folder under its name: out=... at the top says where that is.",
                )
        refs = tuple(dict.fromkeys(_refs(own)))
        for ref in refs:
            _known(ref, kinds, f"stages.{name} names @{ref}")
        base: str | None = next((other for other in reversed(kinds) if kinds[other] not in _ENDS), None)
        if "from" in settings:
            base = str(settings["from"])
            if base != BASE:
                _known(base, kinds, f"stages.{name}.from is {base}")
            base = None if base == BASE else base
        stages.append(Stage(name, own, base, refs))
        kinds[name] = kind_of(name, own)
    return stages


def _known(name: str, earlier: Iterable[str], told: str) -> None:
    there = list(earlier)
    if name not in there:
        close = nearest(name, there)
        raise ProjectError(
            f"{told}, which is no earlier stage.",
            wanted=f"Earlier stages: {', '.join(there) or 'none'}.",
            fix=f"Did you mean: {close[0]}" if close else "",
        )


def _refs(value: Any) -> Iterable[str]:
    if isinstance(value, str) and re.fullmatch(r"@[a-z0-9][a-z0-9_-]*", value):
        yield value[1:]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _refs(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _refs(item)


def with_runs(value: Any, runs: Mapping[str, str]) -> Any:
    """The settings with every @NAME replaced by that stage's run folder."""
    if isinstance(value, str) and value[:1] == "@" and value[1:] in runs:
        return runs[value[1:]]
    if isinstance(value, Mapping):
        return {key: with_runs(item, runs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_runs(item, runs) for item in value)
    return value


def ancestors(name: str, stages: Sequence[Stage]) -> list[str]:
    """The stages a stage stands on, nearest first: its base, the base of that, and so on."""
    by_name = {stage.name: stage for stage in stages}
    found: list[str] = []
    while (above := by_name[name].base) is not None:
        found.append(above)
        name = above
    return found


def changed(stage: str, run: str, differences: Sequence[str]) -> ProjectError:
    """The refusal to go on with a stage that was made with other settings."""
    told = "; ".join(differences[:5]) + ("; ..." if len(differences) > 5 else "")
    return ProjectError(
        f"The stage {stage} is there already, made with other settings: {told}.",
        wanted="The same chain goes on where it was; another chain needs another folder.",
        fix=f"Another folder: out=...    or make it anew, with all that stands on it: tunesmith runs {run} --delete --descendants --yes",
    )


def differences(before: Any, after: Any, at: str = "") -> list[str]:
    """Where two filled-in projects differ: ["train.steps 5 -> 10"]. A setting that only the later one knows does not count."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: list[str] = []
        for key in before:
            found += differences(before[key], after.get(key), f"{at}.{key}" if at else str(key))
        return found
    return [] if before == after else [f"{at} {before} -> {after}"]
