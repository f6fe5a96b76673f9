"""One vector a text: the mean of its tokens' last hidden states.

    states = vectors(policy, batch)        # (examples, dim), differentiable, whatever the layout

Mean pooling (Reimers & Gurevych 2019, arXiv 1908.10084): padding does not count, a token of another text never does.
"""

from typing import Any

import numpy as np
import torch

from tunesmith.model.batch import Batch


def vectors(policy: Any, batch: Batch) -> torch.Tensor:
    """(examples, dim), in float32 or wider."""
    states = policy.hidden(batch)
    states = states if states.dtype == torch.float64 else states.float()
    if batch.mask is not None:
        rows, time = batch.mask.shape
        mask = batch.mask.to(states.dtype)[..., None]
        return (states.view(rows, time, -1) * mask).sum(1) / mask.sum(1)
    assert batch.segments is not None
    sizes = np.diff(np.array(batch.segments))  # plain numbers: the planner's tensors hold none
    owner = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(states.device)
    if batch.segments.place is not None:  # a shared beginning lies once and counts for each of its texts
        states = states.index_select(0, batch.segments.place)
    sums = states.new_zeros(len(sizes), states.shape[-1]).index_add(0, owner, states)
    return sums / torch.from_numpy(sizes).to(states)[:, None]
