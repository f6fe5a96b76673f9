"""What an evaluation says beside its scores, in words: rows left out, thinking, answers drawn again, the base, a panel left out.

told({"too_long": {"policy": "trim_prompt", "trimmed": 2}, "n": 5}, korean=False)
-> ["2 of 5 prompts were too long: their beginnings were cut off (too_long: trim_prompt)."]
"""

from collections.abc import Mapping
from typing import Any


def told(fields: Mapping[str, Any], korean: bool) -> list[str]:
    """A sentence for each fact of an evaluation's summary that changes how its scores are read."""
    lines = [*_left_out(fields, korean), *_rated(fields, korean), *_drawn(fields, korean)]
    if base := fields.get("base"):
        lines += [f"{one['metric']}: {one['verdict']}" for one in base["comparisons"]]
    if kind := fields.get("panel_left_out"):
        lines.append(
            f"다른 과제 묶음은 글을 쓰는 모델에만 씁니다. {kind} 모델이라 뺐습니다."
            if korean
            else f"The panel of other tasks is for models that write; this one is of kind {kind}, so it was left out."
        )
    return lines


def _left_out(fields: Mapping[str, Any], korean: bool) -> list[str]:
    lines, n = [], fields["n"]
    if rated := fields.get("rated"):
        bad, good = rated["bad_left_out"], rated["good"]
        lines.append(
            f"좋다고 평가된 {good}개 행의 답만 기준으로 삼았습니다. 나쁘다고 평가된 {bad}개 행은 뺐습니다."
            if korean
            else f"Only answers rated good are compared with: {good} rows. {bad} rows rated bad were left out."
        )
    long = fields.get("too_long", {})
    if trimmed := long.get("trimmed"):
        lines.append(
            f"프롬프트 {n}개 중 {trimmed}개가 너무 길어 앞부분을 잘랐습니다 (too_long: trim_prompt)."
            if korean
            else f"{trimmed} of {n} prompts were too long: their beginnings were cut off (too_long: trim_prompt)."
        )
    if left := long.get("left_out"):
        lines.append(
            f"{left}개 행은 너무 길어 묻지 않았습니다 (too_long: drop)."
            if korean
            else f"{left} rows were too long and were not asked (too_long: drop); {n} were."
        )
    if thinking := fields.get("thinking"):
        answers, unfinished = thinking["answers"], thinking["unfinished"]
        lines.append(
            f"{answers}개 답은 생각 뒤에 나왔고 생각은 채점하지 않았습니다. {unfinished}개는 생각을 끝내지 못했습니다."
            if korean
            else f"{answers} answers came with thinking, which is not scored; {unfinished} never ended it (generate.max_tokens)."
        )
    return lines


def _rated(fields: Mapping[str, Any], korean: bool) -> list[str]:
    """What a reward model gives to answers that people rated."""
    extra = fields["metrics"].get("reward", {}).get("extra", {})
    if not {"good", "bad"} <= extra.keys():
        return []
    (good, of_good), (bad, of_bad) = ((extra[side]["mean"], extra[side]["n"]) for side in ("good", "bad"))
    return [
        f"좋다고 평가된 답의 평균 보상 {good:.3f} ({of_good}개), 나쁘다고 평가된 답 {bad:.3f} ({of_bad}개)"
        if korean
        else f"Rated good: mean reward {good:.3f} ({of_good}); rated bad: {bad:.3f} ({of_bad})."
    ]


def _drawn(fields: Mapping[str, Any], korean: bool) -> list[str]:
    """How much answers drawn again agree, and how far the scores of the draws lie apart."""
    from tunesmith.stats.summary import Summary
    from tunesmith.stats.words import score

    samples = fields.get("samples")
    if not samples:
        return []
    number, agreement = samples["n"], Summary.of_dict(samples["agreement"])
    same = score(agreement, percent=True, lang="ko" if korean else "en")
    lines = [
        f"{number}번 물었을 때 두 답이 같은 비율: {same}"
        if korean
        else f"Asked {number} times, two answers are the same: {same}"
    ]
    for name, found in samples["metrics"].items():
        figures = {key: f"{found[key]:.3f}" for key in ("mean", "deviation", "least", "most")}
        lines.append(
            "{name}: {number}번의 평균 {mean}, 표준 편차 {deviation} ({least}에서 {most})".format(
                name=name, number=number, **figures
            )
            if korean
            else "{name}: mean of {number} draws {mean}, standard deviation {deviation} ({least} to {most})".format(
                name=name, number=number, **figures
            )
        )
    return lines
