"""Self-attention: which earlier words each word looks at, computed by hand from the model's own weights.

Every token makes a query, a key and a value from its state (W_q, W_k, W_v). A query's dot products with the keys, divided by the root of
their size, become weights that add up to 1 (softmax); the token takes the weighted sum of the values:
softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017, arXiv 1706.03762, equation 1). Raw embeddings alone would not do: their similarity is the
same in both directions, does not know the context, and finds a word most like itself; the learned projections make it directed.

자기 어텐션: 각 단어가 앞의 어떤 단어를 보는지 모델의 가중치로 손수 계산합니다. 토큰마다 질의·키·값(W_q, W_k, W_v)을 만들고, 질의와 키의 내적을
합이 1인 가중치로 바꾸어 값을 그만큼씩 더합니다. 임베딩끼리의 유사도만으로는 방향도 문맥도 없고, 단어가 자기 자신과 가장 비슷할 뿐입니다.
"""

from html import escape
from typing import Any

import torch

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.demos import Shown, table, width

SHADES = " ·░▒▓█"


def show(
    text: str = "The cat sat down because it was tired.",
    model: str = "mini",
    layer: int | None = None,
    head: int | None = None,
    lang: str = "en",
) -> Shown:
    """The attention map of a sentence in one layer (default: the middle one), of one head or the mean over heads."""
    from tunesmith.model.load import load

    loaded = load(model)
    ids = [*loaded.tokenizer.prefix_ids, *loaded.tokenizer.encode(text)]
    if not 2 <= len(ids) <= 64:
        raise SettingError(f"text has {len(ids)} tokens.", wanted="From 2 to 64, so that the map can be looked at.")
    layers = getattr(loaded.net.base_model, "layers", None)
    if layers is None or not hasattr(layers[0], "self_attn"):
        raise ModelError(f"{model} keeps its attention where this demonstration does not look", fix="Take mini.")
    layer = len(layers) // 2 if layer is None else layer
    if not 0 <= layer < len(layers):
        raise SettingError(f"layer is {layer}.", wanted=f"0 to {len(layers) - 1}.")
    weights, off = attention(loaded.net, ids, layer)
    if head is not None and not 0 <= head < len(weights):
        raise SettingError(f"head is {head}.", wanted=f"0 to {len(weights) - 1}, or none for the mean over heads.")
    chosen = weights.mean(0) if head is None else weights[head]
    words = [
        loaded.tokenizer.decode([id], skip_special=False).replace("\n", "\\n").replace("\ufffd", "·").strip() or "_"
        for id in ids
    ]
    raw = embeddings_alike(loaded.net, ids)
    korean = lang == "ko"
    which = f"layer {layer}, " + ("mean over heads" if head is None else f"head {head}")
    lines = [
        f"{model}, {which}"
        if not korean
        else f"{model}, {layer}번 층, " + ("헤드 평균" if head is None else f"{head}번 헤드"),
        "",
    ]
    lines += picture(words, chosen)
    lines += ["", _told(words, chosen, raw, korean), ""]
    sums = (weights.sum(-1) - 1).abs().max()
    lines.append(
        f"행의 합은 1에서 최대 {float(sums):.1g} 어긋나고, 손으로 계산한 출력은 모델의 출력과 최대 {off:.1g} 다릅니다."
        if korean
        else f"Rows add up to 1 within {float(sums):.1g}; the output computed by hand equals the model's within {off:.1g}."
    )
    facts = {
        "model": model, "layer": layer, "head": head, "tokens": words,
        "weights": [[round(float(w), 6) for w in row] for row in chosen], "hand_minus_model": off, "sum_minus_one": float(sums),
    }  # fmt: skip
    return Shown("\n".join(lines), facts, svg(words, chosen, f"{text} ({which})"))


@torch.no_grad()
def attention(net: Any, ids: list[int], layer: int) -> tuple[torch.Tensor, float]:
    """(weights of one layer, (heads, time, time); how far the layer's output by hand is from the module's own).

    By hand: q = W_q x, k = W_k x, v = W_v x, rotated by position; softmax(q k / sqrt(d)) v; W_o.
    """
    module = net.base_model.layers[layer].self_attn
    seen: dict[str, Any] = {}

    def look(_module: Any, args: Any, named: dict[str, Any], out: Any) -> None:
        seen["x"] = named.get("hidden_states", args[0] if args else None)
        seen["positions"] = named["position_embeddings"]
        seen["out"] = out[0]

    hook = module.register_forward_hook(look, with_kwargs=True)
    try:
        net(input_ids=torch.tensor([ids], device=next(net.parameters()).device), use_cache=False)
    finally:
        hook.remove()
    x, (cos, sin) = seen["x"][0], (part[0] for part in seen["positions"])  # (time, dim)
    time, size = len(x), module.head_dim
    q, k, v = (p(x).view(time, -1, size).transpose(0, 1) for p in (module.q_proj, module.k_proj, module.v_proj))
    if hasattr(module, "q_norm"):
        q, k = module.q_norm(q), module.k_norm(k)
    q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
    groups = len(q) // len(k)
    k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
    scores = q @ k.transpose(1, 2) * module.scaling
    later = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(1)
    weights = torch.softmax(scores.masked_fill(later, float("-inf")).float(), -1)
    out = module.o_proj((weights.to(v.dtype) @ v).transpose(0, 1).reshape(time, -1))
    return weights, float((out - seen["out"][0]).abs().max())


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], -1) * sin


@torch.no_grad()
def embeddings_alike(net: Any, ids: list[int]) -> torch.Tensor:
    """Cosines of the raw embeddings, (time, time): symmetric, 1 on the diagonal, blind to context."""
    states = net.get_input_embeddings()(torch.tensor(ids, device=next(net.parameters()).device)).float()
    states = torch.nn.functional.normalize(states, dim=-1)
    return states @ states.T


def picture(words: list[str], weights: torch.Tensor) -> list[str]:
    """A row for each token: its word, then a shade for each token it may look at."""
    size = max(map(width, words))
    lines = []
    for row, word in enumerate(words):
        shades = "".join(2 * SHADES[min(5, int(float(w) * 6 + 0.5))] for w in weights[row, : row + 1])
        lines.append(f"{' ' * (size - width(word))}{word} |{shades}")
    return lines


def _told(words: list[str], weights: torch.Tensor, raw: torch.Tensor, korean: bool) -> str:
    rows = []
    for place, word in enumerate(words):
        best = torch.argsort(weights[place, : place + 1], descending=True)[:3].tolist()
        seen = ", ".join(f"{words[i]} {float(weights[place, i]):.2f}" for i in best)
        alike = torch.argsort(raw[place], descending=True).tolist()
        other = next((i for i in alike if i != place), place)
        rows.append([word, seen, f"{words[other]} {float(raw[place, other]):.2f}"])
    head = (
        ["토큰", "보는 곳(가중치)", "임베딩이 가장 비슷한 토큰"]
        if korean
        else ["token", "looks at (weight)", "most alike by raw embedding"]
    )
    return table(head, rows)


def svg(words: list[str], weights: torch.Tensor, title: str) -> str:
    """The map as a picture: a row looks at its columns."""
    side, left = 26, 14 + 8 * max(map(width, words))
    size = left + side * len(words) + 10
    cells, names = [], []
    for row, word in enumerate(words):
        y = left + side * row
        names.append(f'<text x="{left - 6}" y="{y + 17}" text-anchor="end">{escape(word)}</text>')
        names.append(f'<text transform="translate({y + 17},{left - 6}) rotate(-90)">{escape(word)}</text>')
        for column in range(row + 1):
            weight = float(weights[row, column])
            cells.append(
                f'<rect x="{left + side * column}" y="{y}" width="{side - 1}" height="{side - 1}" fill="#1b6ca8" fill-opacity="{weight:.3f}">'
                f"<title>{escape(word)} -> {escape(words[column])}: {weight:.3f}</title></rect>"
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="13">'
        f"<title>{escape(title)}</title>{''.join(cells)}{''.join(names)}</svg>\n"
    )
