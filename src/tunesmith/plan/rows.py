"""Units of given lengths for any method: made by the method itself, from a row of the kind it reads.

    units = sample_units(Sft(), length=2048, number=4)       # 4 Units of one Example with 2,048 tokens each

The row's texts are filled until the method's own `units` gives the length asked for. Methods that sample get answers of
max_tokens from a stand-in, and references come from `pico`: what is in the Units' columns has no bearing on memory, that the
columns are there has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.core.errors import SettingError
from tunesmith.text.example import Unit

ANSWER = 0.5  # the share of a row that is answer, where nobody says
_SPEAKS = {"masked": "pico-encoder", "seq2seq": "pico-t5"}  # whose tokenizer has what a kind of network asks of it


def sample_units(objective: Any, *, length: int, number: int = 1, answer: float = ANSWER) -> list[Unit]:
    """`number` equal Units whose longest Example has `length` tokens.

    answer  share of the tokens that is answer, for rows that have a prompt
    """
    from tunesmith.model.load import load
    from tunesmith.model.value_head import add_value_head
    from tunesmith.step.helpers import Helpers, frozen, with_reference

    if hasattr(objective, "fit"):
        raise SettingError(
            "this method has no training steps to plan: every row is read once, without gradients.",
            fix="Run it: it needs about the memory that `tunesmith eval` needs.",
        )
    if hasattr(objective, "learn_labels"):
        objective = objective.learn_labels([{"label": "a"}, {"label": "b"}])
    wants = getattr(objective, "helpers", ())
    samples = hasattr(objective, "collect")
    kind = getattr(objective, "kind", "causal")
    model = load(_SPEAKS.get(kind, "pico"), kind=kind if kind in _SPEAKS else "causal")
    made = _of_length(objective, model, length, answer)
    if samples:
        if "value" in getattr(objective, "heads", ()):
            add_value_head(model)
        helpers = Helpers(live=frozen(model.policy), state=objective.start() if hasattr(objective, "start") else {})
        made = objective.collect(model.policy, [made], _sampler(objective.max_tokens), _reward, helpers)[0]
    elif "reference" in wants:
        made = next(iter(with_reference(model.policy, [made])))
    return [made] * number


def _of_length(objective: Any, model: Any, length: int, answer: float) -> Unit:
    """One Unit whose longest Example has `length` tokens: a prompt without its answer for methods that sample."""
    from tunesmith.text.draw import Draw
    from tunesmith.text.encode import Text

    text = Text(model.tokenizer, length=2 * length + 64, too_long="drop")
    sampled = getattr(objective, "max_tokens", 0) if hasattr(objective, "collect") else 0
    wanted = length - sampled
    if wanted < 8:
        raise SettingError(
            f"length is {length}, and {sampled} of them are kept for answers.", wanted="8 more at least."
        )
    filled = wanted
    for _ in range(6):
        asked = max(1, round(filled * (1 - answer)))
        row = _row(objective, asked, max(1, filled - asked))
        units = objective.units(row, text, Draw([0, 0, 0], [row, row]))
        if not units:
            filled //= 2
            continue
        found = max(len(example) for example in units[0].examples)
        if found == wanted:
            return units[0]
        filled = max(2, round(filled * wanted / found))  # by a share: an Example may hold two texts of a row
    return units[0]


def _row(objective: Any, asked: int, answered: int) -> dict[str, Any]:
    """A canonical row of the first kind the method reads, its texts as long as asked for, in bytes."""
    shape = getattr(objective, "shape", "chat")
    kinds = (shape,) if isinstance(shape, str) else tuple(shape)
    question = [{"role": "user", "content": "a" * asked}]
    good, bad = ({"role": "assistant", "content": letter * answered} for letter in "bc")
    rows: Mapping[str, dict[str, Any]] = {
        "chat": {"messages": [*question, good]},
        "text": {"text": "a" * (asked + answered)},
        "text+label": {"text": "a" * (asked + answered), "label": _label(objective)},
        "preference": {"messages": question, "chosen": [good], "rejected": [bad]},
        "rated": {"messages": [*question, good], "label": True},
        "scored": {
            "messages": question,
            "answers": [{"content": c * answered, "score": s} for c, s in (("b", 1.0), ("c", 0.0))],
        },
        "prompt": {"messages": question, "answer": "b"},
        "infill": {"prefix": "a" * asked, "middle": "b" * (answered // 2 + 1), "suffix": "c" * (answered // 2)},
        "pair": {"text": "a" * (asked + answered), "text2": "b" * (asked + answered), "score": 1.0},
        "group": {"texts": ["a" * (asked + answered), "b" * (asked + answered)]},
    }
    kind = next((kind for kind in kinds if kind in rows), None)
    if kind is None:
        raise SettingError(
            f"the planner knows no row of the kind {', '.join(kinds)}.", wanted=f"One of {', '.join(rows)}."
        )
    return {"origin": "plan", "id": "plan", **rows[kind]}


def _label(objective: Any) -> Any:
    """A label that the method takes."""
    if getattr(objective, "problem", "single") == "regression":
        return 0.0
    return next(iter(getattr(objective, "labels", ())), "a")


def _sampler(max_tokens: int) -> Any:
    from tunesmith.model.generate import Answer

    def sample(prompts: Sequence[Sequence[int]], n: int) -> list[list[Any]]:
        zeros = [0.0] * max_tokens
        made = Answer([5] * max_tokens, "", "stop", zeros, zeros, 0, 0.0)
        return [[replace(made, num_prompt=len(prompt))] * n for prompt in prompts]

    return sample


def _reward(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
    return [float(number % 2) for number in range(len(texts))]
