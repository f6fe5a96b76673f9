"""Linear layer + cross-entropy in chunks: logits of a few hundred tokens at a time, never of all of them.

    nll = weighted_nll(hidden, target, coefficient, Head(weight))   # sum of coefficient * -log p(target), gradient made now
    logp = logprobs(hidden, target, Head(weight))                   # (targets,), gradient made in backward, by recomputing

hidden  (targets, dim): only the states that predict a trained-on token come here. Logits and sums are float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from tunesmith.model.cross_entropy import cross_entropy, fits
from tunesmith.model.products import linears
from tunesmith.model.sizes import even

CHUNK_ELEMENTS = 1 << 21  # logits a chunk may hold: 8 MB in fp32, which stays near the caches of a CPU
CHUNK_ROWS = 128  # but at least so many tokens: products of fewer rows read the whole head for little (2 to 3 times slower at 16)


@dataclass(frozen=True, eq=False)
class Head:
    """What turns hidden states into logits: logits = cap(scale * (hidden @ weight.T + bias)).

    weight (vocab, dim); bias (vocab,) or None; softcap as in Gemma-2 (arXiv 2408.00118); scale as in Cohere and Granite.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    def products(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden @ weight.T + bias, (n, vocab), in their dtype."""
        if not torch.is_grad_enabled():
            return linears(hidden, [self.weight], [self.bias])[0]
        return F.linear(hidden, self.weight, self.bias)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, vocab) float32."""
        return self.of_products(self.products(hidden))

    def of_products(self, products: torch.Tensor) -> torch.Tensor:
        """(n, vocab) float32: cap(scale * products)."""
        logits = products.to(wide(products.dtype))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def at(self, temperature: float) -> "Head":
        """The head whose logits are divided by `temperature`."""
        cap = None if self.softcap is None else self.softcap / temperature
        return Head(self.weight, self.bias, cap, self.scale / temperature)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are made in: float64 stays (tests use it), everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def chunk_rows(vocab: int, num_targets: int) -> int:
    """How many tokens' logits are made at a time: chunks of one size, as none would gain by being small."""
    most = max(CHUNK_ROWS, CHUNK_ELEMENTS // vocab)
    return max(1, -(-num_targets // max(1, -(-num_targets // most))))


class _Gradients:
    """Sums of the gradients of hidden, weight and bias over the chunks; None for those nobody needs."""

    def __init__(self, hidden: torch.Tensor, head: Head, needs: tuple[bool, bool, bool]) -> None:
        self.head = head
        self.hidden = torch.empty_like(hidden) if needs[0] else None
        # Chunks add up in fp32: many small bf16 sums would lose the tail. The first writes, the others add.
        self.weight = torch.empty_like(head.weight, dtype=wide(hidden.dtype)) if needs[1] else None
        self.bias = (
            torch.zeros_like(head.bias, dtype=wide(hidden.dtype)) if needs[2] and head.bias is not None else None
        )

    def add(
        self, rows: slice, hidden: torch.Tensor, logits: torch.Tensor | None, gradient: torch.Tensor, each: torch.Tensor
    ):
        """`each` (n,) times `gradient` (n, vocab) is the gradient of the final logits; `gradient` may be overwritten.

        The first rows come first; `logits` only under a soft cap.
        """
        head = self.head
        if head.softcap is not None and logits is not None:
            gradient.mul_(1 - (logits / head.softcap) ** 2)
        each = each.to(wide(hidden.dtype))
        if head.scale != 1.0:
            each = each * head.scale
        if self.bias is not None:
            self.bias += each @ gradient.to(each.dtype)
        low = gradient.to(hidden.dtype)
        # a factor a row goes to the narrow side of each product: the wide one is read as seldom as can be
        if self.hidden is not None:
            torch.mm(low, head.weight, out=self.hidden[rows])
            self.hidden[rows].mul_(each[:, None])
        if self.weight is not None:
            scaled = (hidden * each[:, None]).to(hidden.dtype)
            first = rows.start == 0  # nothing to add to yet
            if low.dtype == self.weight.dtype:
                self.weight.addmm_(low.T, scaled, beta=0 if first else 1)
            else:
                (self.weight.copy_ if first else self.weight.add_)(low.T @ scaled)


def _walk(hidden: torch.Tensor, head: Head, target: torch.Tensor, wants: bool):
    """Yield (rows, hidden chunk, logits, gradient of -log p by the logits, log-prob of the target) chunk by chunk.

    The gradient lies where the logits lay, unless a soft cap needs those again: only then they are yielded. Not wanted, it is
    not made. Without the kernel, log-sum-exp comes from the likeliest token's own probability, which is at least 1 / vocab:
    max - log p(max), one pass over the logits less.
    """
    size = chunk_rows(head.weight.shape[0], len(target))
    for start in range(0, len(target), size):
        rows = slice(start, min(start + size, len(target)))
        logits = head.products(hidden[rows])
        if head.softcap is None and head.scale > 0 and fits(logits):
            logp = cross_entropy(logits, target[rows], head.scale, wants)
            yield rows, hidden[rows], None, logits, logp
            continue
        logits = head.of_products(logits)
        top, place = logits.max(dim=-1, keepdim=True)
        chosen = logits.gather(1, target[rows, None])
        chances = (
            torch.softmax(logits, dim=-1) if head.softcap is not None else torch.softmax(logits, dim=-1, out=logits)
        )
        logp = chosen - top + chances.gather(1, place).log()
        if wants:  # p - onehot(target)
            chances[torch.arange(len(chances), device=target.device), target[rows]] -= 1
        yield rows, hidden[rows], logits, chances, logp[:, 0]


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, target, coefficient, softcap, scale):
        head = Head(weight, bias, softcap, scale)
        grads = _Gradients(hidden, head, ctx.needs_input_grad[:3])
        total = torch.zeros((), dtype=wide(hidden.dtype), device=hidden.device)
        logps = torch.empty(len(target), dtype=wide(hidden.dtype), device=hidden.device)
        wants = any(ctx.needs_input_grad[:3])
        for rows, chunk, logits, gradient, logp in _walk(hidden, head, target, wants):
            total -= (logp * coefficient[rows]).sum()
            logps[rows] = logp
            if wants:
                grads.add(rows, chunk, logits, gradient, coefficient[rows])
        ctx.grads = (grads.hidden, grads.weight, grads.bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(logps)
        return total, logps

    @staticmethod
    def backward(ctx, grad_total, _):
        made = [None if g is None else g.mul_(grad_total).to(dtype) for g, dtype in zip(ctx.grads, ctx.dtypes)]
        ctx.grads = None
        return (*made, None, None, None, None)


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, target, softcap, scale):
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.facts = (softcap, scale)
        out = torch.empty(len(target), dtype=wide(hidden.dtype), device=hidden.device)
        for rows, _, _, _, logp in _walk(hidden, Head(weight, bias, softcap, scale), target, False):
            out[rows] = logp
        return out

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, bias, target = ctx.saved_tensors
        softcap, scale = ctx.facts
        head = Head(weight, bias, softcap, scale)
        grads = _Gradients(hidden, head, ctx.needs_input_grad[:3])
        for rows, chunk, logits, gradient, _ in _walk(hidden, head, target, True):
            grads.add(rows, chunk, logits, gradient, -grad[rows])
        made = (grads.hidden, grads.weight, grads.bias)
        dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return (*(None if g is None else g.to(d) for g, d in zip(made, dtypes)), None, None, None)


def weighted_nll(
    hidden: torch.Tensor, target: torch.Tensor, coefficient: torch.Tensor, head: Head
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum of coefficient * -log p(target), log p of each target without gradient), gradients made in the forward pass.

    hidden (n, dim), target (n,), coefficient (n,) float32. No target: sum 0 with zero gradients.
    """
    if len(target) == 0:
        # the head takes part with a gradient of 0 too: it may be all that trains
        return (hidden.sum() + head.weight[0, 0]) * 0.0, hidden.new_zeros(0, dtype=wide(hidden.dtype))
    num, (hidden, target, coefficient) = len(target), _evened(hidden, target, coefficient)
    total, logp = _WeightedNLL.apply(hidden, head.weight, head.bias, target, coefficient, head.softcap, head.scale)
    return total, logp[:num]


def logprobs(hidden: torch.Tensor, target: torch.Tensor, head: Head) -> torch.Tensor:
    """log p(target), (n,) float32; backward makes the logits a second time instead of keeping them."""
    if len(target) == 0:
        return hidden.sum(-1) + head.weight[0, 0] * 0.0
    num, (hidden, target) = len(target), _evened(hidden, target)
    return _LogProbs.apply(hidden, head.weight, head.bias, target, head.softcap, head.scale)[:num]


def _evened(hidden: torch.Tensor, *per_row: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Filled up with rows of 0 to a number that comes again (sizes.py); with a coefficient or gradient of 0 they add nothing."""
    fill = even(len(hidden), hidden) - len(hidden)
    if not fill:
        return (hidden, *per_row)
    return (F.pad(hidden, (0, 0, 0, fill)), *(F.pad(x, (0, fill)) for x in per_row))


def over_logits(
    hidden: torch.Tensor,
    to_logits: Callable[[torch.Tensor], torch.Tensor],
    fn: Callable[..., torch.Tensor],
    per_row: tuple[torch.Tensor, ...] = (),
    vocab: int = 32000,
) -> torch.Tensor:
    """Apply fn(logits chunk, *rows of per_row) -> (n, ...) chunk by chunk; logits are made again in backward."""
    from torch.utils.checkpoint import checkpoint

    def one(chunk: torch.Tensor, *rows: Any) -> torch.Tensor:
        return fn(to_logits(chunk), *rows)

    size = chunk_rows(vocab, max(1, len(hidden)))
    pieces = [
        checkpoint(one, hidden[s : s + size], *(t[s : s + size] for t in per_row), use_reentrant=False)
        for s in range(0, max(1, len(hidden)), size)
    ]
    return torch.cat(pieces)
