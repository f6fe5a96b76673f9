"""The project: every setting there is, and how a file, keys and defaults become one.

>>> project, filled, root = resolve("tunesmith.yaml", lr=1e-4)
>>> project.train.lr, filled["adapter"]
(0.0001, {'lora': {'rank': 8, ...}})

Only the files of api/ see a Project; everything below asks for the values it needs.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

from tunesmith.api.device import check_device
from tunesmith.core.errors import ProjectError
from tunesmith.core.fill import conform, describe, fill, section_of
from tunesmith.core.limits import at_least, between
from tunesmith.core.project import NAMES, merge, place, read_project
from tunesmith.core.registry import named
from tunesmith.core.shelf import shelf, use
from tunesmith.core.source import Field
from tunesmith.data.settings import DataSettings
from tunesmith.evals.settings import EvalSettings
from tunesmith.ladder.stages import ChainSettings
from tunesmith.model.settings import GenerateSettings, RopeSettings
from tunesmith.train import defaults
from tunesmith.train.settings import TrainSettings


@dataclass(frozen=True)
class Project:
    """A project file, filled in."""

    short: ClassVar[Mapping[str, str]] = {"steps": "train", "split": "eval"}  # what these words mean without a section

    model: str = "mini"
    """The base: mini or pico (they come with Tunesmith), a folder, a run, or a name on the Hugging Face hub.

    바탕 모델: mini나 pico(함께 들어 있음), 폴더, 실행, 또는 Hugging Face 허브의 이름."""

    data: DataSettings = field(default_factory=DataSettings)
    """The rows: a file, or a section with what their columns mean and how they are split.

    행: 파일 하나, 또는 열의 뜻과 나누는 법을 적은 섹션."""

    method: Any = "sft"
    """How the model learns from a row: a name, or a name with settings. `tunesmith list objectives` shows them.

    모델이 행에서 배우는 방법: 이름, 또는 설정이 딸린 이름."""

    adapter: Any = "lora"
    """What is trained: a name, or a name with settings, as  lora: {rank: 16}. `tunesmith list adapters` shows them.

    무엇을 학습하는지: 이름, 또는 lora: {rank: 16}처럼 설정이 딸린 이름."""

    add_tokens: tuple[str, ...] = ()
    """Words that become one token each, as "<tool_search>". Their rows of embedding and head train under every adapter.

    한 토큰이 될 단어들. 임베딩과 출력층의 그 행은 어떤 어댑터에서도 학습됩니다."""

    metrics: tuple[Any, ...] = ()
    """How answers are scored; `tunesmith list metrics` shows them.

    답을 채점하는 방법."""

    use: tuple[str, ...] = ()
    """Files of your own, such as metrics/mine.py: the folder names the shelf. They lie in the project's folder.

    metrics/mine.py 같은 내 파일. 폴더 이름이 선반을 정하며, 프로젝트 폴더 안에 있어야 합니다."""

    seed: int = 0
    """Start of all random numbers: equal seeds give equal runs on the same machine.

    모든 난수의 시작. 같은 기계에서 시드가 같으면 실행도 같습니다."""

    length: int | None = None
    """Most tokens of a training example. Null = the model's context.

    학습 예제의 최대 토큰 수. null이면 모델의 문맥 길이."""

    base: Literal["nf4", "int8", "streamed"] | None = None
    """How the frozen base is held: nf4 = its matrices in four bits (QLoRA, Dettmers et al. 2023), int8 = in eight, streamed = in its
    file, read layer by layer, for a base larger than the memory. Null = in full.

    얼려 둔 바탕 모델을 담는 방법. nf4면 행렬을 4비트로(QLoRA), int8이면 8비트로 담습니다. streamed면 파일에 두고 층마다 읽어, 메모리보다 큰
    모델도 됩니다. null이면 그대로."""

    rope: RopeSettings | None = None
    """A longer context than the base was made for, as  {kind: yarn, factor: 4}. Null = as it is.

    바탕 모델보다 긴 문맥. 예: {kind: yarn, factor: 4}. null이면 그대로 둡니다."""

    too_long: Literal["error", "drop", "split", "trim_prompt"] | None = None
    """What happens to a row longer than that. Null = error, and split for raw text.

    그보다 긴 행을 어떻게 하는지. null이면 error, 날 텍스트는 split."""

    reasoning: Literal["train", "mask", "drop"] = "train"
    """Thinking in the assistant's messages: learned, kept but not learned, or removed.

    답 속의 생각 부분: 배우거나(train), 남기되 배우지 않거나(mask), 지웁니다(drop)."""

    device: str = "auto"
    """What computes: auto = a GPU where torch finds one, else the processor; cpu; cuda; or one card of several, cuda:1. Of several
    processes (--nproc, torchrun) each takes a card of its own. Nothing was measured on a GPU.

    계산하는 장치: auto면 torch가 GPU를 찾을 때 GPU, 없으면 CPU. cpu, cuda, 또는 cuda:1처럼 카드 하나. 여러 프로세스(--nproc, torchrun)는
    각각 카드 하나씩 씁니다. GPU에서는 아무것도 재지 않았습니다."""

    train: TrainSettings = field(default_factory=TrainSettings)
    """The training loop.

    학습 루프."""

    generate: GenerateSettings = field(default_factory=GenerateSettings)
    """How answers are sampled.

    답을 만드는 방법."""

    eval: EvalSettings = field(default_factory=EvalSettings)
    """What is scored.

    무엇을 채점하는지."""

    log: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Loggers that also get the events; the run folder has them in any case.

    이벤트를 함께 받을 로거. 실행 폴더에는 어차피 남습니다."""

    push: str | None = None
    """A repository on the Hugging Face hub that the result is uploaded to when training has ended, as me/support-intents; it is made
    private where it is missing. HF_TOKEN holds the key. Null = nothing leaves this machine.

    훈련이 끝나면 결과를 올릴 Hugging Face 허브의 저장소. 예: me/support-intents. 없으면 비공개로 만듭니다. 키는 HF_TOKEN에 둡니다. null이면 아무것도
    이 기계를 떠나지 않습니다."""

    lang: Literal["en", "ko"] = "en"
    """Language of reports and explanations.

    보고서와 설명의 언어."""

    out: str | None = None
    """Folder of the run. Null = runs/VERB-N.

    실행 폴더. null이면 runs/동사-번호."""

    def __post_init__(self) -> None:
        at_least("length", self.length, 2)
        between("seed", self.seed, 0, 2**63 - 1)  # what torch takes
        check_device(self.device)
        if self.train.precision == "auto":
            precision = defaults.precision(self.device)
            object.__setattr__(self, "train", dataclasses.replace(self.train, precision=precision))

    @property
    def precision(self) -> str:
        """Number format of computation: train.precision, which `precision: bf16` at the top of a file sets."""
        return self.train.precision


IN_MEMORY = "(in memory)"  # stands in project.yaml for rows that were handed over in Python

# Settings that hold items of a shelf: one, or a list of them.
SPECS = {"method": "objectives", "adapter": "adapters", "metrics": "metrics", "data.steps": "steps"}


def resolve(config: Any = None, *, root: Path | None = None, **keys: Any) -> tuple[Project, dict[str, Any], Path]:
    """The project as checked settings, as a plain dict with every default written in, and its folder (the root of paths).

    config  a project file, a folder with a tunesmith.yaml, or a dict; None = tunesmith.yaml here if there is one
    root    where relative paths start; None = the project file's folder, or here for a dict
    keys    override it: resolve(lr=1e-4), resolve(train={"lr": 1e-4}) or resolve(**{"train.lr": 1e-4})

    Puts the user's files (`use`) on the shelves, and checks every item's name and settings without running any.
    Errors are ProjectErrors and SettingErrors that name the nearest.
    """
    raw, found = _read(config)
    root = root or found
    if "stages" in raw:
        raise ProjectError(
            f"{config or 'The project'} has stages.", fix=f"Run them all: tunesmith chain {config or ''}".rstrip()
        )
    below = place(Project, raw)
    over = place(Project, _nested(keys))
    files = over.get("use", below.get("use"))
    use(conform(files, tuple[str, ...], "use") if files else (), root)
    merged = merge(below, over)
    for name, kind in SPECS.items():
        default = getattr(Project, name, ())
        if not isinstance(default, tuple):
            layers = [layer[name] for layer in (below, over) if name in layer]
            merged[name] = functools.reduce(shelf(kind).merge, layers, default)
    project = fill(Project, merged)
    project = _with_seed(project)
    if project.model.startswith("@"):  # the run it is now: a resume must not mean another one
        project = dataclasses.replace(project, model=str(Path(named(project.model)).resolve()))
    for name, kind in SPECS.items():
        for place_of, spec in _specs(project, name):
            shelf(kind).spec(spec, place_of)
    return project, _filled(project), root


def as_dict(value: Any) -> Any:
    """A dataclass as plain dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_dict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_dict(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _read(config: Any) -> tuple[dict[str, Any], Path]:
    if config is None:
        here = next((Path(name) for name in NAMES if Path(name).is_file()), None)
        return (read_project(here) if here else {}), Path.cwd()
    if isinstance(config, Mapping):
        return dict(config), Path.cwd()
    if not isinstance(config, str | Path):
        raise ProjectError(
            f"The project is a {type(config).__name__}.", wanted="A project file, its folder, or a dict of settings."
        )
    path = Path(config)
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
        raise ProjectError(f"{path} is no project file.", wanted="A .yaml file.", fix=f"If it is the data: data={path}")
    value = read_project(path)
    return value, (path if path.is_dir() else path.parent).resolve()


def _nested(keys: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        if key == "data" and (isinstance(value, str | Path) or _in_memory(value)):
            value = {"path": value}  # as a section, so that it stands beside data.dev and the like
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        nested = merge(nested, {key.split(".")[0]: value})
    return nested


def _in_memory(value: Any) -> bool:
    """Rows handed over in Python: a list of dicts, a dict of columns, a DataFrame. Not a section, not paths."""
    if value is None or isinstance(value, str | Path | DataSettings):
        return False
    if isinstance(value, Mapping):
        lists = {"path", "label_names", "steps"}  # settings that are lists themselves
        return bool(value) and not set(value) <= lists and all(isinstance(v, list | tuple) for v in value.values())
    return True


def _with_seed(project: Project) -> Project:
    data, generate = project.data, project.generate
    if data.seed is None:
        data = dataclasses.replace(data, seed=project.seed)
    if generate.seed is None:
        generate = dataclasses.replace(generate, seed=project.seed)
    return dataclasses.replace(project, data=data, generate=generate)


def _specs(project: Project, name: str) -> list[tuple[str, Any]]:
    value: Any = project
    for part in name.split("."):
        value = getattr(value, part)
    return [(f"{name}[{i}]", spec) for i, spec in enumerate(value)] if isinstance(value, tuple) else [(name, value)]


def _filled(project: Project) -> dict[str, Any]:
    path = project.data.path
    paths = path if isinstance(path, list | tuple) else [path]
    if path is not None and not all(isinstance(one, str | Path) for one in paths):
        path = IN_MEMORY
    filled = as_dict(dataclasses.replace(project, data=dataclasses.replace(project.data, path=path)))
    for name, kind in SPECS.items():
        specs = [_plain_spec(kind, spec, where) for where, spec in _specs(project, name)]
        *sections, last = name.split(".")
        holder = filled
        for section in sections:
            holder = holder[section]
        holder[last] = specs if isinstance(holder[last], list) else specs[0]
    return filled


def _plain_spec(kind: str, spec: Any, where: str) -> Any:
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        raise ProjectError(
            f"{where} is a {type(spec).__name__} object.",
            wanted='A name, or {"name": {settings}}: it is written into the run.',
        )
    return shelf(kind).filled(spec, where)


@functools.cache
def catalogue() -> dict[str, Field]:
    """Every setting of a project by its dotted name, as its source says it: type, default, doc. Sections come before theirs."""
    return _described(Project)


@functools.cache
def chain_catalogue() -> dict[str, Field]:
    """The same of what a chain's file has besides: stages, compare, compare.judge and so on."""
    return _described(ChainSettings)


def _described(cls: type) -> dict[str, Field]:
    found: dict[str, Field] = {}
    hints = get_type_hints(cls)
    for setting in describe(cls):
        found[setting.name] = setting
        section = section_of(hints[setting.name])
        if section is not None:
            found |= {f"{setting.name}.{inner.name}": inner for inner in describe(section)}
    return found


def setting_file(name: str) -> Path:
    """The file where a setting of a project or a chain, by its dotted name, is defined."""
    owner = Project if name in catalogue() else ChainSettings
    section = section_of(get_type_hints(owner)[name.partition(".")[0]]) if "." in name else None
    return Path(inspect.getfile(section or owner))


def use_project_files(config: str | None = None) -> None:
    """Put the files of a project's `use:` on the shelves, for looking around; nothing else of it is checked."""
    raw, root = _read(config)
    use(conform(raw["use"], tuple[str, ...], "use") if raw.get("use") else (), root)
