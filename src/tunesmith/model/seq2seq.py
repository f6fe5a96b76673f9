"""The door to an encoder-decoder (T5, BART): one text is read whole, the other predicted token by token.

    policy = Seq2Seq(net, pad_id=0)
    total, logp = policy.nll(batch)                    # sum of weight * -log p of the answer's tokens
    texts = answers(model, ["translate: hello"])       # greedy, with transformers' own cache

An Example is the source's ids and then the target's; its column `source` says how many belong to the source.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.model.batch import Batch, pad
from tunesmith.model.loss import over_logits, wide
from tunesmith.text.example import Example, Unit


class Seq2Seq:
    """An encoder-decoder as objectives see it; the same names as model/policy.py."""

    layout = "padded"
    lean = None
    exact_head = False

    def __init__(self, net: nn.Module, *, pad_id: int = 0) -> None:
        self.net = net
        self.pad_id = pad_id
        self.body = net.base_model
        self.config = net.config
        start = getattr(net.config, "decoder_start_token_id", None)
        if start is None:
            raise ModelError(
                f"{type(net).__name__} does not say which token its decoder starts with",
                fix="Set decoder_start_token_id in config.json.",
            )
        self.start = int(start)

    def of(self, net: nn.Module) -> "Seq2Seq":
        """The same door to another network of this architecture."""
        return Seq2Seq(net, pad_id=self.pad_id)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def batch(self, units: Sequence[Unit]) -> Batch:
        """Sources padded on the right, targets shifted by one behind the start token (column decoder_ids)."""
        examples = [example for unit in units for example in unit.examples]
        cuts = [int(example.columns["source"]) for example in examples]
        made = pad(_units([example.ids[:cut] for example, cut in zip(examples, cuts)]), self.pad_id)
        longest = max(len(example) - cut for example, cut in zip(examples, cuts))
        inputs = np.full((len(examples), longest), self.pad_id, dtype=np.int64)
        predictor, target, weight, owner = [], [], [], []
        for row, (example, cut) in enumerate(zip(examples, cuts)):
            answer, weights = example.ids[cut:], example.weights[cut:]
            inputs[row, : len(answer)] = [self.start, *answer[:-1]]
            trained = np.flatnonzero(weights)
            predictor.append(row * longest + trained)
            target.append(answer[trained])
            weight.append(weights[trained])
            owner.append(np.full(len(trained), row))

        def joined(parts: list[np.ndarray], dtype: Any) -> torch.Tensor:
            return torch.from_numpy(np.concatenate(parts).astype(dtype))

        return Batch(
            ids=made.ids,
            positions=made.positions,
            segments=None,
            mask=made.mask,
            predictor=joined(predictor, np.int64),
            target=joined(target, np.int64),
            weight=joined(weight, np.float32),
            example=joined(owner, np.int64),
            last=made.last,
            unit=torch.tensor([number for number, unit in enumerate(units) for _ in unit.examples], dtype=torch.int64),
            num_units=len(units),
            num_tokens=sum(len(example) for example in examples),
            columns={"decoder_ids": torch.from_numpy(inputs)},
        ).to(self.device)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The decoder's last hidden states, (rows * target time, dim)."""
        states = self.body(**self._inputs(batch)).last_hidden_state
        return states.reshape(-1, states.shape[-1])

    def nll(self, batch: Batch, coefficient: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of coefficient * -log p(target), detached log p per target). The coefficient is the weight unless given."""
        logp = self.logprobs(batch)
        return -(logp * (batch.weight if coefficient is None else coefficient)).sum(), logp.detach()

    def logprobs(self, batch: Batch, temperature: float = 1.0) -> torch.Tensor:
        """log p of each target token, (targets,) float32, differentiable."""

        def pick(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(logits / temperature, dim=-1).gather(1, chosen[:, None])[:, 0]

        return self.over_logits(batch, pick, batch.target)

    def over_logits(self, batch: Batch, fn: Callable[..., torch.Tensor], *per_target: torch.Tensor) -> torch.Tensor:
        """fn(logits (n, vocab) float32, *the same n of each per_target) -> (n, ...).

        Logits are the network's own (T5 scales its states, BART adds a bias), gathered at the targets.
        """
        logits = self.net(**self._inputs(batch)).logits
        chosen = logits.reshape(-1, logits.shape[-1]).index_select(0, batch.predictor)
        return over_logits(chosen, lambda x: x.to(wide(x.dtype)), fn, per_target, self.config.vocab_size)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        assert batch.mask is not None
        return {
            "input_ids": batch.ids, "attention_mask": batch.mask.long(), "decoder_input_ids": batch.columns["decoder_ids"],
            "use_cache": False,
        }  # fmt: skip


def _units(rows: Sequence[np.ndarray]) -> list[Unit]:
    return [Unit((Example(ids, np.zeros(len(ids), dtype=np.float32)),)) for ids in rows]


@torch.no_grad()
def answers(model: Any, texts: Sequence[str], *, max_tokens: int = 64, batch: int = 16) -> list[str]:
    """The likeliest next token again and again (greedy), until the end token or max_tokens; one answer a text."""
    if model.kind != "seq2seq":
        raise ModelError(f"{model.name} is loaded as {model.kind}", fix="load(name, kind='seq2seq')")
    policy, tokenizer, out = model.policy, model.tokenizer, []
    training = model.net.training
    model.net.eval()
    try:
        for start in range(0, len(texts), batch):
            given = tokenizer.batch(list(texts[start : start + batch]))
            made = model.net.generate(
                input_ids=torch.from_numpy(given.ids).to(policy.device),
                attention_mask=torch.from_numpy(given.attention_mask).to(policy.device),
                max_new_tokens=max_tokens, do_sample=False, num_beams=1, pad_token_id=policy.pad_id,
            )  # fmt: skip
            out += [tokenizer.decode(ids) for ids in made.tolist()]
    finally:
        model.net.train(training)
    return out
