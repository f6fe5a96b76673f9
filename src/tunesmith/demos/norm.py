"""Layer norm: every token's features get mean 0 and variance 1, whatever else is in the batch; before a block or after it.

LayerNorm(x) = (x - mean(x)) / sqrt(var(x) + eps) over the features of one token (Ba et al. 2016, arXiv 1607.06450). Batch norm takes mean and variance
over the batch, so a text's numbers depend on its batch mates and on the padding of shorter ones: no good for texts of varied lengths. A block
is attention or feed-forward with a residual connection: post-norm is norm(x + f(x)), as in the first transformer; pre-norm is x + f(norm(x)), which
leaves a path from end to start that no norm touches, so deep networks train from the first step (Xiong et al. 2020, arXiv 2002.04745).

층 정규화: 배치에 무엇이 함께 있든 토큰마다 특성의 평균을 0, 분산을 1로 만듭니다. 배치 정규화는 함께 있는 글과 채움에 따라 값이 달라져 길이가
제각각인 글에 맞지 않습니다. 블록은 잔차 연결이 있는 어텐션이나 순방향 층이고, 정규화를 뒤에 두면 사후, 앞에 두면 사전 정규화입니다.
"""

from typing import Any, Literal

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.demos import Shown, table

SIZE, DEPTH = 32, 12


def show(place: Literal["pre", "post"] | None = None, lang: str = "en") -> Shown:
    """Mean and variance under both norms with changing batch mates; gradients by layer with the norm before or after."""
    if place not in (None, "pre", "post"):
        raise SettingError(f'place is "{place}".', wanted="pre or post.")
    korean = lang == "ko"
    facts: dict[str, Any] = {"norms": batch_mates()}
    rows = [
        [name, f"{f['mean']:+.4f}", f"{f['variance']:.4f}", f"{f['moved']:.4f}"] for name, f in facts["norms"].items()
    ]
    head = (
        ["정규화", "한 글의 평균", "분산", "다른 글과 함께일 때 변화"]
        if korean
        else ["norm", "mean of one text", "variance", "change with other batch mates"]
    )
    lines = [table(head, rows), ""]
    places = ("pre", "post") if place is None else (place,)
    facts["gradients"] = {one: gradients(one) for one in places}
    facts["output"] = {one: spread(one) for one in places}
    told = (
        "층별 기울기 크기(첫 층을 1로), 시작할 때"
        if korean
        else "Gradient by layer at the start, the first layer's as 1"
    )
    rows = [
        [one, *(f"{g:.2f}" for g in found[:: DEPTH // 4]), f"{found[-1]:.2f}"]
        for one, found in facts["gradients"].items()
    ]
    lines += [told, table(["", *(str(number + 1) for number in range(0, DEPTH, DEPTH // 4)), str(DEPTH)], rows), ""]
    for one, (mean, variance) in facts["output"].items():
        lines.append(
            f"{one}: 마지막 출력의 토큰별 평균 {mean:+.4f}, 분산 {variance:.4f}"
            if korean
            else f"{one}: each token of the last output has mean {mean:+.4f}, variance {variance:.4f}"
        )
    return Shown("\n".join(lines), facts)


def batch_mates() -> dict[str, dict[str, float]]:
    """One text's normalised features: mean, variance, and how they move when the other texts of the batch are exchanged."""
    draw = torch.Generator().manual_seed(0)
    text = torch.randn(5, SIZE, generator=draw, dtype=torch.float64) * 2 + 1
    mates = [torch.randn(7, SIZE, generator=draw, dtype=torch.float64) * scale for scale in (1.0, 4.0)]
    found = {}
    norms: dict[str, nn.Module] = {
        "layer": nn.LayerNorm(SIZE, dtype=torch.float64),
        "batch": nn.BatchNorm1d(SIZE, dtype=torch.float64, track_running_stats=False),
    }
    for name, norm in norms.items():
        with torch.no_grad():
            one, other = (norm(torch.cat([text, mate]))[: len(text)] for mate in mates)
        found[name] = {
            "mean": float(one.mean(-1)[0]),
            "variance": float(one.var(-1, unbiased=False)[0]),
            "moved": float((one - other).abs().max()),
        }
    return found


def network(place: str) -> nn.Module:
    """Twelve blocks of attention and feed-forward with residual connections; `place` is where their norms stand."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "dropout": 0.0,
            "batch_first": True,
            "norm_first": place == "pre",
            "dtype": torch.float64,
        }
        return nn.Sequential(*(nn.TransformerEncoderLayer(SIZE, 4, 2 * SIZE, **settings) for _ in range(DEPTH)))


def gradients(place: str) -> list[float]:
    """Size of the gradient of each block's feed-forward weight, the first block's as 1."""
    net = network(place)
    draw = torch.Generator().manual_seed(1)
    x, wanted = (torch.randn(4, 9, SIZE, generator=draw, dtype=torch.float64) for _ in range(2))
    ((net(x) - wanted) ** 2).mean().backward()
    sizes = [float(layer.linear1.weight.grad.norm()) for layer in net]  # type: ignore[union-attr,operator]
    return [size / sizes[0] for size in sizes]


@torch.no_grad()
def spread(place: str) -> tuple[float, float]:
    """Mean and variance of one token of the last output: 0 and 1 after a post-norm, anything under pre-norm."""
    out = network(place).eval()(
        torch.randn(2, 9, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    return float(out[0, 0].mean()), float(out[0, 0].var(unbiased=False))
