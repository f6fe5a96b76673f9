"""The door to an encoder (BERT, RoBERTa, ModernBERT): it reads each text whole, in both directions, in a row of its own.

    policy = Encoder(net, pad_id=0)
    policy.scores(batch)      # classify: (examples, labels), the network's own head
    policy.nll(batch)         # masked: sum of weight * -log p of the hidden tokens
    policy.hidden(batch)      # embed: the states of every token

Two columns of an Example are known here: `types`, 0 for the first text of a pair and 1 for the second; and `shown`, the
ids the network is shown where they are not those it shall predict (hidden tokens).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tunesmith.model.batch import Batch, pad
from tunesmith.model.loss import over_logits, wide
from tunesmith.text.example import Unit

_OWN = ("shown", "types")


class Encoder:
    """An encoder as objectives see it; the same names as model/policy.py.

    exact_head  True when the one module beside the body, given states, returns the network's logits
    """

    layout = "padded"
    lean = None

    def __init__(self, net: nn.Module, *, pad_id: int = 0, exact_head: bool = True) -> None:
        self.net = net
        self.pad_id = pad_id
        self.exact_head = exact_head
        self.body = net.base_model
        self.config = net.config

    def of(self, net: nn.Module) -> "Encoder":
        """The same door to another network of this architecture."""
        return Encoder(net, pad_id=self.pad_id, exact_head=self.exact_head)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def batch(self, units: Sequence[Unit]) -> Batch:
        """Each Example in a row, padded on the right, on the network's device. A hidden token is predicted where it stands."""
        made = pad([_without_own(unit) for unit in units], self.pad_id)
        ids, types = made.ids, torch.zeros_like(made.ids)
        for row, example in enumerate(example for unit in units for example in unit.examples):
            for name, rows in (("shown", ids), ("types", types)):
                if name in example.columns:
                    values = np.asarray(example.columns[name], dtype=np.int64)
                    rows[row, : len(example)] = torch.from_numpy(values)
        return replace(made, predictor=made.predictor + 1, columns={**made.columns, "types": types}).to(self.device)

    def inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the network is called with. Token types only where it tells two apart."""
        assert batch.mask is not None
        given = {"input_ids": batch.ids, "attention_mask": batch.mask.long()}
        if (getattr(self.config, "type_vocab_size", None) or 0) > 1 and "types" in batch.columns:
            given["token_type_ids"] = batch.columns["types"]
        return given

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The last hidden state of every token, (rows * time, dim)."""
        states = self.body(**self.inputs(batch)).last_hidden_state
        return states.reshape(-1, states.shape[-1])

    def predicting(self, batch: Batch) -> torch.Tensor:
        """Hidden states at the tokens that are to be predicted, (targets, dim)."""
        return self.hidden(batch).index_select(0, batch.predictor)

    def scores(self, batch: Batch) -> torch.Tensor:
        """(examples, labels) float32 of a `classify` network, differentiable."""
        return _wide(self.net(**self.inputs(batch)).logits)

    def nll(self, batch: Batch, coefficient: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of coefficient * -log p(hidden token), detached log p per target). The coefficient is the weight unless given."""
        logp = self.logprobs(batch)
        return -(logp * (batch.weight if coefficient is None else coefficient)).sum(), logp.detach()

    def logprobs(self, batch: Batch, temperature: float = 1.0) -> torch.Tensor:
        """log p of each hidden token, (targets,) float32, differentiable."""

        def pick(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(logits / temperature, dim=-1).gather(1, chosen[:, None])[:, 0]

        return self.over_logits(batch, pick, batch.target)

    def over_logits(self, batch: Batch, fn: Callable[..., torch.Tensor], *per_target: torch.Tensor) -> torch.Tensor:
        """fn(logits (n, vocab) float32, *the same n of each per_target) -> (n, ...), in chunks recomputed in backward."""
        if self.exact_head:
            return over_logits(self.predicting(batch), self.logits, fn, per_target, self.config.vocab_size)
        logits = self.net(**self.inputs(batch)).logits
        return fn(_wide(logits.reshape(-1, logits.shape[-1]).index_select(0, batch.predictor)), *per_target)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, vocab) float32 of hidden states (n, dim)."""
        found = self.head_logits(hidden)
        assert found is not None, "asked for only where model/prove.py found it exact"
        return found

    def head_logits(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """What the one module beside the body makes of states; None where there is no such module."""
        others = [module for module in self.net.children() if module is not self.body]
        out = others[0](hidden) if len(others) == 1 else None
        return _wide(out) if torch.is_tensor(out) else None


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In the precision that losses are computed in: float32, of fp64 networks float64."""
    return x.to(wide(x.dtype))


def _without_own(unit: Unit) -> Unit:
    """The Unit without the columns that are read here: Examples of a batch need not all have them."""
    if not any(name in example.columns for example in unit.examples for name in _OWN):
        return unit
    kept = [{k: v for k, v in example.columns.items() if k not in _OWN} for example in unit.examples]
    return replace(unit, examples=tuple(replace(e, columns=c) for e, c in zip(unit.examples, kept)))
