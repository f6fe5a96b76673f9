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
    """How often each row is seen; a fraction is allowed. Null = 3, unless steps or minutes say how long.

    각 행을 몇 번 보는지. 소수도 됩니다. null이면 3이고, steps나 minutes를 주면 그것을 따릅니다."""

    steps: int | None = None
    """How many optimiser steps; ends earlier than epochs when both are given.

    옵티마이저 갱신 횟수. epochs와 함께 주면 먼저 닿는 쪽에서 끝납니다."""

    minutes: float | None = None
    """Time budget: the number of steps is fitted into it after the first ones are timed, and the schedule with it.

    시간 예산(분). 처음 몇 스텝을 재어 전체 스텝 수와 학습률 일정을 그 안에 맞춥니다."""

    batch_size: int = 16
    """Units (rows, or pairs for methods that compare) per optimiser step, over all devices together.
    Larger ones give steadier steps and fewer of them (McCandlish et al. 2018, arXiv 1812.06162).

    갱신 한 번에 쓰는 단위(행, 비교 방법에서는 쌍)의 수. 모든 장치를 합한 값입니다."""

    pass_tokens: int | None = None
    """Most tokens in one forward pass. It bounds memory only and never changes the result. Null = fitted to the machine.

    순전파 한 번의 최대 토큰 수. 메모리만 제한하고 결과는 바꾸지 않습니다. null이면 기계에 맞춥니다."""

    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """What turns gradients into updates. AdamW: Loshchilov & Hutter 2019; muon: Jordan 2024, AdamW for what is no matrix.

    기울기를 갱신으로 바꾸는 방법."""

    lr: float | None = None
    """Learning rate at its peak. Null = a sane one for the adapter and the optimiser, which is printed.
    The first thing to tune (Goodfellow et al. 2016, Deep Learning, section 11.4).

    학습률의 최고값. null이면 어댑터와 옵티마이저에 맞는 값을 골라 보여 줍니다."""

    momentum: float = 0.9
    """Momentum of sgd and muon; the others do not read it (Polyak 1964; Sutskever et al. 2013).

    sgd와 muon의 모멘텀. 다른 옵티마이저는 읽지 않습니다."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's averages of the gradient and of its square (Kingma & Ba 2015, arXiv 1412.6980).

    Adam이 기울기와 그 제곱의 평균을 얼마나 오래 기억하는지."""

    eps: float = 1e-8
    """Adam's constant against division by 0 (Kingma & Ba 2015, arXiv 1412.6980).

    Adam에서 0으로 나누는 것을 막는 상수."""

    weight_decay: float = 0.0
    """Decoupled weight decay: each step takes lr x this of every matrix away. Biases, norms and embeddings keep theirs.
    Loshchilov & Hutter 2019, arXiv 1711.05101.

    분리된 가중치 감쇠. 스텝마다 행렬에서 lr x 이 값의 비율을 뺍니다. 편향, 정규화, 임베딩은 그대로 둡니다."""

    l1: float = 0.0
    """L1 penalty: pulls weights to exact zeros (Tibshirani 1996).

    L1 벌점. 가중치를 정확히 0으로 당깁니다."""

    l2: float = 0.0
    """L2 penalty added to the gradient; under Adam this is not the same as weight_decay (Loshchilov & Hutter 2019, arXiv
    1711.05101).

    기울기에 더하는 L2 벌점. Adam에서는 weight_decay와 같지 않습니다."""

    schedule: Literal["constant", "linear", "cosine", "wsd"] = "linear"
    """How the learning rate falls from its peak to min_lr over the run (cosine: Loshchilov & Hutter 2017, arXiv 1608.03983; wsd stays
    at the peak and falls in the last fifth: Hu et al. 2024, arXiv 2404.06395).

    학습률이 최고값에서 min_lr까지 내려가는 모양. wsd는 최고값에 머물다가 마지막 5분의 1에서 내려갑니다."""

    warmup: float = 0.05
    """Rise of the learning rate at the start: a share of all steps when below 1, otherwise a number of steps.
    Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    처음에 학습률을 올리는 구간. 1보다 작으면 전체 스텝의 비율, 아니면 스텝 수입니다."""

    min_lr: float = 0.0
    """Where the schedule ends, as a share of lr.

    일정이 끝날 때의 학습률. lr에 대한 비율입니다."""

    clip: float | None = 1.0
    """Largest norm of a step's gradient; a longer one is shortened to it (Pascanu et al. 2013, arXiv 1211.5063). Null = never.

    한 스텝 기울기의 최대 노름. 더 길면 그 길이로 줄입니다. null이면 줄이지 않습니다."""

    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Number format of the forward and backward pass. bf16 and fp16 are mixed: see masters. fp16 scales the loss. auto is bf16
    where the device multiplies it in hardware (a GPU from Ampere on, a CPU with AMX), else fp32; the run's project.yaml says
    which. Micikevicius et al. 2018, arXiv 1710.03740.

    순전파와 역전파의 수 형식. bf16과 fp16은 혼합 정밀도이고(masters 참고), fp16은 손실을 키워 작은 기울기를 지킵니다. auto는
    쓰는 장치가 bf16을 하드웨어로 곱하면 bf16, 아니면 fp32이며, 무엇을 썼는지 project.yaml에 남습니다."""

    masters: Literal["fp32", "kahan", "stochastic"] = "fp32"
    """What stands behind 16-bit weights that train: fp32 copies; or, with bf16, the cut-off digits (kahan) or chance (stochastic).
    Zamirai et al. 2020, arXiv 2010.06192.

    학습되는 16비트 가중치 뒤에 두는 것: fp32 사본, 또는 bf16에서 잘린 자리(kahan)나 확률적 반올림(stochastic)."""

    shard: Literal["none", "optimizer", "gradients", "all"] = "none"
    """What several processes (--nproc, torchrun) cut among them instead of each holding all of it: the optimiser's states and
    masters, the gradients too, or the weights as well. ZeRO 1, 2, 3: Rajbhandari et al. 2020, arXiv 1910.02054.

    여러 프로세스(--nproc, torchrun)가 나누어 갖는 것: 옵티마이저 상태와 마스터, 기울기까지, 가중치까지. ZeRO 1, 2, 3단계입니다."""

    states: Literal["fp32", "8bit"] = "fp32"
    """How the optimiser's averages are kept between updates: 8bit = 256 values and a scale for every 256 of them, a quarter of the
    memory; embeddings and small tensors stay fp32. Dettmers et al. 2022, arXiv 2110.02861.

    옵티마이저 상태를 담는 방법. 8bit면 256개마다 배율 하나를 두고 8비트로 담아 메모리가 4분의 1입니다. 임베딩과 작은 텐서는 fp32로 둡니다."""

    update_in_backward: bool = False
    """Update each parameter as soon as its gradient is there and free the gradient: never all gradients at once. Equal weights. Wants
    clip: null and a step in one pass (Lv et al. 2023, LOMO, arXiv 2306.09782).

    기울기가 나오는 대로 그 파라미터를 갱신하고 기울기를 비웁니다. 결과는 같습니다. clip: null이어야 하고, 한 스텝을 한 번에 계산합니다."""

    offload: Literal["none", "disk", "pinned"] = "none"
    """Where activations wait for the backward pass: in memory, in a scratch file of the run folder, or, from a GPU, in pinned host
    memory. Equal results, slower (Rhu et al. 2016, arXiv 1602.08124).

    역전파를 기다리는 활성값을 두는 곳: 메모리, 실행 폴더의 임시 파일(disk), GPU라면 호스트의 고정 메모리(pinned). 결과는 같고 느려집니다."""

    offload_states: Literal["none", "disk", "pinned"] = "none"
    """Where the optimiser's states wait between two updates: in memory, in a scratch file of the run folder, or, from a GPU, in
    pinned host memory. Parameters are updated one at a time. Equal results, slower (paged optimiser: Dettmers et al. 2023, arXiv 2305.14314).

    두 갱신 사이에 옵티마이저 상태를 두는 곳: 메모리, 실행 폴더의 임시 파일(disk), GPU라면 호스트의 고정 메모리(pinned). 결과는 같고 느려집니다."""

    kernels: Literal["torch", "compiled", "liger"] = "torch"
    """On a GPU, what computes norms and feed-forwards: torch, torch.compile, or Liger's Triton kernels (an extra). Checked against torch
    before the first step. Hsu et al. 2024, arXiv 2410.10989.

    GPU에서 정규화와 피드포워드를 계산하는 것: torch, torch.compile, Liger의 Triton 커널(추가 설치). 첫 스텝 전에 torch와 견주어 봅니다."""

    checkpointing: bool | Literal["selective"] = False
    """Recompute activations in the backward pass: less memory, about a third more time, equal gradients (Chen et
    al. 2016, arXiv 1604.06174). selective = keep what matrix products gave, recompute the rest (Korthikanti et al. 2022, arXiv 2205.05198):
    less of both. On a CPU the Llama family keeps little more anyway from 512 elements a token on.

    역전파 때 활성값을 다시 계산합니다. 메모리는 줄고 시간은 3분의 1쯤 늘며 기울기는 같습니다. selective면 행렬 곱의 결과는 두고 나머지만 다시
    계산해, 메모리도 시간도 그 중간입니다. CPU에서 Llama 계열은 토큰당 원소가 512개 이상이면 원래 거의 그렇게 합니다."""

    eval_every: int | Literal["epoch"] | None = "epoch"
    """Evaluate on the dev split every so many steps, or after each epoch. Null = only at the end.

    몇 스텝마다 또는 에폭마다 dev로 평가합니다. null이면 끝에서만 합니다."""

    eval_batch: int = 32
    """Rows per forward pass of an evaluation; it never changes the result.

    평가할 때 한 번에 넣는 행의 수. 결과는 바뀌지 않습니다."""

    early_stopping: int | None = None
    """Stop after so many evaluations in a row without a better dev loss (Prechelt 1998). Null = never.

    dev 손실이 이만큼의 평가 동안 나아지지 않으면 멈춥니다. null이면 멈추지 않습니다."""

    keep: int = 1
    """Checkpoints kept of the last ones; the best by dev is always kept beside them.

    남겨 둘 최근 체크포인트의 수. dev에서 가장 좋은 것은 항상 따로 남습니다."""

    save_every: int | None = None
    """Write a checkpoint every so many steps. Null = at each evaluation.

    몇 스텝마다 체크포인트를 쓰는지. null이면 평가할 때마다 씁니다."""

    sample: int = 3
    """Answers to dev prompts written at each evaluation, to read along. 0 = none.

    평가할 때마다 dev 질문에 답을 몇 개 만들어 보여 주는지. 0이면 만들지 않습니다."""

    order: Literal["shuffle", "file"] = "shuffle"
    """Order of rows: shuffled anew for each epoch from the seed, or as they stand in the file.

    행의 순서. 에폭마다 시드로 섞거나, 파일에 있는 순서대로 씁니다."""

    pause_file: str | None = None
    """While a file of this name exists, training waits (the machine is needed for something else).

    이 이름의 파일이 있는 동안 학습이 기다립니다(기계를 다른 일에 써야 할 때)."""

    threads: int | None = None
    """CPU threads. Null = all cores. Equal figures on another run need an equal number.

    CPU 스레드 수. null이면 모든 코어. 다음 실행에서 같은 수치를 얻으려면 같은 수여야 합니다."""

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
        if self.masters != "fp32" and self.precision not in ("bf16", "auto"):  # auto is asked again, with what it means
            raise SettingError(
                f"train.masters is {self.masters}, but train.precision is {self.precision}.",
                fix="Set train.precision=bf16, or leave train.masters out.",
            )
        unread = {"optimizer": ("muon",), "precision": ("fp16",), "masters": ("kahan", "stochastic")}
        for name, values in unread.items() if self.shard == "all" else ():
            if getattr(self, name) in values:
                raise SettingError(
                    f"train.shard is all, but train.{name} is {getattr(self, name)}, which needs whole matrices or 16-bit weights.",
                    fix="Set train.shard=gradients: states and gradients are cut, the weights are whole on every rank.",
                )
        for name, usual in (("states", "fp32"), ("offload_states", "none")):
            if (value := getattr(self, name)) != usual and self.optimizer == "sgd" and not self.momentum:
                raise SettingError(
                    f"train.{name} is {value}, but sgd without momentum keeps no states.",
                    fix=f"Leave train.{name} out.",
                )
        if self.update_in_backward and self.clip is not None:
            raise SettingError(
                f"train.update_in_backward is true and train.clip is {self.clip:g}, which needs all gradients at once.",
                fix="Set train.clip=null, or leave train.update_in_backward out.",
            )
        if self.update_in_backward and self.precision == "fp16":
            raise SettingError(
                "train.update_in_backward is true and train.precision is fp16, which looks at all gradients before it takes any.",
                fix="Set train.precision=bf16, or leave train.update_in_backward out.",
            )
        if self.early_stopping is not None and self.eval_every is None:
            raise SettingError(
                f"train.early_stopping is {self.early_stopping}, but train.eval_every is null.",
                wanted="Early stopping looks at evaluations during training.",
                fix="Set train.eval_every, for example: epoch",
            )
