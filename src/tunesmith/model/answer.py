"""One answer to a conversation: what `tunesmith chat` and `Model.answer` ask of a model.

reply(model, Text(model.tokenizer), [{"role": "user", "content": "1+1?"}], max_tokens=64).text     # "2"
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.core.errors import ModelError
from tunesmith.model.generate import Answer, generate
from tunesmith.text.encode import Text

INSTEAD = {
    "classify": "For labels: tunesmith.evals.labels.predict(model, rows)",
    "embed": "For vectors: tunesmith.evals.vectors.embed(model, texts)",
    "seq2seq": "For texts: tunesmith.model.seq2seq.answers(model, texts)",
}


def reply(
    model: Any,
    text: Text,
    messages: Sequence[Mapping[str, Any]],
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: str | Sequence[str] = (),
    seed: int = 0,
    fix: str = "Write a shorter message.",
) -> Answer:
    """The Answer of a causal model to {"role", "content"} messages; sampling as in `generate`.

    max_tokens  longest answer; less where the context ends
    fix         what to do about a conversation that fills the context, which is a ModelError
    """
    if model.kind != "causal":
        raise ModelError(
            f"{model.name} is a network of kind {model.kind}: it does not answer messages.",
            wanted="A causal language model.",
            fix=INSTEAD.get(model.kind, ""),
        )
    prompt = text.prompt(messages)
    room = model.context - len(prompt)
    if room < 1:
        raise ModelError(
            f"the conversation has {len(prompt):,} tokens; the model's context is {model.context:,}, with the answer",
            fix=fix,
        )
    return generate(
        model, [prompt], max_tokens=min(max_tokens, room), temperature=temperature, top_p=top_p, stop=stop, seeds=[seed],
        eos_ids=text.stops,
    )[0]  # fmt: skip
