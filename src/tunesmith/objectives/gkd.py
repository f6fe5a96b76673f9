"""On-policy distillation: the student answers, the teacher shows at every token what it would have said (GKD).

Rows are prompts; chats also bring an answer to learn where the student does not sample. A student that only reads the teacher's
texts is lost after its own first mistake; here it learns from where it really goes (Agarwal et al. 2024, arXiv 2306.13649). The
teacher runs beside the student and has its tokenizer. Use it after distill or sft, when the student already answers.

Formula: loss = T^2 D(softmax(teacher / T), softmax(student / T)) at the tokens of the student's own answers, divided by
their weight; D as in distill.

온라인 증류(GKD): 학생이 스스로 답하고, 교사는 토큰마다 자기라면 무엇을 말했을지 보여 줍니다. 학생이 실제로 가는 길에서 배우므로 자기 실수
뒤에도 길을 잃지 않습니다. 교사와 토크나이저가 같아야 합니다. distill이나 sft 다음에 씁니다.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tunesmith.core.errors import DataError, SettingError
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives._contract import Loss
from tunesmith.objectives._divergence import Kind
from tunesmith.objectives.distill import Distill, against, check_soft, soft_stats
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Example, Unit, together


@dataclass(frozen=True)
class Gkd:
    """Divergence from the teacher at the tokens of the student's own answers."""

    teacher: str
    """The teacher: a model or a run with the student's tokenizer.

    교사 모델이나 실행. 학생과 토크나이저가 같아야 합니다."""

    student_share: float = 1.0
    """Share of rows that the student answers itself (the paper's lambda); at the others it reads the row's answer.

    학생이 직접 답하는 행의 비율(논문의 lambda). 나머지는 행의 답을 읽습니다."""

    divergence: Kind = "jsd"
    """forward: cover all the teacher says; reverse: keep to what it says most; jsd: between the two.

    forward는 교사가 말할 만한 것을 모두 덮고, reverse는 가장 그럴듯한 것에 집중하며, jsd는 그 사이입니다."""

    beta: float = 0.5
    """The teacher's share of the mixture that jsd measures from.

    jsd의 혼합 분포에서 교사의 몫."""

    soften: float = 1.0
    """Both distributions are softened by this temperature; the loss is multiplied by its square.

    두 분포를 부드럽게 하는 온도. 손실에는 그 제곱을 곱합니다."""

    n: int = 1
    """Answers of the student to each prompt.

    학생이 질문마다 내는 답의 수."""

    temperature: float = 1.0
    """The student's answers are drawn at it.

    학생의 답을 뽑는 온도."""

    max_tokens: int = 128
    """Most tokens of an answer.

    답의 최대 토큰 수."""

    reuse: int = 1
    """Passes over the collected answers before new ones are drawn.

    모은 답을 몇 번 학습한 뒤 새로 뽑을지."""

    collect_size: int | None = None
    """Prompts answered in a round. Null = the batch size.

    한 번에 답을 뽑을 질문 수. null이면 배치 크기."""

    shape: ClassVar[tuple[str, ...]] = ("prompt", "chat")
    per: ClassVar[Mapping[str, str]] = {"soft": "tokens"}
    helpers: ClassVar[tuple[str, ...]] = ("teacher", "sampler")
    figures: ClassVar[Mapping[str, str]] = {
        **Distill.figures,
        "own": "share of answers that the student gave itself\n\n학생이 직접 한 답의 비율",
        "length": "mean tokens of an answer, its end included\n\n답의 평균 토큰 수(끝 토큰 포함)",
        "truncated": "share of answers that were cut at max_tokens before they ended\n\n"
        "끝나기 전에 max_tokens에서 잘린 답의 비율",
        "repetition": rollouts.FIGURES["repetition"],
    }

    def __post_init__(self) -> None:
        check_soft(self.soften, self.beta)
        rollouts.check_sampling(self.n, 1, self.temperature, 1.0, self.max_tokens, self.reuse)
        if not 0 < self.student_share <= 1:
            raise SettingError(
                f"student_share is {self.student_share}.",
                wanted="More than 0, at most 1.",
                fix="Without any: method=distill",
            )

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """The row's prompt; with its answer's tokens where the draw says that it is read."""
        units = rollouts.prompts(row, text, self.max_tokens)
        if not units or draw.random() < self.student_share:
            return units
        examples = [e for unit in Sft().units(_answered(row), text, draw) for e in unit.examples]
        if not examples:
            return []
        written = {"ids": examples[-1].ids.tolist(), "weights": examples[-1].weights.tolist()}
        return [replace(units[0], columns={**units[0].columns, "written": written})]

    def collect(self, policy: Any, prompts: Sequence[Unit], sampler: Any, reward: Any, helpers: Any) -> list[Unit]:
        """One Unit for each prompt: the student's answers, or the row's where `units` put them."""
        asked = [unit.examples[0].ids.tolist() for unit in prompts if "written" not in unit.columns]
        groups = iter(sampler(asked, self.n) if asked else ())
        units = []
        for unit in prompts:
            if "written" in unit.columns:
                examples = [_read(unit.columns["written"])]
            else:
                ids = unit.examples[0].ids.tolist()
                examples = [rollouts.example(ids, answer, {}, {"own": 1.0}) for answer in next(groups)]
                examples = [_known(example, helpers.teacher) for example in examples]
            units.append(together(examples, unit.origin))
        return units

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Divergence from the teacher, summed over the trained-on tokens of `batch`."""
        settings: dict[str, Any] = {"kind": self.divergence, "beta": self.beta, "temperature": self.soften}
        soft, logp, same = against(policy, batch, helpers.teacher, **settings)
        columns = batch.columns
        answers = (columns["own"] * 0 + 1).sum()
        told = {name: (columns[name].sum(), answers) for name in ("own", "length", "truncated", "repetition")}
        return Loss(
            {"soft": (soft * batch.weight).sum()}, {**soft_stats(soft, logp, same, batch.weight), **told}, logp.detach()
        )


def _answered(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as a chat that ends with its answer."""
    messages = list(row["messages"])
    if messages[-1]["role"] == "assistant":
        return dict(row)
    if row.get("answer") is None:
        raise DataError(
            "The row has no answer, and student_share below 1 reads answers.", fix="Give answers, or student_share=1."
        )
    return {**row, "messages": [*messages, {"role": "assistant", "content": row["answer"]}]}


def _known(example: Example, teacher: Any) -> Example:
    """Up to where a padded head said what no tokenizer has, and the teacher may not be able to read."""
    if teacher is None or (example.ids < teacher.vocab).all():
        return example
    end = int(np.argmax(example.ids >= teacher.vocab))
    columns = {name: v[:end] if isinstance(v, np.ndarray) else v for name, v in example.columns.items()}
    return Example(example.ids[:end], example.weights[:end], columns)


def _read(written: Mapping[str, Any]) -> Example:
    ids, weights = written["ids"], written["weights"]
    answer = [token for token, weight in zip(ids, weights) if weight]
    return Example.of(
        ids, weights, own=0.0, length=float(len(answer)), truncated=0.0, repetition=rollouts.repetition(answer)
    )
