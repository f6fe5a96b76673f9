"""PiSSA: LoRA that starts as the largest directions of each weight (Meng et al. 2024, arXiv 2404.02948).

W = U S V^T; B A starts as the first `rank` of its singular directions, and what is left of W is frozen. Together they are W
to the last digits, so the start is the base, but the first steps turn what matters most: it converges faster than LoRA.
Saved as ordinary LoRA of twice the rank over the original base (PEFT's own conversion), so every reader of LoRA reads it.
Use it in place of LoRA when steps are few.

Formula: W' = W - U_r S_r V_r^T + B A, with B A = U_r S_r V_r^T at the start.

PiSSA: LoRA를 각 가중치의 가장 큰 특이 방향에서 시작합니다. 나머지는 얼리므로 합은 원래 가중치와 같고, 첫 스텝부터 가장 중요한 방향을 돌려
LoRA보다 빨리 수렴합니다. 저장할 때는 원래 기본 모델 위의, rank가 두 배인 보통 LoRA로 바꾸므로 LoRA를 읽는 모든 도구가 읽습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Pissa:
    """Low-rank updates that start as principal directions."""

    rank: int = 8
    """How many singular directions train.

    학습할 특이 방향의 수."""

    alpha: float | None = None
    """B A is scaled by alpha / rank, and drawn so that the start does not depend on it. Null = rank: a scale of 1.

    B A에 곱하는 값은 alpha / rank. 시작은 이 값에 달려 있지 않습니다. null이면 rank(곱하는 값 1)."""

    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an update: names, the ends of names, or globs. all-linear = every linear layer but the head.

    갱신을 받을 층: 이름, 이름의 끝, 또는 글롭. all-linear은 출력층을 뺀 모든 선형 층."""

    dropout: float = 0.0
    """Share of the update's inputs set to 0 while training.

    학습 중 갱신의 입력에서 0으로 두는 비율."""

    rounds: int | None = None
    """Rounds of a randomised decomposition (16 is usual), which is faster for large matrices. Null = the exact one.

    무작위 분해의 반복 횟수(보통 16). 큰 행렬에서 빠릅니다. null이면 정확한 분해."""

    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Other ranks for layers whose names end like this, as {down_proj: 16}.

    이름이 이렇게 끝나는 층의 다른 rank."""

    alpha_per_rank: ClassVar[int] = 1  # what null means
    lr: ClassVar[float] = 2e-4  # of a model 4,096 wide; see train/defaults.py. LoRA's: 3e-3 is good on `mini`
    file: ClassVar[str] = "adapter"
    start: ClassVar[str] = "near"  # what is left and what was taken out add up to W but for rounding
    rslora: ClassVar[bool] = False

    def __post_init__(self) -> None:
        from tunesmith.adapters._low_rank import check
        from tunesmith.core.limits import at_least

        check(self)
        at_least("adapter.rounds", self.rounds, 1)

    def _plain(self) -> Any:
        """The LoRA of the same sizes; alpha = rank where nothing is said."""
        from tunesmith.adapters._low_rank import alpha_of
        from tunesmith.adapters.lora import Lora

        alpha = alpha_of(self)
        patterned = {} if self.alpha is not None else dict(self.rank_pattern)
        return Lora(
            rank=self.rank, alpha=alpha, targets=self.targets, dropout=self.dropout, rank_pattern=self.rank_pattern,
            alpha_pattern=patterned,
        )  # fmt: skip

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network, take the largest directions out of each target and let them train. Returns their names."""
        import torch

        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import attach
        from tunesmith.adapters._stand_in import stand_ins
        from tunesmith.adapters._whole import untie

        names = attach(net, self._plain(), LoraLinear, seed)
        untie(net, names)
        with torch.no_grad():
            for layer in stand_ins(net, LoraLinear).values():
                take_out(layer, self.rounds, seed)
        return names

    def merge(self, net: Any) -> None:
        """Add the directions to what was left, and put the plain layers back."""
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import merge

        merge(net, LoraLinear)

    def tensors(self, net: Any) -> dict[str, Any]:
        """What changed since the start, s (B A - B0 A0), as LoRA of twice the rank over the original base."""
        import torch

        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._peft import PREFIX
        from tunesmith.adapters._stand_in import stand_ins

        out: dict[str, Any] = {}
        for name, layer in stand_ins(net, LoraLinear).items():
            out[f"{PREFIX}{name}.lora_A.weight"] = torch.cat([layer.lora_A.detach(), layer.start_A])
            out[f"{PREFIX}{name}.lora_B.weight"] = torch.cat([layer.lora_B.detach(), -layer.start_B], 1)
        return out

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """LoRA of twice the rank with the same scale."""
        from dataclasses import replace

        from tunesmith.adapters._low_rank import config

        plain = self._plain()
        doubled = replace(
            plain,
            rank=2 * plain.rank,
            alpha=2 * plain.alpha,
            rank_pattern={key: 2 * value for key, value in plain.rank_pattern.items()},
            alpha_pattern={key: 2 * value for key, value in plain.alpha_pattern.items()}
            or {key: 2 * plain.alpha for key in plain.rank_pattern},
        )
        return config(doubled, net, names, base)


def take_out(layer: Any, rounds: int | None, seed: int) -> None:
    """Move the largest singular directions of a layer's weight into its A and B, and keep a copy of them as they start."""
    import torch

    from tunesmith.adapters._stand_in import frozen
    from tunesmith.core.errors import SettingError

    if layer.quantised is not None:
        raise SettingError(
            "pissa takes directions out of the weights, which a packed base cannot give",
            fix="Use adapter: qlora, or a whole base.",
        )
    weight = frozen(layer).to(layer.lora_A.dtype)
    if rounds is None:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            left, values, columns = torch.svd_lowrank(weight, layer.rank, niter=rounds)
        right = columns.T
    root = (values[: layer.rank] / layer.scale).sqrt()
    layer.lora_A.copy_(root[:, None] * right[: layer.rank])
    layer.lora_B.copy_(left[:, : layer.rank] * root)
    for part in ("A", "B"):
        layer.register_buffer(f"start_{part}", getattr(layer, f"lora_{part}").detach().clone(), persistent=False)
    rest = weight - layer.delta()
    layer.weight.data = (rest.T if layer.transposed else rest).to(layer.weight.dtype).contiguous()
