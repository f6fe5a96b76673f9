"""Multi-task tuning: several tasks, each with its own rows and its own method, learned by one model.

    method:
      multitask:
        tasks: {faq: sft, manual: pretrain, votes: {dpo: {beta: 0.1}}}    # rows of faq.jsonl, manual.txt, votes.jsonl
        temperature: 2

How often a task is seen is its share of the rows, flattened by a temperature so that small tasks are not drowned:
p_i = n_i^(1/T) / sum_j n_j^(1/T) (Arivazhagan et al. 2019, arXiv 1907.05019, section 4.2; for text tasks Raffel et al. 2020, arXiv
1910.10683, section 3.5.2). Use it when one model has to do several things, and to keep an old task in mind while a new one is
learned. Compare each task's score with that of a model tuned on it alone: tasks may help or harm one another.

Formula: loss = sum over tasks i and terms t of weights_i x (sum of term t over the rows of task i) / (what t is divided by).

다중 과제 학습: 여러 과제를 저마다의 행과 방법으로 한 모델에 가르칩니다. 온도를 높이면 행이 적은 과제도 자주 보게 됩니다. 한 모델이
여러 일을 해야 할 때, 또는 새 과제를 배우면서 옛 과제를 잊지 않게 할 때 씁니다. 과제마다 따로 학습한 모델의 점수와 견주어 보세요.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.limits import above, at_least
from tunesmith.core.names import unknown
from tunesmith.core.shelf import shelf
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit

TASK = "task"  # of a Unit's columns: the name of its task


@dataclass(frozen=True)
class Multitask:
    """The tasks' own losses, added up; figures for each task."""

    tasks: dict[str, Any]
    """Task -> method, a name or a name with settings. Rows belong to the task that is called like their file, without its ending.

    과제 -> 방법(이름, 또는 설정이 딸린 이름). 행은 파일 이름(확장자 빼고)과 같은 이름의 과제에 속합니다."""

    column: str | None = None
    """A column that names each row's task, instead of its file.

    파일 이름 대신 각 행의 과제 이름이 적힌 열."""

    temperature: float = 1.0
    """1 = tasks are seen as often as they have rows; higher = more evenly; very high = all equally often.

    1이면 행의 수만큼 보고, 높을수록 고르게, 아주 높으면 모두 똑같이 자주 봅니다."""

    shares: dict[str, float] = field(default_factory=dict)
    """How often each task is seen, as shares of what is seen; given, the temperature is not asked.

    각 과제를 보는 비율. 주면 온도는 쓰지 않습니다."""

    weights: dict[str, float] = field(default_factory=dict)
    """How much a task's loss counts when it is seen; 1 where nothing is said.

    과제의 손실에 곱하는 값. 적지 않으면 1입니다."""

    balance: Literal["rows", "tasks"] = "rows"
    """What a term is divided by: its tokens (or pairs) in the whole step, as in one joined set (rows), or those of its task alone, so
    that in each step tasks count alike however many rows of them it holds (tasks).

    항을 나누는 수: 스텝 전체의 토큰이나 쌍의 수(rows), 또는 그 과제만의 수(tasks)여서 스텝마다 과제들이 똑같이 셉니다."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise SettingError("tasks is empty.", wanted="A method for each task:  tasks: {faq: sft, manual: pretrain}")
        above("temperature", self.temperature, 0)
        for name, given in (("shares", self.shares), ("weights", self.weights)):
            for task, value in given.items():
                if task not in self.tasks:
                    raise unknown(f"task in {name}", task, self.tasks)
                at_least(f"{name}.{task}", value, 0)
        if self.shares and (set(self.shares) != set(self.tasks) or sum(self.shares.values()) <= 0):
            missing = ", ".join(task for task in self.tasks if task not in self.shares)
            raise SettingError(
                f"shares says nothing of {missing or 'any task'}.", wanted="A share above 0 in all, for every task."
            )
        kinds = {getattr(method, "kind", "causal") for method in self.methods.values()}
        if len(kinds) > 1:
            raise SettingError(
                f"The tasks want different networks: {', '.join(sorted(kinds))}.", fix="Train them apart."
            )
        for task, method in self.methods.items():
            if any(hasattr(method, part) for part in ("collect", "shared", "fit", "after")):
                raise SettingError(
                    f"tasks.{task}: {type(method).__name__.lower()} looks at a whole step or samples; it cannot share one with others.",
                    fix="Train it in a stage of its own.",
                )

    @cached_property
    def methods(self) -> dict[str, Any]:
        """Each task's method, made from its spec."""
        return {task: shelf("objectives").make(spec, f"tasks.{task}") for task, spec in self.tasks.items()}

    @property
    def shape(self) -> tuple[str, ...]:
        """Kinds of rows that some task reads; "mixed" are files of several kinds."""
        found: dict[str, None] = {}
        for method in self.methods.values():
            found |= dict.fromkeys((method.shape,) if isinstance(method.shape, str) else method.shape)
        return (*found, "mixed") if len(found) > 1 else tuple(found)

    @property
    def kind(self) -> str:
        """The network that all tasks want."""
        return next((getattr(method, "kind", "causal") for method in self.methods.values()), "causal")

    @property
    def helpers(self) -> tuple[str, ...]:
        """What some task wants."""
        return tuple(dict.fromkeys(name for method in self.methods.values() for name in getattr(method, "helpers", ())))

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads that some task wants."""
        found = [name for method in self.methods.values() for name in getattr(method, "heads", ("lm",))]
        return tuple(dict.fromkeys(found))

    @property
    def weighted(self) -> bool:
        """Whether every task's method counts data.weight."""
        return all(getattr(method, "weighted", False) for method in self.methods.values())

    @property
    def per(self) -> dict[str, str]:
        """The tasks' terms, each under its task's name."""
        named = {}
        for task, method in self.methods.items():
            for term, per in method.per.items():
                whole = self.balance == "rows" and per in ("tokens", "examples", "units")
                named[f"{task}.{term}"] = per if whole else f"{task}.{term}"
        return named

    @property
    def figures(self) -> dict[str, str]:
        """The tasks' figures, each under its task's name, and the loss of all."""
        named = {
            "loss": "mean of all tasks' losses over everything that is trained on, each task's times its weight\n\n"
            "학습하는 모든 것에 대한 모든 작업 손실의 평균(작업마다 가중치를 곱함)"
        }
        for task, method in self.methods.items():
            named |= {
                f"{task}.{name}": "\n\n".join(f"{task}: {words}" for words in meaning.split("\n\n"))
                for name, meaning in method.figures.items()
            }
        return named

    def task_of(self, row: Mapping[str, Any]) -> str:
        """The task of a row: by its column, or by the file it came from (data/faq.jsonl.gz:7 -> faq)."""
        if self.column is not None:
            columns = row.get("columns") or {}
            if self.column not in columns:
                found = ", ".join(columns) or "no columns"
                raise DataError(f'There is no column "{self.column}" that names the task. Found: {found}.')
            name = str(columns[self.column])
        else:
            file = str(row.get("origin", "")).rpartition(":")[0].replace("\\", "/").rpartition("/")[2]
            parts = file.split(".")
            stems = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
            name = next((stem for stem in stems if stem in self.tasks), parts[0])
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        return name

    def units(self, row: Mapping[str, Any], text: Any, draw: Any) -> list[Unit]:
        """The Units that the row's own method makes of it, marked with the task and with what its terms are divided by."""
        task = self.task_of(row)
        return [self._marked(unit, task) for unit in self.methods[task].units(row, text, draw)]

    def _marked(self, unit: Unit, task: str) -> Unit:
        own = self.methods[task]
        examples = []
        for number, example in enumerate(unit.examples):
            columns = {**example.columns}
            for name, per in self.per.items():
                if per != name:
                    continue
                of, _, term = name.rpartition(".")
                columns[name] = 0.0 if of != task else _share(own.per[term], example, first=number == 0)
            examples.append(replace(example, columns=columns))
        return replace(unit, examples=tuple(examples), columns={**unit.columns, TASK: task})

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Each task's own loss over its Units of the batch; a pass over the network for each task that occurs."""
        whole = {task: [n for n, unit in enumerate(batch.units) if unit.columns[TASK] == task] for task in self.tasks}
        per_unit = torch.full((batch.num_units,), float("nan"), device=batch.weight.device)
        terms: dict[str, torch.Tensor] = {}
        stats: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        total: list[torch.Tensor] = []
        count: list[torch.Tensor] = []
        for task, chosen in whole.items():
            if not chosen:
                continue
            weight = self.weights.get(task, 1.0)
            part = batch if len(chosen) == len(batch.units) else policy.batch([batch.units[n] for n in chosen])
            out = self.methods[task].loss(policy, part, helpers)
            terms |= {f"{task}.{term}": value * weight for term, value in out.terms.items()}
            stats |= {f"{task}.{name}": pair for name, pair in out.stats.items()}
            if "loss" in out.stats:
                total.append(out.stats["loss"][0].detach() * weight)
                count.append(torch.as_tensor(out.stats["loss"][1], device=batch.weight.device).detach())
            own = (
                part.per_unit(-out.per_target) if out.per_unit is None and out.per_target is not None else out.per_unit
            )
            if own is not None:
                per_unit[torch.tensor(chosen, device=per_unit.device)] = own.to(per_unit.dtype)
        if total:
            stats["loss"] = (torch.stack(total).sum(), torch.stack(count).sum())
        return Loss(terms, stats, per_unit=per_unit)

    def order(self, units: Sequence[Unit]) -> Callable[[int, int, bool], np.ndarray]:
        """(seed, epoch, shuffle) -> which Units an epoch is made of, int32 (units,): tasks in their proportions.

        Every Unit of a task comes once before any comes again, over the epochs, also where an epoch holds only some of them.
        """
        task_of = np.array([unit.columns[TASK] for unit in units])
        members = [np.flatnonzero(task_of == task) for task in self.tasks]
        counts = _whole_numbers(self.proportions([len(some) for some in members]), len(units))

        def epoch_of(seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
            chosen = [
                _stretch(some, int(n) * epoch, int(n), [seed, 0x7A5C, task])
                for task, (some, n) in enumerate(zip(members, counts))
            ]
            whole = np.concatenate(chosen)
            if not shuffle:
                return np.sort(whole).astype(np.int32)
            return whole[np.random.default_rng([seed, epoch, 0x0DE]).permutation(len(whole))].astype(np.int32)

        return epoch_of

    def proportions(self, sizes: Sequence[int]) -> np.ndarray:
        """How often each task is seen, from how many Units it has: n^(1/T), or the shares; a task without any is never seen."""
        size = np.asarray(sizes, dtype=np.float64)
        wanted = np.array([self.shares[task] for task in self.tasks]) if self.shares else size ** (1 / self.temperature)
        wanted = np.where(size > 0, wanted, 0.0)
        return wanted / wanted.sum()


def _share(per: str, example: Any, *, first: bool) -> float:
    """What an Example adds to the number that a term is divided by."""
    if per == "tokens":
        return float(example.weights.sum())
    if per == "examples":
        return 1.0
    if per == "units":
        return float(first)
    return float(np.sum(example.columns[per]))


def _whole_numbers(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in these proportions that add up to `total`: the largest remainders are rounded up."""
    exact = shares * total
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]] += 1
    return counts


def _stretch(members: np.ndarray, start: int, number: int, seed: list[int]) -> np.ndarray:
    """Places start .. start + number of an endless row of permutations of `members`."""
    found: list[np.ndarray] = []
    while number > 0:
        turn, at = divmod(start, len(members))
        some = np.random.default_rng([*seed, turn]).permutation(members)[at : at + number]
        found.append(some)
        start, number = start + len(some), number - len(some)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
