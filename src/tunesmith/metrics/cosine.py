"""cosine: how near the answer's meaning is to the reference's, by the vectors of an embedding model.

Use it where many wordings are right: paraphrases, summaries, free answers.

Formula: mean of v(answer) . v(reference) / (|v(answer)| |v(reference)|), the nearest of several references; an empty answer has 0.

Source: Reimers and Gurevych 2019 (Sentence-BERT), arXiv 1908.10084, section 3.

    metrics: [{cosine: {model: runs/embed-1}}]          a run of method: embed, or any model folder or name

The figure depends on the model: compare runs by one model only, and look at what unrelated answers get, which is seldom 0. Nearness
of meaning is not truth: "in 1998" and "in 1989" are close.

코사인: 답과 기준 답의 뜻이 얼마나 가까운지 임베딩 모델의 벡터로 잽니다. 표현이 여러 가지일 수 있는 답에 씁니다. 값은 모델에 따라 다르므로
같은 모델로 잰 것끼리만 비교하고, 뜻이 가까운 것과 맞는 것은 다르다는 점에 주의하세요.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class Cosine:
    """Mean cosine of the answer's vector with that of the nearest reference, from -1 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("vectors",)

    model: str
    """The run or folder of the embedding model (method: embed), or a model's name.

    임베딩 모델의 실행 폴더(method: embed) 또는 모델 이름입니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """A row without a reference has nothing to be near to."""
        references(row)

    def score(
        self, prediction: str, row: Mapping[str, Any], vectors: Callable[[Sequence[str]], Any]
    ) -> dict[str, float | int]:
        """vectors  texts -> array (texts, dim), each of length 1, as evals/vectors.py gives them

        Score, and the place of the nearest reference.
        """
        if not prediction.strip():
            return {"score": 0.0, "nearest": 0}
        answer, *wanted = vectors([prediction, *references(row)])
        found = [float(answer @ one) for one in wanted]
        nearest = max(range(len(found)), key=found.__getitem__)
        return {"score": max(-1.0, min(1.0, found[nearest])), "nearest": nearest}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean with its interval."""
        return mean_summary(values, bounds=(-1.0, 1.0), extra={"unit": "cosine"})
