"""How surprised a model is by text: cross-entropy, perplexity, bits per byte and per character.

    found = perplexity(model, ["Some text.", "다른 글."])
    found.perplexity, found.bits_per_byte, found.summary()

Perplexity = exp(mean -log p of a token), so it depends on the tokenizer; bits per UTF-8 byte do not, and may be compared between
models and with a compressor. A text longer than the context is read in windows: each token is predicted once, with at least
context - stride tokens before it (the first window excepted). Only sums are kept, never logits.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.stats.intervals import bca, mean_interval
from tunesmith.stats.summary import Summary
from tunesmith.text.example import Example, Unit

FEW = 8  # texts; an interval over fewer is made over windows instead


@dataclass(frozen=True)
class Perplexity:
    """Sums over texts and what follows from them.

    nll         sum of -log p in nats;  tokens, bytes, characters  what they were summed over
    context, stride, first   how it was measured
    texts       nats and bytes of each text, float64 (texts, 2);  windows  nats and tokens of each window, float64 (windows, 2)
    counted     place among the texts that were given, and tokens, of each text, int64 (texts, 2): one without a token is left out
    """

    nll: float
    tokens: int
    bytes: int
    characters: int
    context: int
    stride: int
    first: str
    texts: np.ndarray = field(repr=False)
    windows: np.ndarray = field(repr=False)
    counted: np.ndarray = field(repr=False)

    @property
    def cross_entropy(self) -> float:
        """Nats per token."""
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the cross-entropy."""
        return math.exp(self.cross_entropy)

    @property
    def bits_per_byte(self) -> float:
        return self.nll / math.log(2) / self.bytes

    @property
    def bits_per_character(self) -> float:
        return self.nll / math.log(2) / self.characters

    def summary(self) -> Summary:
        """Bits per byte with its interval: bootstrap over texts, or, with fewer than 8 texts, over windows (which are not quite independent)."""
        extra = self.as_dict()
        if len(self.texts) >= FEW:
            nats, size = self.texts.T
            interval = bca(lambda counts: counts @ nats / (counts @ size) / math.log(2), len(nats))
            low, high, n = interval.low, interval.high, interval.n
        else:
            means = mean_interval(self.windows[:, 0] / self.windows[:, 1])
            half = means.high - means.value
            scale = self.tokens / self.bytes / math.log(2)  # nats per token -> bits per byte
            low, high, n = self.bits_per_byte - half * scale, self.bits_per_byte + half * scale, len(self.windows)
        return Summary(self.bits_per_byte, n, max(0.0, low), high, "lower", extra)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "cross_entropy": self.cross_entropy,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_character": self.bits_per_character,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "characters": self.characters,
            "texts": len(self.texts),
            "context": self.context,
            "stride": self.stride,
            "first_token": self.first,
            "interval_over": "texts" if len(self.texts) >= FEW else "windows",
        }


def perplexity(
    model: Any,
    texts: Iterable[str],
    *,
    context: int | None = None,
    stride: int | None = None,
    first: Literal["skip", "uniform"] = "skip",
    pass_tokens: int = 8192,
) -> Perplexity:
    """Measure a model on raw texts.

    context  longest window in tokens; None = the model's
    stride   how far the next window begins; None = half the context. 1 is the most exact and the slowest
    first    what predicts a text's first token when the model has no BOS: "skip" leaves it out (with its bytes), "uniform" counts it
             as one of the vocabulary, which makes the sum a code length that may be set beside a compressor's
    pass_tokens  tokens in one forward pass, for memory

    Raises DataError when there is nothing to measure, SettingError for an impossible window.
    """
    import torch

    tokenizer, policy, net = model.tokenizer, model.policy, model.net
    room = getattr(model, "context", None) or 1024
    context = room if context is None else context
    stride = max(1, context // 2) if stride is None else stride
    if not 2 <= context <= room or not 1 <= stride < context:
        raise SettingError(
            f"context is {context}, stride {stride}.",
            wanted=f"2 <= context <= {room} (the model's) and 1 <= stride < context.",
        )
    start = list(tokenizer.prefix_ids)
    vocab = int(net.get_input_embeddings().weight.shape[0])
    per_text: list[list[float]] = []
    counted_in: list[tuple[int, int]] = []
    windows: list[list[float]] = []
    owners: list[int] = []
    waiting: list[tuple[int, Example]] = []
    sums = {"tokens": 0, "bytes": 0, "characters": 0}

    def flush() -> None:
        if not waiting:
            return
        batch = policy.batch([Unit((example,)) for _, example in waiting])
        logp = policy.logprobs(batch).detach().double().cpu().numpy()
        nats = np.bincount(batch.example.cpu().numpy(), weights=-logp, minlength=len(waiting))
        for (owner, example), value in zip(waiting, nats):
            if not math.isfinite(value):
                raise ModelError(
                    f"The model's loss on text {owner} is not a number.", fix="Try precision bf16 or fp32."
                )
            per_text[owner][0] += value
            windows.append([float(value), float(example.num_trained)])
            owners.append(owner)
        waiting.clear()

    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        with torch.no_grad():
            for place, text in enumerate(texts):
                ids = tokenizer.encode(text)
                size, letters, extra = len(text.encode("utf-8")), len(text), 0.0
                if ids and not start and first == "uniform":
                    extra = math.log(vocab)
                elif ids and not start:
                    lost = tokenizer.decode(ids[:1])
                    letters -= 0 if "\ufffd" in lost else len(lost)
                    size -= (
                        1 if "\ufffd" in lost else len(lost.encode("utf-8"))
                    )  # a piece of a character: at least its byte
                per_text.append([extra, float(size)])
                counted = len(ids) - (0 if start or first == "uniform" else 1)
                if counted < 1:
                    per_text.pop()
                    continue
                counted_in.append((place, counted))
                sums["tokens"] += counted
                sums["bytes"] += size
                sums["characters"] += letters
                for example in _windows([*start, *ids], max(1, len(start)), context, stride):
                    if waiting and sum(len(e) for _, e in waiting) + len(example) > pass_tokens:
                        flush()
                    waiting.append((len(per_text) - 1, example))
            flush()
    finally:
        for module in training:
            module.training = True
    if not sums["tokens"]:
        raise DataError("There is no text to measure.", wanted="At least one text of two tokens.")
    table = np.array(per_text)
    return Perplexity(
        nll=float(table[:, 0].sum()),
        context=context,
        stride=stride,
        first="BOS" if start else first,
        texts=table,
        windows=np.array(windows).reshape(-1, 2),
        counted=np.array(counted_in, dtype=np.int64).reshape(-1, 2),
        **sums,
    )


def surprises(model: Any, texts: Sequence[str]) -> list[tuple[float, int, int]]:
    """Of each text: nats, and the tokens and bytes that they were summed over; (0, 0, 0) of one that has no token to predict."""
    found: list[tuple[float, int, int]] = [(0.0, 0, 0)] * len(texts)
    if any(len(model.tokenizer.encode(text)) + len(model.tokenizer.prefix_ids) > 1 for text in texts):
        measured = perplexity(model, texts)
        for (place, tokens), (nats, size) in zip(measured.counted.tolist(), measured.texts.tolist(), strict=True):
            found[place] = (nats, tokens, int(size))
    return found


def _windows(ids: list[int], begin: int, context: int, stride: int) -> Iterator[Example]:
    """Windows over ids that predict each token from `begin` on exactly once."""
    done, at = begin, 0
    while done < len(ids):
        end = min(at + context, len(ids))
        weights = np.zeros(end - at, dtype=np.float32)
        weights[done - at :] = 1.0
        yield Example.of(ids[at:end], weights.tolist())
        done, at = end, at + stride
