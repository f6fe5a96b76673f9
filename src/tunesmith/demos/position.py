"""Positions: without them attention does not know in which order words stand.

Attention is a weighted sum, and a sum has no order: let the words change places, and each word's output moves along unchanged. An absolute
encoding adds to each word a vector of its place (Vaswani et al. 2017, arXiv 1706.03762, section 3.5). A relative one lets scores depend on how
far two words are apart: by rotating queries and keys (Su et al. 2021, arXiv 2104.09864), as our models do, or by a bias (Press et al. 2021, arXiv
2108.12409). So moving the whole text further back changes nothing under a relative encoding, and something under an absolute one. Below is
one attention layer over the words of a sentence, without a causal mask (which tells order by itself).

위치: 위치 정보가 없으면 어텐션은 단어의 순서를 모릅니다. 단어의 자리를 바꾸면 출력도 그대로 자리만 바뀝니다. 절대 위치는 자리마다 다른 벡터를 더하고,
상대 위치는 두 단어의 거리에 따라 점수를 바꿉니다. 글 전체를 뒤로 밀면 상대 위치에서는 아무것도 바뀌지 않습니다.
"""

import math
from typing import Literal

import torch

from tunesmith.core.errors import SettingError
from tunesmith.demos import Shown, table

Kind = Literal["none", "absolute", "relative", "bias"]
KINDS: tuple[Kind, ...] = ("none", "absolute", "relative", "bias")
SIZE = 32


def show(text: str = "dog bites man", kind: str | None = None, lang: str = "en") -> Shown:
    """For each kind of position (or one): how much outputs change when words change places, and when all move back by 7."""
    words = text.split()
    if not 2 <= len(words) <= 64:
        raise SettingError(f"text has {len(words)} words.", wanted="From 2 to 64.")
    if kind is not None and kind not in KINDS:
        raise SettingError(f'kind is "{kind}".', wanted=f"One of {', '.join(KINDS)}.")
    states = embed(words)
    order = list(range(len(words)))[::-1]
    facts, rows = {}, []
    for one in KINDS if kind is None else (kind,):
        out = attend(states, one)
        swapped = attend(states[order], one)  # the words in another order
        back = swapped[[order.index(i) for i in range(len(words))]]  # each word's output, where it stood
        moved = float((back - out).abs().max())
        shifted = float((attend(states, one, start=7) - out).abs().max())
        facts[one] = {"permuted": moved, "shifted": shifted}
        rows.append([one, _size(moved, lang), _size(shifted, lang)])
    turned = " ".join(words[i] for i in order)
    head = ["positions", f"'{text}' -> '{turned}'", "all 7 places later"]
    if lang == "ko":
        head = ["위치", f"'{text}' -> '{turned}'", "모두 7자리 뒤로"]
    told = "단어별 출력이 얼마나 바뀌는가" if lang == "ko" else "How much the output of each word changes"
    return Shown(f"{told}\n\n{table(head, rows)}", {"words": words, "kinds": facts})


def _size(change: float, lang: str) -> str:
    if change < 1e-9:
        return "그대로" if lang == "ko" else "not at all"
    return f"{change:.3f}"


def embed(words: list[str]) -> torch.Tensor:
    """A vector for each word, equal words alike, (words, SIZE) fp64."""
    seeds = [sum(byte * 257**place for place, byte in enumerate(word.encode())) % 2**31 for word in words]
    return torch.stack(
        [torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    )


def attend(states: torch.Tensor, kind: str, start: int = 0) -> torch.Tensor:
    """One head of attention over all words, with positions from `start` on encoded as `kind` says. (words, SIZE)"""
    draw = torch.Generator().manual_seed(0)
    make = [torch.randn(SIZE, SIZE, generator=draw, dtype=torch.float64) / math.sqrt(SIZE) for _ in range(3)]
    places = torch.arange(start, start + len(states), dtype=torch.float64)
    x = states + sinusoids(places) if kind == "absolute" else states
    q, k, v = (x @ weight for weight in make)
    if kind == "relative":
        q, k = rotate(q, places), rotate(k, places)
    scores = q @ k.T / math.sqrt(SIZE)
    if kind == "bias":
        apart = places[None, :] - places[:, None]
        scores = scores - 0.25 * apart.abs() + 0.5 * apart.sign()  # near counts more, and after more than before
    return torch.softmax(scores, -1) @ v


def sinusoids(places: torch.Tensor) -> torch.Tensor:
    """sin and cos of each place at SIZE / 2 frequencies, (places, SIZE)."""
    angles = places[:, None] / 10000 ** (torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotate(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Pairs of numbers turned by an angle that grows with the place: dot products then depend on distances alone."""
    angles = places[:, None] / 10000 ** (torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    first, second = x.chunk(2, -1)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)
