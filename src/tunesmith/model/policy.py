"""The only door to the weights: objectives ask a Policy for log-probabilities, never the network itself.

    policy = Policy(net)
    total, logp = policy.nll(batch)      # sum of weight * -log p, gradient made in the forward pass (SFT, pre-training)
    logp = policy.logprobs(batch)        # one per trained-on token, differentiable (preference methods, RL)

Hidden states are gathered at the tokens that predict something before the head sees them, so no logits are computed
elsewhere. Nothing here reads a value out of a tensor: the planner runs it on fake tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from tunesmith.model import attention
from tunesmith.model.batch import Batch, pack, pad
from tunesmith.model.lean import Lean
from tunesmith.model.loss import Head, logprobs, over_logits, weighted_nll, wide
from tunesmith.model.virtual import before, virtual_ids
from tunesmith.text.example import Unit


class Policy:
    """A causal language model as objectives see it.

    layout  "packed" when the model was proved to keep documents apart, else "padded" (see model/prove.py)
    lean  True when our own forward was proved to give the module's states (see model/lean.py); it computes on the CPU, elsewhere the module does
    exact_head  False when the model's logits are not its head's: then the head module itself is called, chunk by chunk
    """

    def __init__(
        self, net: nn.Module, *, layout: str = "packed", pad_id: int = 0, exact_head: bool = True, lean: bool = False
    ) -> None:
        self.net = net
        self.lean = Lean.of(net) if lean else None
        self.layout = layout
        self.pad_id = pad_id
        self.exact_head = exact_head
        self.body = net.base_model
        self.config = net.config

    def of(self, net: nn.Module) -> "Policy":
        """The same door to another network of this architecture."""
        return Policy(
            net, layout=self.layout, pad_id=self.pad_id, exact_head=self.exact_head, lean=self.lean is not None
        )

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def front(self) -> tuple[int, ...]:
        """Ids that `batch` puts before every text: the places of a soft prompt."""
        return virtual_ids(self.net)

    def batch(self, units: Sequence[Unit]) -> Batch:
        """Lay Units out the way this model wants them, on its device."""
        units = before(units, self.front)
        made = pack(units) if self.layout == "packed" else pad(units, self.pad_id)
        return made.to(self.device)

    def head(self) -> Head | None:
        """Weight, bias, softcap and scale of the head; None when only the head module itself knows."""
        module = self.net.get_output_embeddings()
        weight = module.effective_weight() if hasattr(module, "effective_weight") else getattr(module, "weight", None)
        if weight is None or not self.exact_head:
            return None
        return Head(weight, getattr(module, "bias", None), softcap(self.config), scale(self.config))

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The last hidden state of every token, (rows * time, dim)."""
        if batch.segments is not None:
            out = self.body(
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=attention.NO_MASK.to(batch.ids.device),
                use_cache=False,
                segments=batch.segments,
            )
        else:
            out = self.body(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
        states = out.last_hidden_state
        return states.reshape(-1, states.shape[-1])

    def predicting(self, batch: Batch) -> torch.Tensor:
        """Hidden states that predict a trained-on token, (targets, dim)."""
        if self.lean is not None and batch.segments is not None and batch.ids.device.type == "cpu":
            return self.lean.predicting(batch)
        return self.hidden(batch).index_select(0, batch.predictor)

    def nll(self, batch: Batch, coefficient: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of coefficient * -log p(target), detached log p per target). The coefficient is the weight unless given."""
        coefficient = batch.weight if coefficient is None else coefficient
        hidden, head = self.predicting(batch), self.head()
        if head is None:
            logp = self._by_module(hidden, batch.target)
            return -(logp * coefficient).sum(), logp.detach()
        return weighted_nll(hidden, batch.target, coefficient, head)

    def logprobs(self, batch: Batch, temperature: float = 1.0, *, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """log p of each trained-on token, (targets,) float32, differentiable.

        temperature  what logits are divided by: 1 is the model's own distribution, others those of answers drawn so
        hidden       the predicting states, where they were asked for already
        """
        hidden, head = self.predicting(batch) if hidden is None else hidden, self.head()
        if head is None:
            return self._by_module(hidden, batch.target, temperature)
        return logprobs(hidden, batch.target, head if temperature == 1.0 else head.at(temperature))

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the value head expects from predicting states (n, dim) on, (n,) float32. Methods ask for it by `heads`."""
        return self.net.value_head(hidden.to(self.net.value_head.weight.dtype))[:, 0]

    def scores(self, batch: Batch) -> torch.Tensor:
        """(examples, labels) float32 of a `classify` network: its head at each Example's last token, differentiable."""
        scores = self.net.score(self.predicting(replace(batch, predictor=batch.last)))
        return scores.to(wide(scores.dtype))

    def over_logits(self, batch: Batch, fn: Callable[..., torch.Tensor], *per_target: torch.Tensor) -> torch.Tensor:
        """fn(logits (n, vocab) float32, *the same n of each per_target) -> (n, ...), in chunks recomputed in backward."""
        return over_logits(self.predicting(batch), self.logits, fn, per_target, self.config.vocab_size)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, vocab) float32 of hidden states (n, dim)."""
        head = self.head()
        if head is not None:
            return head.logits(hidden)
        logits = self.net.get_output_embeddings()(hidden).float() * scale(self.config)
        cap = softcap(self.config)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _by_module(self, hidden: torch.Tensor, target: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
        def pick(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(logits / temperature, dim=-1).gather(1, chosen[:, None])[:, 0]

        return over_logits(hidden, self.logits, pick, (target,), self.config.vocab_size)


def softcap(config: object) -> float | None:
    """Gemma-2's cap on the final logits."""
    return getattr(config, "final_logit_softcapping", None)


def scale(config: object) -> float:
    """What the model multiplies its logits by: Cohere's logit_scale, one over Granite's logits_scaling."""
    if getattr(config, "logit_scale", None):
        return float(config.logit_scale)  # type: ignore[attr-defined]
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)  # type: ignore[attr-defined]
    return 1.0
