"""A teacher: a larger model whose answers, or whose distributions over the next token, a smaller one learns.

rows, dropped = taught(model, text, rows, n=1, temperature=0.7)    # its answers as rows for sft; any tokenizer
teacher = Teacher.of(model, student.tokenizer)                     # its distributions; the student's tokenizer only
hidden = teacher.predicting(batch)                                 # (targets, dim): small enough to keep
logits = teacher.logits(hidden[:64])                               # (64, vocab): made in pieces, never all at once
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.batch import Batch
from tunesmith.model.generate import generate
from tunesmith.model.virtual import without
from tunesmith.text.tokenizer import Tokenizer

# Texts on which two tokenizers of one vocabulary may still differ: spaces, digits, Hangul, emoji, code.
_PROBE = "Hello,  world! 토크나이저는 나눕니다. 12345 🙂 café\n\tdef f(x): return x[1:-1] # ok ㅋㅋ"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen model as the methods that distil see it. `vocab`: how many ids its tokenizer and the student's have."""

    policy: Any
    vocab: int
    name: str = ""

    @staticmethod
    def of(model: Any, tokenizer: Tokenizer) -> "Teacher":
        """Freeze `model` as the teacher of a student with `tokenizer`.

        Raises ModelError when the two read text differently: their distributions are then over different tokens.
        """
        if why := differs(model.tokenizer, tokenizer):
            raise ModelError(
                f"the teacher {model.name} and the student have different tokenizers: {why}",
                wanted="One tokenizer, so that both give probabilities to the same tokens at the same places.",
                fix="Let the student learn the teacher's answers instead, which any tokenizer can read: method=sft on its rows.",
            )
        vocab = tokenizer.vocab_size
        width = int(model.net.get_input_embeddings().weight.shape[0])
        if width < vocab:
            raise ModelError(f"the teacher {model.name} has {width} rows for the {vocab} tokens of its tokenizer")
        model.net.requires_grad_(False).eval()
        return Teacher(model.policy, vocab, model.name)

    @property
    def net(self) -> Any:
        """Its network."""
        return self.policy.net

    @torch.no_grad()
    def predicting(self, batch: Batch, front: Sequence[int] = ()) -> torch.Tensor:
        """Its hidden states that predict each trained-on token, (targets, dim), in the order of the batch.

        front  ids that the student's soft prompt put before every text: the teacher reads without them, and with its own
        """
        packed = batch.segments is not None
        if front or self.policy.front or packed != (self.policy.layout == "packed"):
            batch = self.policy.batch(without(batch.units, front))
        return self.policy.predicting(batch)

    @torch.no_grad()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, vocab) of hidden states (n, dim); rows of the head that belong to no token are cut off."""
        return self.policy.logits(hidden)[:, : self.vocab]

    @torch.no_grad()
    def top(self, batch: Batch, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The k likeliest tokens at each trained-on token and their log-probabilities, (targets, k) each."""
        if not 1 <= k <= self.vocab:
            raise SettingError(f"k is {k}.", wanted=f"Between 1 and the {self.vocab} tokens there are.")

        def best(logits: torch.Tensor) -> torch.Tensor:
            values, ids = torch.log_softmax(logits[:, : self.vocab], dim=-1).topk(k, dim=-1)
            return torch.stack([ids.to(values.dtype), values], dim=1)  # ids below 2**24 are exact in float32

        found = self.policy.over_logits(batch, best)
        return found[:, 0].long(), found[:, 1]


def differs(one: Tokenizer, other: Tokenizer) -> str:
    """How two tokenizers differ, in words; "" when ids mean the same in both."""
    ours, theirs = (tokenizer.backend.get_vocab(with_added_tokens=True) for tokenizer in (one, other))
    if len(ours) != len(theirs):
        return f"{len(ours):,} and {len(theirs):,} tokens"
    if ours != theirs:
        token = next(token for token in sorted(ours) if theirs.get(token) != ours[token])
        return f"{token!r} is {ours[token]} in one, {theirs.get(token, 'unknown')} in the other"
    if one.encode(_PROBE) != other.encode(_PROBE):
        return "the same tokens, but they cut text in different places"
    return ""


def taught(
    model: Any,
    text: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    n: int = 1,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch: int = 32,
    name: str = "",
    shown: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows, dropped): n answers of a teacher to every row, as chats that sft learns from.

    rows  prompts, or chats whose last answer is put aside. Each new row keeps the old one's origin and says under
          columns.teacher who answered and how: model, temperature, top_p, max_tokens, seed.
    name  what the teacher is called there (default: the model's name); shown(answered, all) is called as answers come
    An answer that was cut at max_tokens, is empty or was given before to the same prompt is dropped, with the reason.
    """
    if n < 1 or (n > 1 and temperature == 0):
        raise SettingError(
            f"n is {n}, temperature is {temperature}.",
            wanted="n 1 or more; several answers need a temperature above 0.",
        )
    asked = [_asked(row) for row in rows]
    prompts = [text.prompt(messages, row.get("tools")) for messages, row in zip(asked, rows)]
    seeds = [(seed * 1_000_003 + place) * n + i for place in range(len(rows)) for i in range(n)]
    done = 0

    def count(_: int, __: Any) -> None:
        nonlocal done
        done += 1
        if shown is not None:
            shown(done, len(seeds))

    answers = generate(
        model, [ids for ids in prompts for _ in range(n)], max_tokens=max_tokens, temperature=temperature, top_p=top_p,
        seeds=seeds, eos_ids=text.stops, batch=batch, on_answer=count,
    )  # fmt: skip
    settings = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        seen: set[str] = set()
        for answer in answers[place * n : (place + 1) * n]:
            said = answer.text.strip()
            reason = "cut at max_tokens" if answer.finish == "length" else "" if said else "empty"
            reason = reason or ("the same answer again" if said in seen else "")
            seen.add(said)
            origin = row.get("origin", "")
            if reason:
                dropped.append({"origin": origin, "reason": reason, "by": "teacher", "row": dict(row)})
                continue
            told = {"model": name or model.name, **settings}
            kept.append(
                {
                    **{key: value for key, value in row.items() if key not in ("messages", "answer", "columns", "id")},
                    "messages": [*asked[place], {"role": "assistant", "content": said}],
                    "columns": {**row.get("columns", {}), "teacher": told},
                }
            )
    return kept, dropped


def _asked(row: Mapping[str, Any]) -> list[Any]:
    """The messages up to the answer that is wanted."""
    messages = list(row["messages"])
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages
