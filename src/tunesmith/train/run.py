"""Train into a run folder: the loop with everything around it - checkpoints, evaluation, guards, the journal.

    outcome = fit(model, Sft(), train_units, dev_units, folder=run, steps=300, batch_size=16, lr=1e-3, ...)
    outcome.status     # "finished", or "stopped" after Ctrl-C / SIGTERM (then `resume=True` goes on)

The folder gets events.jsonl, checkpoints/, memory.json, loss_per_row.jsonl. Weights are left in the model: those of the
best evaluation when there was a dev set, else the last.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tunesmith.core.errors import SettingError, TrainingError
from tunesmith.core.events import Events
from tunesmith.core.files import to_json, writing
from tunesmith.core.heap import steady_heap
from tunesmith.core.memory import usable
from tunesmith.core.runs import RunFolder
from tunesmith.model.again import looked_at
from tunesmith.model.load import Model
from tunesmith.step.fsdp import cut_weights, local, whole
from tunesmith.step.helpers import Helpers
from tunesmith.step.ranks import agree, barrier, gathered, most, rank, ranks
from tunesmith.step.step import Measured, backward, measure, pass_bounds, passes_of
from tunesmith.text.example import Unit
from tunesmith.train import checkpoint
from tunesmith.train.feed import Rollouts
from tunesmith.train.guards import Asked, DivergenceGuard
from tunesmith.train.kernels import put_kernels
from tunesmith.train.loop import Step, loop, steps_per_epoch
from tunesmith.train.offload import Offload
from tunesmith.train.optim import Optimizer
from tunesmith.train.out_of_memory import Fitting, during
from tunesmith.train.pages import Pages
from tunesmith.train.recompute import Checkpointing, checkpoint_activations
from tunesmith.train.scaling import Scaler
from tunesmith.train.shard import Sharded
from tunesmith.train.spread import Spread, send
from tunesmith.train.watch import Watch

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}  # precisions whose passes are made in 16 bits
EVAL_TOKENS = 8192  # of a pass without gradient, where nothing is said


@dataclass(frozen=True)
class Outcome:
    """How a run ended. best_step is the step of the best dev loss, None without a dev set."""

    status: str
    steps: int
    best_step: int | None
    best_dev_loss: float | None
    last_loss: float
    seconds: float
    tokens: int


@dataclass
class _Progress:
    """What a checkpoint remembers besides tensors; plain numbers."""

    step: int = 0
    tokens: int = 0
    trained: int = 0
    seconds: float = 0.0
    best_dev_loss: float | None = None
    best_step: int | None = None
    patience_left: int | None = None
    guard: dict[str, float] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    state: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    last_loss: float = float("nan")
    done: str = ""
    planned: int = 0


def embedding_names(net: nn.Module) -> frozenset[str]:
    """Names of embedding and head weights: no weight decay on them, and Muon leaves them to AdamW."""
    ends = {id(m.weight) for m in (net.get_input_embeddings(), net.get_output_embeddings()) if hasattr(m, "weight")}
    names = {name for name, p in net.named_parameters(remove_duplicate=False) if id(p) in ends}
    ends_of = ("wte.weight", "wpe.weight", ".new_rows")
    return frozenset(names | {n for n, _ in net.named_parameters() if "embed" in n or n.endswith(ends_of)})


def lower(net: nn.Module, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Cast the network to 16 bits and return fp32 copies of what trains: the masters. Trainable adapters stay fp32."""
    full = [p for p in net.parameters() if p.requires_grad and getattr(p, "adapter", False) is False]
    masters = {n: p.detach().float().clone() for n, p in net.named_parameters() if any(p is f for f in full)}
    for parameter in net.parameters():
        if parameter.is_floating_point() and not getattr(parameter, "adapter", False):
            parameter.data = parameter.data.to(dtype)
    return masters


@contextmanager
def in_precision(net: nn.Module, precision: str) -> Iterator[None]:
    """The network as it computes while it trains in `precision`; afterwards its weights are what they were."""
    kept = [(parameter, parameter.data) for parameter in net.parameters()]
    if precision in LOW:
        lower(net, LOW[precision])
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def refuse(
    *,
    update_in_backward: bool,
    offload: str,
    offload_states: str,
    states: str,
    shard: str,
    kernels: str,
    processes: int,
    cuda: bool,
) -> None:
    """Raise what stands against these switches on this many processes, on a processor or a GPU."""
    if update_in_backward and processes > 1:
        raise SettingError(
            f"train.update_in_backward is true, but {processes} ranks train together and add their gradients after each step.",
            fix="Leave it out, or train in one process.",
        )
    for name, value, usual in (("states", states, "fp32"), ("offload_states", offload_states, "none")):
        if processes > 1 and shard != "none" and value != usual:
            raise SettingError(
                f"train.shard is {shard} and train.{name} is {value}: states are cut in fp32, in memory, only.",
                fix="Leave one of them out.",
            )
    if kernels != "torch" and not cuda:
        raise SettingError(
            f"train.kernels is {kernels}, which is made for a GPU, but this run computes on the CPU, with kernels of its own.",
            fix="Leave train.kernels out.",
        )
    waiting = {"offload": (offload, "activations"), "offload_states": (offload_states, "optimiser states")}
    for name, (kind, what) in waiting.items():
        if kind == "pinned" and not cuda:
            raise SettingError(
                f"train.{name} is pinned, which moves {what} from a GPU, but this run computes on the CPU.",
                fix=f"Set train.{name}=disk, or leave it out.",
            )


def fit(
    model: Model,
    objective: Any,
    source: Sequence[Unit] | Rollouts,
    dev: Sequence[Unit] | None,
    *,
    folder: RunFolder,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
    pass_tokens: int | None = None,
    optimizer: str = "adamw",
    momentum: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    schedule: str = "linear",
    warmup: float = 0.0,
    min_lr: float = 0.0,
    clip: float | None = 1.0,
    precision: str = "fp32",
    masters: str = "fp32",
    states: str = "fp32",
    update_in_backward: bool = False,
    offload: str = "none",
    offload_states: str = "none",
    kernels: str = "torch",
    checkpointing: Checkpointing = False,
    eval_every: int | Literal["epoch"] | None = "epoch",
    eval_pass_tokens: int | None = None,
    eval_batch: int = 256,
    early_stopping: int | None = None,
    keep: int = 1,
    save_every: int | None = None,
    save_seconds: float = 120.0,
    shuffle: bool = True,
    pause_file: Path | None = None,
    resume: bool = False,
    stop_after: int | None = None,
    listeners: Sequence[Callable[[dict[str, Any]], object]] = (),
    on_eval: Callable[[int], dict[str, Any]] | None = None,
    result_bytes: int = 0,
    helpers: Helpers | None = None,
    score: Callable[[], dict[str, float]] | None = None,
    shard: str = "none",
) -> Outcome:
    """Train `model` on `source` for `steps` updates in all; see TrainSettings for what each setting means.

    resume      go on from the folder's last checkpoint, bit by bit as if nothing had happened (CPU, same threads);
                a finished run goes on when more steps are asked for than it was planned for
    stop_after  leave after that step as if asked to (tests)
    on_eval     called with the step after each evaluation; what it returns is journalled (sampled answers)
    source      Units that lie ready, or a feed that samples them (feed.py)
    shard       what is cut over the ranks (shard.py); one rank alone holds all
    score       what an evaluation is for methods that sample: figures with a "loss" to be made small
    Raises TrainingError on NaN, divergence or nothing to train on; SpaceError when the disk is too small.
    """
    feed = source if isinstance(source, Rollouts) else None
    units: Sequence[Unit] = source.prompts if isinstance(source, Rollouts) else source
    helpers = Helpers() if helpers is None else helpers
    if not len(units):
        raise TrainingError("there is nothing to train on: the training split is empty")
    net = model.net
    refuse(
        update_in_backward=update_in_backward, offload=offload, offload_states=offload_states, states=states,
        shard=shard, kernels=kernels, processes=ranks(),
        cuda=next(net.parameters()).device.type == "cuda",
    )  # fmt: skip
    shard = shard if ranks() > 1 else "none"
    held = lower(net, LOW[precision]) if precision in LOW and shard != "all" else None
    scaler = Scaler() if precision == "fp16" else None
    checkpoint_activations(net, checkpointing)
    put_kernels(net, kernels)
    policy = model.policy
    if shard == "all":
        cut_weights(policy, low=LOW.get(precision), samples=feed is not None)
    named = list(net.named_parameters())
    if not any(p.requires_grad for _, p in named):
        raise TrainingError("no parameter trains: the adapter marked none")
    made: Callable[..., Optimizer | Sharded] = (
        Optimizer if shard == "none" else partial(Sharded, stage=shard, low=precision in LOW)
    )
    optim = made(
        named, kind=optimizer, lr=lr, momentum=momentum, betas=betas, eps=eps, weight_decay=weight_decay, l1=l1, l2=l2,
        embeddings=embedding_names(net), masters=held, keep=masters, seed=seed, states=states, in_backward=update_in_backward,
        pages=Pages(offload_states, folder.file("states.scratch")),
    )  # fmt: skip
    del held  # bf16 alone needs no fp32 copy any more
    rows = _Rows(len(units))
    progress = _Progress(patience_left=early_stopping, state=dict(helpers.state))
    place = folder.path / "checkpoints"
    journal = folder.journal("events.jsonl")
    if resume and (found := checkpoint.latest(place)):
        number, saved = found
        rest = _restore(optim, checkpoint.each(place, number))
        rows.load(rest["rows.loss"], rest["rows.seen"])
        progress = _Progress(**saved["progress"])
        helpers.state = dict(progress.state)
        if feed is not None:
            feed.load(rest)
        if scaler is not None:
            scaler.load_state(progress.scaler)
        journal.cut(saved["journal"])
        if progress.done and steps <= (progress.planned or steps):
            _take_best(optim, place, progress)
            optim.lift(net)
            return _outcome(progress.done, progress)
        progress.done = ""
    elif resume:
        journal.cut(0)
    events = Events(journal, listeners)
    guard = DivergenceGuard(state=progress.guard or None)
    watch = Watch(kl_limit=_watched_kl(objective), state=progress.watch) if feed is not None else None
    per_epoch = feed.per_epoch if feed is not None else steps_per_epoch(len(units), batch_size)
    every = per_epoch if eval_every == "epoch" else eval_every

    def failed(message: str) -> None:
        events.emit("error", step=progress.step, message=message)

    def save() -> None:
        with during("checkpoint", failed):
            write()

    def write() -> None:
        progress.guard, progress.state = guard.state, dict(helpers.state)
        progress.watch = watch.state if watch is not None else {}
        progress.scaler = scaler.state() if scaler is not None else {}
        loss, seen = rows.whole()
        tensors = {**_parameters(optim), **optim.state(), "rows.loss": loss, "rows.seen": seen}
        tensors |= feed.state() if feed is not None else {}
        if not folder.writes:
            send(tensors)
            return
        facts = {"progress": vars(progress), "journal": journal.size()}
        checkpoint.save(place, step=progress.step, tensors=tensors, progress=facts, keep=keep, best=progress.best_step)

    fitted = pass_tokens  # what a pass of a step holds by now

    def halved(before: int, now: int, part: str) -> None:
        nonlocal fitted
        if part in ("forward", "backward"):
            fitted = now
        size = {"prompts" if part == "rollouts" else "pass_tokens": now}
        events.emit("out_of_memory", step=progress.step + (part != "evaluation"), part=part, before=before, **size)

    looking = Fitting(eval_pass_tokens or pass_tokens or EVAL_TOKENS, "evaluation", halved)

    def evaluate() -> None:
        with during("evaluation", failed):
            look()

    def look() -> None:
        if dev is None or not len(dev):
            return

        def seen(tokens: int | None) -> dict[str, float]:
            redone = shard != "all"  # there, ranks meet within passes
            return dev_figures(
                policy, objective, dev, pass_tokens=tokens, rows=eval_batch, helpers=helpers, redone=redone
            )

        figures = score() if score else looking.run(seen, bounds=lambda: pass_bounds(policy, dev))
        if not math.isfinite(figures["loss"]):
            found = f"the dev loss became {figures['loss']} at step {progress.step}, while the training loss was {progress.last_loss:.4g}"
            failed(found)
            raise TrainingError(
                found,
                fix="Look at the dev rows: tunesmith data --show 3. Lower train.lr if the training loss is strange too.",
            )
        # ranks on unlike hardware may differ in the last bits of the loss, but not in when they stop
        (improved,) = agree(progress.best_dev_loss is None or figures["loss"] < progress.best_dev_loss)
        if improved:
            progress.best_dev_loss, progress.best_step, progress.patience_left = (
                figures["loss"],
                progress.step,
                early_stopping,
            )
        elif progress.patience_left is not None:
            progress.patience_left -= 1
        with whole(net) if shard == "all" else nullcontext():
            more = on_eval(progress.step) if on_eval else {}
        events.emit("eval", step=progress.step, dev_loss=figures["loss"], figures=figures, improved=improved, **more)

    if progress.step == 0:
        size = optim.num_checkpoint_bytes() + rows.num_bytes
        keeps = {"checkpoint_bytes": size, "result_bytes": result_bytes + optim.num_bytes_on_disk(), "keep": keep}
        space = checkpoint.forecast(place, **keeps) if folder.writes else {}
        events.emit(
            "start", steps=steps, steps_per_epoch=per_epoch, num_units=len(units), batch_size=batch_size, devices=ranks(),
            **space,
        )  # fmt: skip
    began, last_saved = time.perf_counter() - progress.seconds, time.perf_counter()
    speed = _Speed()

    def out_of_patience() -> bool:
        if progress.patience_left is None or progress.patience_left > 0:
            return False
        events.emit(
            "early_stop", step=progress.step, best_step=progress.best_step, best_dev_loss=progress.best_dev_loss
        )
        return True

    # a kill may have come between the last evaluation's checkpoint and the end
    early = out_of_patience()
    with Asked() as asked, steady_heap(usable()):
        walk = () if early else loop(
            policy, objective, feed or units, optim, steps=steps, batch_size=batch_size, lr=lr, seed=seed,
            start=progress.step, pass_tokens=pass_tokens, schedule=schedule, warmup=warmup, min_lr=min_lr, clip=clip,
            shuffle=shuffle, helpers=helpers, scaler=scaler,
            offload=Offload(offload, folder.file("activations.scratch"), (*net.parameters(), *net.buffers())),
            told=halved,
        )  # fmt: skip
        for step in walk:
            rows.note(step)
            progress.step = step.number
            progress.tokens += step.stats.num_tokens
            progress.trained += step.stats.num_trained
            progress.last_loss = step.stats.loss
            progress.seconds = time.perf_counter() - began
            origins = [units[int(i)].origin for i in step.indices[:3]]
            try:
                guard.check(
                    number=step.number,
                    loss=step.stats.loss,
                    grad_norm=step.grad_norm,
                    lr=step.lr,
                    origins=origins,
                    falls=feed is None,
                )
            except TrainingError as error:
                events.emit("error", step=step.number, message=error.found)
                raise
            events.emit("step", **_facts(step, speed.note(step), progress.tokens, steps))
            for sign in watch.note(step.number, step.stats.figures) if watch is not None else ():
                events.emit("warning", **vars(sign))
            first = step.number == 1
            if first:
                own = [units[int(i)] for i in step.indices] or [units[0]]  # a rank may have got none
                used = own if feed is None else feed.step(0).computed
                with during("count of activations", failed):
                    kept = activation_bytes(policy, objective, used, pass_tokens=fitted, helpers=helpers)
                beside = helpers.num_bytes(net)
                held = {"activations": kept, "helpers": sum(beside.values()), "frozen": beside}
                folder.write_json("memory.json", {**memory_parts(net, optim), **held, "measured": True})
            due = every is not None and (step.number % every == 0 or step.number == steps)
            if due:
                evaluate()
            late, stop, pause = agree(
                time.perf_counter() - last_saved > save_seconds,
                bool(asked) or (stop_after is not None and step.number >= stop_after),
                pause_file is not None and pause_file.exists(),
            )
            if first or due or late or (save_every and step.number % save_every == 0):
                save()
                last_saved = time.perf_counter()
                if first and folder.writes:
                    _prove_checkpoint(place, step.number, optim)
            if out_of_patience():
                early = True
                break
            if stop:
                save()
                events.emit("stopped", step=step.number, by=asked.name or "stop_after")
                return _outcome("stopped", progress)
            if pause_file is not None and pause:
                save()
                events.emit("pause", step=step.number)
                while pause_file.exists() and not asked:
                    time.sleep(0.5)
                began = time.perf_counter() - progress.seconds
    progress.done, progress.planned = "finished", steps
    progress.seconds = time.perf_counter() - began
    events.emit(
        "end", step=progress.step, status="finished", early=early, best_step=progress.best_step,
        best_dev_loss=progress.best_dev_loss, seconds=progress.seconds, tokens=progress.tokens, trained_tokens=progress.trained,
        predicted_updates=steps, counted_updates=progress.step,
    )  # fmt: skip
    save()
    rows.loss, rows.seen = rows.whole()
    if folder.writes:
        rows.write(folder.file("loss_per_row.jsonl"), units)
    barrier()  # the best checkpoint is there for all
    _take_best(optim, place, progress)
    optim.lift(net)
    return _outcome("finished", progress)


def dev_figures(
    policy: Any,
    objective: Any,
    units: Sequence[Unit],
    *,
    pass_tokens: int | None,
    rows: int = 256,
    helpers: Helpers | None = None,
    redone: bool = False,
) -> dict[str, float]:
    """The objective's figures over all `units`, sums streamed at most `rows` Units at a time; dropout off.

    Its "loss" is what training makes small, every term with its weight, over its own denominator.
    redone  memory that runs out on one rank is told to all, to evaluate again (step/step.py)
    """
    training = policy.net.training
    policy.net.eval()
    size = pass_tokens or EVAL_TOKENS
    found: list[Measured] = []
    try:
        for start in range(0, len(units), rows):
            some = [units[i] for i in range(start, min(start + rows, len(units)))]
            found.append(measure(policy, objective, some, pass_tokens=size, helpers=helpers, redone=redone))
    finally:
        policy.net.train(training)
    whole = Measured.whole(found)
    figures = {name: value / count if count else 0.0 for name, (value, count) in whole.figures.items()}
    return {**figures, "loss": whole.loss}


def seconds_per_step(
    policy: Any,
    objective: Any,
    units: Sequence[Unit],
    *,
    batch_size: int,
    pass_tokens: int | None,
    seed: int,
    tries: int = 3,
    helpers: Helpers | None = None,
    precision: str = "fp32",
) -> float:
    """Median seconds of a forward and backward pass over a typical step; nothing is updated. For a time budget.

    Several ranks each make their share of it, all at once, and all are told what the slowest needed.
    """
    draw = np.random.default_rng([seed, 0xB0D])
    took = []
    fitting = Fitting(pass_tokens)  # the run that follows will halve its passes too, and tell

    def forget() -> None:
        for parameter in policy.net.parameters():
            parameter.grad = None

    def passes(chosen: list[Unit], tokens: int | None) -> None:
        own = chosen[rank() :: ranks()]
        idle = None if own else chosen[0]
        backward(policy, objective, own, pass_tokens=tokens, helpers=helpers, idle=idle, redone=True)

    policy.net.train()
    with in_precision(policy.net, precision), during():
        for _ in range(tries + 1):
            chosen = [units[int(i)] for i in draw.choice(len(units), size=min(batch_size, len(units)), replace=False)]
            began = time.perf_counter()
            fitting.run(partial(passes, chosen), bounds=partial(pass_bounds, policy, chosen), forget=forget)
            took.append(time.perf_counter() - began)
        forget()
    return most(float(np.median(took[1:])))


def memory_parts(net: nn.Module, optim: Optimizer | Sharded) -> dict[str, int]:
    """Bytes by part on this rank after a step: weights, fp32 masters, gradients (fp32 sums), optimiser state, and the peak of the process."""
    weights = sum(local(p).numel() * p.element_size() for p in net.parameters())
    gradients = optim.num_gradient_bytes()
    return {
        "weights": weights, "masters": optim.num_master_bytes(), "gradients": gradients, "optimizer": optim.num_state_bytes(),
        **_peaks(),
    }  # fmt: skip


def _peaks() -> dict[str, int]:
    """The most this process held so far, and on a card the most torch's allocator kept."""
    return {"process_peak": peak_bytes(), **({"reserved": torch.cuda.max_memory_reserved()} if on_a_card() else {})}


def note_peak(folder: RunFolder) -> None:
    """The most this process ever held, into memory.json: evaluations, checkpoints, larger passes and the result come after the first
    step, when it was written."""
    if not folder.file("memory.json").exists():  # a run that is gone on with, from before there was one
        return
    found = folder.read_json("memory.json")
    folder.write_json(
        "memory.json", {**found, **{name: max(found.get(name, 0), now) for name, now in _peaks().items()}}
    )


def activation_bytes(
    policy: Any, objective: Any, units: Sequence[Unit], *, pass_tokens: int | None, helpers: Helpers | None = None
) -> int:
    """Bytes that the largest pass of a step keeps for its backward pass: every storage autograd holds, weights left out."""
    passes = passes_of(policy, units, pass_tokens)
    chosen = max(passes, key=lambda some: sum(units[i].num_tokens for i in some))
    weights = {local(p).untyped_storage().data_ptr() for p in policy.net.parameters()}
    kept: dict[int, int] = {}

    def look(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        # under FSDP a block's weights have a storage only while it computes
        if storage.data_ptr() not in weights and not isinstance(tensor._base, nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()

    with looked_at(look):
        out = objective.loss(policy, policy.batch([units[i] for i in chosen]), helpers or Helpers())
    del out
    return sum(kept.values())


def on_a_card() -> bool:
    """Whether torch has used a GPU in this process."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def peak_bytes() -> int:
    """Peak resident memory of this process; on a GPU the peak torch allocated there."""
    if on_a_card():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _watched_kl(objective: Any) -> float | None:
    """The KL beyond which the watch warns: the method's limit, else what the method says is far."""
    limit: float | None = getattr(objective, "kl_limit", None)
    return getattr(objective, "kl_warn", None) if limit is None else limit


class _Rows:
    """The last loss of every Unit and how often it was seen: 6 bytes a Unit."""

    def __init__(self, num_units: int) -> None:
        self.loss = torch.full((num_units,), float("nan"))
        self.seen = torch.zeros(num_units, dtype=torch.int16)

    @property
    def num_bytes(self) -> int:
        """What it adds to a checkpoint."""
        return 6 * len(self.loss)

    def note(self, step: Step) -> None:
        if len(step.stats.unit_losses) == len(step.indices):
            chosen = torch.from_numpy(step.indices.astype(np.int64))
            self.loss[chosen] = torch.from_numpy(step.stats.unit_losses)
            self.seen[chosen] += 1

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, seen) of all ranks together: every rank has to ask. Of one rank its own, not copies."""
        if ranks() == 1:
            return self.loss, self.seen
        parts = gathered((self.loss, self.seen))
        loss = self.loss.clone()
        for other, _ in parts:
            own = ~torch.isnan(other)
            loss[own] = other[own]
        return loss, torch.stack([seen for _, seen in parts]).sum(0).to(torch.int16)

    def load(self, loss: torch.Tensor, seen: torch.Tensor) -> None:
        """Take over what a checkpoint holds; it is counted by the first rank alone."""
        if len(loss) != len(self.loss):
            raise TrainingError(
                f"the checkpoint was made on {len(loss):,} examples; there are {len(self.loss):,} now",
                wanted="The same rows, tokenizer, template and length: a run goes on with what it began with.",
                fix="Put them back as they were, or start a new run: tunesmith train, without --resume.",
            )
        if rank() == 0:
            self.loss.copy_(loss)
            self.seen.copy_(seen)

    def write(self, path: Path, units: Sequence[Unit]) -> None:
        with writing(path) as file:
            for i in range(len(self.loss)):
                line = {
                    "row": i,
                    "origin": units[i].origin,
                    "loss": round(float(self.loss[i]), 5),
                    "seen": int(self.seen[i]),
                }
                file.write((to_json(line) + "\n").encode())


class _Speed:
    """Tokens a second over the last twenty steps."""

    def __init__(self) -> None:
        self.recent: list[tuple[int, float]] = []

    def note(self, step: Step) -> float:
        self.recent = [*self.recent[-19:], (step.stats.num_tokens, step.seconds)]
        return sum(n for n, _ in self.recent) / max(1e-9, sum(s for _, s in self.recent))


def _facts(step: Step, speed: float, tokens: int, steps: int) -> dict[str, Any]:
    stats = step.stats
    return {
        "step": step.number, "epoch": round(step.epoch, 4), "loss": stats.loss, "lr": step.lr, "grad_norm": step.grad_norm,
        "figures": dict(stats.figures), "units": stats.num_units, "tokens": stats.num_tokens, "trained_tokens": stats.num_trained,
        "total_tokens": tokens, "passes": stats.num_passes, "seconds": round(step.seconds, 4),
        "tokens_per_second": round(speed, 1), "eta": round((steps - step.number) * stats.num_tokens / speed, 1),
        "memory_bytes": peak_bytes(), "steps": steps,
    }  # fmt: skip


def _parameters(optim: Optimizer | Sharded) -> dict[str, torch.Tensor]:
    """Trainable weights by name; those with a master are saved as the master."""
    return {
        f"param.{name}": master.detach()
        for name, parameter, master in zip(optim.names, optim.parameters, optim.masters)
        if master is parameter
    }


def _restore(optim: Optimizer | Sharded, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Give the optimiser its weights and states, a tensor at a time; returns the others."""
    rest: dict[str, torch.Tensor] = {}

    def states() -> Iterator[tuple[str, torch.Tensor]]:
        for key, value in tensors:
            if key.startswith("param."):
                optim.put(key.removeprefix("param."), value)
            elif key.startswith(("state.", "master.")):
                yield key, value
            else:
                rest[key] = value

    optim.load_state(states())
    return rest


def _prove_checkpoint(place: Path, step: int, optim: Optimizer | Sharded) -> None:
    """Read the first checkpoint back: a save that cannot be read should fail now, not after hours."""
    wanted = {**_parameters(optim), **optim.state()}
    for key, read in checkpoint.each(place, step, ("param.", "state.", "master.")):
        value = wanted.pop(key, None)
        if value is not None and not (
            value.same(read) if isinstance(value, Spread) else read.equal(value.detach().cpu())
        ):
            raise TrainingError(
                f"the first checkpoint in {place} does not read back: {key} differs", fix="Check the disk."
            )
    if wanted:
        raise TrainingError(
            f"the first checkpoint in {place} does not read back: {next(iter(wanted))} is not in it",
            fix="Check the disk.",
        )


def _take_best(optim: Optimizer | Sharded, place: Path, progress: _Progress) -> None:
    """Put the best evaluation's weights into the model."""
    if progress.best_step is not None and progress.best_step != progress.step:
        _restore(optim, checkpoint.each(place, progress.best_step, ("param.", "master.")))


def _outcome(status: str, progress: _Progress) -> Outcome:
    return Outcome(
        status,
        progress.step,
        progress.best_step,
        progress.best_dev_loss,
        progress.last_loss,
        progress.seconds,
        progress.tokens,
    )
