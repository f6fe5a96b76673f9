"""Settings of the training loop: the section `train` of a project file.

train:
  epochs: 3
  lr: 1e-4
"""

from dataclasses import dataclass
from typing import Literal

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import above, at_least, between


@dataclass(frozen=True)
class TrainSettings:
    """How long, in what steps, with which optimiser, and what is kept."""

    epochs: float | None = None
    """How often each row is seen; a fraction is allowed. Null = 3, unless steps or minutes say how long."""

    steps: int | None = None
    """How many optimiser steps; ends earlier than epochs when both are given."""

    minutes: float | None = None
    """Time budget: the number of steps is fitted into it after the first ones are timed, and the schedule with it."""

    batch_size: int = 16
    """Units (rows, or pairs for methods that compare) per optimiser step, over all devices together."""

    pass_tokens: int | None = None
    """Most tokens in one forward pass. It bounds memory only and never changes the result. Null = fitted to the machine."""

    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """What turns gradients into updates. AdamW: Loshchilov & Hutter 2019; muon: Jordan 2024, AdamW for what is no matrix."""

    lr: float | None = None
    """Learning rate at its peak. Null = a sane one for the adapter and the optimiser, which is printed."""

    momentum: float = 0.9
    """Momentum of sgd and muon; the others do not read it."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's averages of the gradient and of its square."""

    eps: float = 1e-8
    """Adam's constant against division by 0."""

    weight_decay: float = 0.0
    """Decoupled weight decay: each step takes lr x this of every matrix away. Biases, norms and embeddings keep theirs."""

    l1: float = 0.0
    """L1 penalty: pulls weights to exact zeros."""

    l2: float = 0.0
    """L2 penalty added to the gradient; under Adam this is not the same as weight_decay."""

    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls from its peak to min_lr over the run."""

    warmup: float = 0.05
    """Rise of the learning rate at the start: a share of all steps when below 1, otherwise a number of steps."""

    min_lr: float = 0.0
    """Where the schedule ends, as a share of lr."""

    clip: float | None = 1.0
    """Largest norm of a step's gradient; a longer one is shortened to it. Null = never."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the forward and backward pass. bf16 is mixed: master weights and optimiser state stay fp32."""

    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time, equal gradients."""

    eval_every: int | Literal["epoch"] | None = "epoch"
    """Evaluate on the dev split every so many steps, or after each epoch. Null = only at the end."""

    eval_batch: int = 32
    """Rows per forward pass of an evaluation; it never changes the result."""

    early_stopping: int | None = None
    """Stop after so many evaluations in a row without a better dev loss. Null = never."""

    keep: int = 1
    """Checkpoints kept of the last ones; the best by dev is always kept beside them."""

    save_every: int | None = None
    """Write a checkpoint every so many steps. Null = at each evaluation."""

    sample: int = 3
    """Answers to dev prompts written at each evaluation, to read along. 0 = none."""

    order: Literal["shuffle", "file"] = "shuffle"
    """Order of rows: shuffled anew for each epoch from the seed, or as they stand in the file."""

    pause_file: str | None = None
    """While a file of this name exists, training waits (the machine is needed for something else)."""

    threads: int | None = None
    """CPU threads. Null = all cores. Equal figures on another run need an equal number."""

    def __post_init__(self) -> None:
        above("train.epochs", self.epochs, 0)
        at_least("train.steps", self.steps, 1)
        above("train.minutes", self.minutes, 0)
        at_least("train.batch_size", self.batch_size, 1)
        at_least("train.pass_tokens", self.pass_tokens, 1)
        above("train.lr", self.lr, 0)
        between("train.momentum", self.momentum, 0, 1)
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise SettingError(f"train.betas is {list(self.betas)}.", wanted="Each must be 0 or more and below 1.")
        above("train.eps", self.eps, 0)
        at_least("train.weight_decay", self.weight_decay, 0)
        at_least("train.l1", self.l1, 0)
        at_least("train.l2", self.l2, 0)
        at_least("train.warmup", self.warmup, 0)
        between("train.min_lr", self.min_lr, 0, 1)
        above("train.clip", self.clip, 0)
        if self.eval_every != "epoch":
            at_least("train.eval_every", self.eval_every, 1)
        at_least("train.eval_batch", self.eval_batch, 1)
        at_least("train.early_stopping", self.early_stopping, 1)
        at_least("train.keep", self.keep, 1)
        at_least("train.save_every", self.save_every, 1)
        at_least("train.sample", self.sample, 0)
        at_least("train.threads", self.threads, 1)
        for name, default, readers in (
            ("momentum", 0.9, ("sgd", "muon")),
            ("betas", (0.9, 0.999), ("adamw", "adam", "muon")),
            ("eps", 1e-8, ("adamw", "adam", "muon")),
        ):
            if getattr(self, name) != default and self.optimizer not in readers:
                raise SettingError(
                    f"train.{name} is set, but the optimizer {self.optimizer} does not read it.",
                    fix=f"Leave it out, or choose train.optimizer: {readers[0]}",
                )
        if self.early_stopping is not None and self.eval_every is None:
            raise SettingError(
                f"train.early_stopping is {self.early_stopping}, but train.eval_every is null.",
                wanted="Early stopping looks at evaluations during training.",
                fix="Set train.eval_every, for example: epoch",
            )
