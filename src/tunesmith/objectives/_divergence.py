"""How far a student's distribution over the next token is from its teacher's: forward KL, reverse KL, Jensen-Shannon.

    divergence(student_logits, teacher_logits, kind="jsd", beta=0.5, temperature=2.0)    # (n, vocab) twice -> (n,)

Both are softened by the temperature and the result is multiplied by its square, so that gradients keep their size (Hinton et
al. 2015, arXiv 1503.02531, section 2). forward is KL(teacher || student) and covers all the teacher says, reverse is
KL(student || teacher) and keeps to what it says most; jsd lies between (Agarwal et al. 2024, arXiv 2306.13649, eq. 1: beta is the
teacher's share of the mixture).
"""

from typing import Literal

import torch
from torch.autograd.function import once_differentiable

Kind = Literal["forward", "reverse", "jsd"]


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, *, kind: Kind, beta: float = 0.5, temperature: float = 1.0
) -> torch.Tensor:
    """(n,) temperature squared x divergence of softmax(teacher / temperature) and softmax(student / temperature).

    Gradients flow to the student alone.
    """
    return _Divergence.apply(student, teacher, kind, beta, temperature) * temperature**2


class _Divergence(torch.autograd.Function):
    """The divergence with its gradient written down: as many passes over (n, vocab) as the formulas have, not one an operation.

    With p the student's probabilities and z its logits / temperature, dD/dz = p (h - sum p h), where h is log p - log q under
    reverse and (1 - beta) (log p - log of the mixture) under jsd; under forward it is p - q.
    """

    @staticmethod
    def forward(ctx, student, teacher, kind, beta, temperature):
        ours, theirs = (
            torch.log_softmax(z if temperature == 1 else z / temperature, dim=-1) for z in (student, teacher)
        )
        ctx.kind, ctx.temperature = kind, temperature
        if kind == "forward":
            q = theirs.exp()
            ctx.save_for_backward(ours, q)
            return theirs.sub_(ours).mul_(q).sum(-1)
        p = ours.exp()
        if kind == "reverse":
            h = ours - theirs
            ctx.save_for_backward(ours, h)
            return p.mul_(h).sum(-1)
        q = theirs.exp()
        mixed = torch.lerp(p, q, beta).clamp_min_(torch.finfo(p.dtype).tiny).log_()
        out = beta * theirs.sub_(mixed).mul_(q).sum(-1)
        h = torch.sub(ours, mixed, out=mixed).mul_(1 - beta)
        ctx.save_for_backward(ours, h)
        return out + p.mul_(h).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        ours, kept = ctx.saved_tensors
        p = ours.exp()
        scale = (grad / ctx.temperature)[:, None]
        if ctx.kind == "forward":
            out = p.sub_(kept).mul_(scale)
        else:
            mean = (p * kept).sum(-1, keepdim=True)
            out = p.mul_(kept - mean).mul_(scale)
        return out, None, None, None, None


def from_top(ids: torch.Tensor, logps: torch.Tensor, vocab: torch.Tensor | int, width: int) -> torch.Tensor:
    """Log-probabilities (n, width) of which the likeliest are known: (n, k) ids and log-probabilities.

    What mass they leave is spread evenly over the other tokens, so the result sums to 1 and any divergence, at any
    temperature, can be taken of it; with k = vocab it is exact.
    vocab  how many tokens there are, (n, 1) or one number; width may be more
    """
    others = torch.as_tensor(vocab, device=logps.device) - ids.shape[-1]
    left = (1.0 - logps.exp().sum(-1, keepdim=True)).clamp_min(1e-10)
    each = torch.log(left / others.clamp_min(1))
    return each.expand(-1, width).scatter(-1, ids, logps)
