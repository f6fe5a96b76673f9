"""Which token comes next: penalties, temperature, top-p, and random numbers that belong to one answer alone.

    u = uniforms(seeds=[7, 8], steps=[0, 5])                       # one number per row, from (seed, step) only
    tokens, logprobs, sampled = choose(logits, u, temperature=0.8, top_p=0.9)

The order is OpenAI's: penalties are taken from the logits, the result is divided by the temperature, top-p cuts the tail of
that distribution, and one token is drawn. Temperature 0 takes the largest penalised logit.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

_MASK = (1 << 64) - 1
_FIRST_TRY = 256  # top-p looks among so many best tokens before it sorts the whole vocabulary


def penalise(logits: torch.Tensor, counts: torch.Tensor, *, frequency: float, presence: float) -> torch.Tensor:
    """Logits minus `frequency` x count and minus `presence` once seen; both (rows, vocab), counts of generated tokens.

    Source: OpenAI API reference, mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence.

    [1, 1, 1] with counts [0, 1, 3], frequency 0.5, presence 1 -> [1, -0.5, -1.5]
    """
    return logits - frequency * counts - presence * (counts > 0).to(logits.dtype)


def nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities (rows, vocab) with everything outside the smallest set of mass >= top_p set to 0; not renormalised.

    Source: Holtzman et al. 2020, section 3.1. [0.5, 0.3, 0.2], 0.6 -> [0.5, 0.3, 0]
    """
    vocab = probs.shape[-1]
    best, index = probs.topk(min(vocab, _FIRST_TRY), dim=-1)
    if best.shape[-1] < vocab and bool((best.sum(-1) < top_p).any()):
        best, index = probs.sort(dim=-1, descending=True, stable=True)
    before = F.pad(best.cumsum(-1)[..., :-1], (1, 0))  # mass of the tokens that rank higher
    kept = torch.where(before < top_p, best, torch.zeros_like(best))
    return torch.zeros_like(probs).scatter_(-1, index, kept)


def draw(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token at which the running sum of `probs` (rows, vocab; any positive total) passes uniform x total: (rows,).

    The sum runs in the order of the vocabulary: rounding then moves a boundary by 1e-7, where sorting first would swap
    tokens of nearly equal probability and change the answer with its batch mates.
    """
    cdf = probs.cumsum(-1)
    total = cdf[:, -1:]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform.to(cdf.dtype)[:, None] * total, below_total)
    return torch.searchsorted(cdf, target, right=True)[:, 0]


def choose(
    logits: torch.Tensor,
    uniform: torch.Tensor | None,
    *,
    temperature: float,
    top_p: float = 1.0,
    counts: torch.Tensor | None = None,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token a row, with two log-probabilities of it: (tokens, logprobs, sampled_logprobs), each of shape (rows,).

    logits    (rows, vocab), any floating dtype; worked on in fp32
    uniform   (rows,) in [0, 1); None is allowed at temperature 0
    counts    (rows, vocab) how often each token was generated so far; None = no penalties
    logprobs          under the model's own distribution: temperature 1, no penalties, no cut
    sampled_logprobs  under the distribution it was drawn from: penalties, temperature and top-p applied, renormalised.
                      At temperature 0 all mass is on one token: 0.
    """
    logits = logits.float()
    scores = logits
    if counts is not None:
        scores = penalise(logits, counts, frequency=frequency_penalty, presence=presence_penalty)
    if temperature == 0:
        tokens = scores.max(-1).indices  # on a CPU half the time of argmax
        sampled = torch.zeros(len(tokens), dtype=torch.float32, device=logits.device)
    else:
        assert uniform is not None
        probs = ((scores - scores.amax(-1, keepdim=True)) / temperature).softmax(-1)  # 0 / tiny stays 0
        if top_p < 1:
            probs = nucleus(probs, top_p)
        tokens = draw(probs, uniform)
        sampled = (probs.gather(-1, tokens[:, None])[:, 0] / probs.sum(-1)).log()
    logprobs = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    return tokens, logprobs, sampled


def uniforms(seeds: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """One float64 in [0, 1) per (seed, step), the same whatever else is in the batch. uniforms([0], [0]) -> [0.7012...].

    A counter-based generator: the output function of SplitMix64 (Steele et al. 2014) applied to the seed and then, with the
    step added, once more. Any integer is a seed.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.array([int(seed) & _MASK for seed in seeds], dtype=np.uint64))
        counter = np.array([int(step) + 1 for step in steps], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (_mix(state + counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: np.ndarray) -> np.ndarray:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
