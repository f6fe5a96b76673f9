"""How far a student's distribution over the next token is from its teacher's: forward KL, reverse KL, Jensen-Shannon.

    divergence(student_logits, teacher_logits, kind="jsd", beta=0.5, temperature=2.0)    # (n, vocab) twice -> (n,)

Both are softened by the temperature and the result is multiplied by its square, so that gradients keep their size (Hinton et
al. 2015, arXiv 1503.02531, section 2). forward is KL(teacher || student) and covers all the teacher says, reverse is
KL(student || teacher) and keeps to what it says most; jsd lies between (Agarwal et al. 2024, arXiv 2306.13649, eq. 1: beta is the
teacher's share of the mixture).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F

Kind = Literal["forward", "reverse", "jsd"]


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, *, kind: Kind, beta: float = 0.5, temperature: float = 1.0
) -> torch.Tensor:
    """(n,) temperature squared x divergence of softmax(teacher / temperature) and softmax(student / temperature)."""
    ours, theirs = (torch.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    if kind == "forward":
        out = _kl(theirs, ours)
    elif kind == "reverse":
        out = _kl(ours, theirs)
    else:
        mixed = torch.logaddexp(ours + math.log(1 - beta), theirs + math.log(beta))
        out = beta * _kl(theirs, mixed) + (1 - beta) * _kl(ours, mixed)
    return out * temperature**2


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of two tensors of log-probabilities, over the last dimension."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)


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
