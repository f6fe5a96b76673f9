"""Which Units make which step: rows in a shuffled order, or what the policy itself answered to prompts.

    feed = Rows(units, batch_size=16, seed=0)
    feed.step(7)          # Portion(units, indices, idle) of step 7, for this rank

    feed = Rollouts(prompts, objective, sampler, reward, batch_size=16, seed=0)
    feed.step(7)          # samples first when step 7 opens a round; the round is part of the checkpoint

Both give what (seed, step) and, for rollouts, the policy at the round's start decide: never workers, passes or ranks.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import torch

from tunesmith.step.out_of_memory import told_to_all
from tunesmith.step.ranks import gathered
from tunesmith.text.example import Example, Unit

PREFIX = "collected."


@dataclass(frozen=True)
class Portion:
    """A rank's share of a step. indices: the rows (or prompts) it comes from; idle: a Unit for a rank without any."""

    units: list[Unit]
    indices: np.ndarray
    idle: Unit | None

    @property
    def computed(self) -> list[Unit]:
        """What goes through the rank's network."""
        return self.units if self.idle is None else [self.idle]


@lru_cache(maxsize=1)
def epoch_order(num_units: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order of the Units in an epoch, int32 (units,): a permutation fixed by (seed, epoch)."""
    order = np.arange(num_units, dtype=np.int32)
    if shuffle:
        np.random.default_rng([seed, epoch, 0x0DE]).shuffle(order)
    return order


def units_of_step(number: int, num_units: int, batch_size: int, seed: int, shuffle: bool = True) -> np.ndarray:
    """Indices of the Units of step `number` (from 0), over all ranks."""
    epoch, place = divmod(number, ceil(num_units / batch_size))
    return epoch_order(num_units, seed, epoch, shuffle)[place * batch_size : (place + 1) * batch_size]


class Rows:
    """Units that lie ready: each seen once an epoch, or as the objective orders them.

    order  (seed, epoch, shuffle) -> the Units of an epoch, int32 (units,); None = all of them once
    """

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
        order: Callable[[int, int, bool], np.ndarray] | None = None,
    ) -> None:
        self.order = order and lru_cache(maxsize=2)(order)
        self.units, self.batch_size, self.seed, self.shuffle = units, batch_size, seed, shuffle
        self.rank, self.ranks = rank, ranks
        self.per_epoch = ceil(len(units) / batch_size)

    def step(self, number: int) -> Portion:
        """The Units of step `number`, from 0."""
        if self.order is None:
            everyone = units_of_step(number, len(self.units), self.batch_size, self.seed, self.shuffle)
        else:
            epoch, place = divmod(number, self.per_epoch)
            whole = self.order(self.seed, epoch, self.shuffle)
            everyone = whole[place * self.batch_size : (place + 1) * self.batch_size]
        mine = everyone[self.rank :: self.ranks]
        idle = None if len(mine) else self.units[int(everyone[0])]
        return Portion([self.units[int(i)] for i in mine], mine, idle)

    def state(self) -> dict[str, torch.Tensor]:
        """Nothing: the order is fixed by the seed."""
        return {}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Nothing to take over."""


class Rollouts:
    """Prompts that the policy answers: a round of `collect_size` prompts is sampled, then used `reuse` times over.

    collect  (prompts: list[Unit], sample: (prompt ids, n) -> answers) -> one Unit for each prompt
    answer   (prompt ids, n, seeds) -> for each prompt a list of n Answers
    reward   (rows, texts) -> numbers, for `score`
    """

    def __init__(
        self,
        prompts: Sequence[Unit],
        *,
        collect: Callable[[list[Unit], Callable[..., Any]], list[Unit]],
        answer: Callable[..., Any],
        batch_size: int,
        collect_size: int | None = None,
        reuse: int = 1,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
        reward: Callable[..., list[float]] | None = None,
    ) -> None:
        self.reward = reward
        self.prompts, self.collect, self.answer = prompts, collect, answer
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.collect_size = min(collect_size or batch_size, len(prompts))
        self.reuse, self.rank, self.ranks = reuse, rank, ranks
        self.per_pass = ceil(self.collect_size / batch_size)
        self.per_round = self.per_pass * reuse
        self.per_epoch = ceil(len(prompts) / self.collect_size) * self.per_round
        self.round = -1
        self.held: dict[int, Unit] = {}  # by place in the round, those of this rank
        self.spare: Unit | None = None

    def step(self, number: int, at_once: int | None = None) -> Portion:
        """The Units of step `number`, from 0; the first step of a round samples it.

        at_once  prompts that a rank answers together; None = all of its share of the round
        Raises OutOfMemory on all ranks when memory runs out on one: the step may be asked for again.
        """
        round_, place = divmod(number, self.per_round)
        everyone = units_of_step(round_, len(self.prompts), self.collect_size, self.seed, self.shuffle)
        if round_ != self.round:
            places = range(self.rank, len(everyone), self.ranks)
            asked = [self.prompts[int(everyone[i])] for i in places]
            with told_to_all(redone=True):
                made = self._collected(asked, at_once or max(1, len(asked)), self.sampler(round_))
            self.round, self.held = round_, dict(zip(places, made))
            # what a rank without a Unit of its own runs with weight 0, so that all ranks do the same
            self.spare = next(unit for unit in gathered(made[0] if made else None) if unit is not None)
        again, part = divmod(place, self.per_pass)
        order = np.random.default_rng([self.seed, round_, again, 0x0DE]).permutation(len(everyone))
        part %= ceil(len(everyone) / self.batch_size)  # an epoch's last round may be small: its Units come again
        chosen = order[part * self.batch_size : (part + 1) * self.batch_size]
        mine = [int(i) for i in chosen if int(i) in self.held]
        idle = None if mine else self.spare
        return Portion([self.held[i] for i in mine], everyone[mine] if mine else everyone[:0], idle)

    def _collected(self, prompts: list[Unit], at_once: int, sample: Callable[..., Any]) -> list[Unit]:
        made: list[Unit] = []
        for start in range(0, len(prompts), at_once):
            some = prompts[start : start + at_once]
            found = self.collect(some, sample)
            if len(found) != len(some):
                raise ValueError(f"collect gave {len(found)} Units for {len(some)} prompts; it must give one for each")
            made += found
        return made

    def sampler(self, round_: int) -> Callable[..., Any]:
        """Ask for n answers to each prompt of a round; an answer's seed is fixed by (seed, round, prompt, which of n)."""

        def sample(prompts: Sequence[Sequence[int]], n: int = 1) -> Any:
            seeds = []
            for prompt in prompts:
                words = np.asarray(prompt, dtype=np.int64).tobytes()
                start = zlib.crc32(words) ^ zlib.crc32(f"{self.seed}.{round_}".encode())
                seeds += [(start << 20) + k for k in range(n)]
            return self.answer(prompts, n, seeds)

        return sample

    def score(self, prompts: Sequence[Unit], n: int = 1) -> dict[str, float]:
        """What an evaluation is without references: the mean reward of n answers to each prompt; "loss" is minus that."""
        if self.reward is None:
            raise ValueError("these rollouts have no reward to score with")
        groups = self.sampler(-1)([unit.examples[0].ids.tolist() for unit in prompts], n)
        rows = [unit.columns["row"] for unit, group in zip(prompts, groups) for _ in group]
        found = self.reward(rows, [answer.text for group in groups for answer in group])
        mean = sum(found) / max(1, len(found))
        return {"loss": -mean, "reward": mean}

    def state(self) -> dict[str, torch.Tensor]:
        """The round in use, of all ranks, as tensors for a checkpoint: every rank has to ask."""
        if self.round < 0:
            return {}
        held = {place: unit for part in gathered(self.held) for place, unit in part.items()}
        places = torch.tensor([self.round, *held], dtype=torch.int64)
        return {f"{PREFIX}places": places, **units_to_tensors(list(held.values()))}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over this rank's part of the round of a checkpoint, however many ranks wrote it."""
        if f"{PREFIX}places" in tensors:
            round_, *places = tensors[f"{PREFIX}places"].tolist()
            held = dict(zip(places, units_from_tensors(tensors)))
            self.round, self.held = round_, {p: u for p, u in held.items() if p % self.ranks == self.rank}
            self.spare = next(iter(held.values()), None)


def units_to_tensors(units: Sequence[Unit]) -> dict[str, torch.Tensor]:
    """Units as flat tensors; their Examples have equal columns. Undone by `units_from_tensors`."""
    examples = [example for unit in units for example in unit.examples]
    names = sorted(examples[0].columns) if examples else []
    facts = [[unit.origin, unit.shared_prompt, len(unit.examples), dict(unit.columns)] for unit in units]
    out: dict[str, torch.Tensor] = {
        "ids": torch.from_numpy(np.concatenate([*(e.ids for e in examples), np.zeros(0, np.int32)]).astype(np.int32)),
        "weights": torch.from_numpy(np.concatenate([*(e.weights for e in examples), np.zeros(0, np.float32)])),
        "lengths": torch.tensor([len(e) for e in examples], dtype=torch.int64),
        "facts": torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8),
    }
    for name in names:
        values = [np.asarray(e.columns[name]) for e in examples]
        per_token = bool(values[0].ndim)
        flat = np.concatenate(values) if per_token else np.asarray(values, dtype=np.float64)
        out[f"{'token' if per_token else 'example'}.{name}"] = torch.from_numpy(np.ascontiguousarray(flat))
    return {PREFIX + name: value for name, value in out.items()}


def units_from_tensors(tensors: Mapping[str, torch.Tensor]) -> list[Unit]:
    """The Units that `units_to_tensors` wrote."""
    got = {k.removeprefix(PREFIX): v.numpy() for k, v in tensors.items() if k.startswith(PREFIX)}
    bounds = np.concatenate(([0], np.cumsum(got["lengths"])))
    units, number = [], 0
    for origin, shared, count, columns in json.loads(bytes(got["facts"])):
        examples = []
        for i in range(number, number + count):
            part = slice(int(bounds[i]), int(bounds[i + 1]))
            named: dict[str, Any] = {}
            for key, values in got.items():
                if key.startswith("token."):
                    named[key.removeprefix("token.")] = values[part]
                elif key.startswith("example."):
                    named[key.removeprefix("example.")] = float(values[i])
            examples.append(Example(got["ids"][part], got["weights"][part], named))
        units.append(Unit(tuple(examples), shared_prompt=shared, origin=origin, columns=columns))
        number += count
    return units
