"""code: the Python an answer holds passes its tests, run in a sandbox (functional correctness; pass@1).

Use it for written programs, which can be right in many wordings; as a reward (`reward: code`) a model learns from its tests.

Formula: answers that pass all tests / answers.

Source: Chen et al. 2021 (HumanEval), arXiv 2107.03374, section 2; programs with input and output: Hendrycks et al. 2021 (APPS), arXiv 2105.09938.

    metrics: [code]                                                            the row's column tests: assertions
    metrics: [{code: {tests: test, entry: entry_point, before: prompt}}]       HumanEval as it is published
    metrics: [{code: {cases: input_output}}]                                   [{"input": "4", "output": "5"}] in a column

코드: 답에 든 파이썬을 격리된 곳에서 돌려 시험을 통과하는 비율입니다. 파일, 네트워크, 프로세스는 막혀 있고 시간과 메모리도 제한됩니다. 시험은 같은
프로세스에서 돌므로 속이려고 쓴 프로그램은 속일 수 있습니다. 입력과 출력으로 보는 `cases`는 밖에서 비교하므로 그럴 수 없습니다.

>>> row = {"columns": {"tests": "assert add(1, 2) == 3"}}
>>> Code().score("```python\\ndef add(a, b):\\n    return a + b\\n```", row)["score"]
1.0

A program can use the standard library and nothing else; what it may not do is in core/sandbox.py. Assertions run in the program's
own process, so a model that is paid by them can learn to deceive them; `cases` are compared outside.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.sandbox import run_python
from tunesmith.metrics._text import out_of_fence
from tunesmith.metrics._values import Summary, mean_summary, origin_of


@dataclass(frozen=True)
class Code:
    """Share of answers whose program passes every test; `extra`: the mean share of tests passed, and why the others failed."""

    tests: str = "tests"
    """Column with the tests: assertions as one text, or a list of them.

    시험이 든 열: assert 문을 한 글로, 또는 목록으로."""
    entry: str = ""
    """Column with the name of the function that a `check(candidate)` of the tests is called with, as HumanEval has it.

    시험의 `check(candidate)`에 넘길 함수 이름이 든 열(HumanEval 방식)."""
    before: str = ""
    """Column with code that the answer goes on from. An answer that defines the function itself stands alone.

    답이 이어 쓰는 앞부분 코드가 든 열. 답이 그 함수를 스스로 정의하면 쓰지 않습니다."""
    cases: str = ""
    """Column with pairs of input and output instead of tests; white space at line ends and at the end does not count.

    시험 대신 입력과 출력의 짝이 든 열. 줄 끝과 글 끝의 공백은 보지 않습니다."""
    seconds: float = 5.0
    """Time limit of one program, or of one case.

    프로그램 하나 또는 입력 하나의 시간 제한(초)."""
    memory: int = 512
    """Limit of its memory in MiB.

    메모리 제한(MiB)."""
    fenced: bool = True
    """Take the program out of a ```python fence when the answer has one.

    답에 ```python 울타리가 있으면 그 안의 프로그램을 꺼냅니다."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.memory < 64:
            raise SettingError(
                f"The metric code has seconds: {self.seconds:g} and memory: {self.memory}.",
                wanted="seconds above 0; memory from 64 MiB, which Python itself takes.",
            )

    def check(self, row: Mapping[str, Any]) -> None:
        """A row needs its tests; a reference answer that fails them is found before anything is generated."""
        self._tests(row)
        gold = row.get("answer")
        if gold and not (found := self.score(str(gold), row))["score"]:
            raise DataError(
                f"{origin_of(row)}: its own answer fails its tests: {found['reason']}",
                wanted="Tests that the reference passes.",
                fix="Mend the row, or leave its answer out where it is no program.",
            )

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Score 1.0 when all tests pass, else 0.0 with the reason of the first that does not; `share` of tests passed."""
        tests, code = self._tests(row), self._program(prediction, row)
        if not code.strip():
            return {"score": 0.0, "share": 0.0, "reason": "no program"}
        limits: dict[str, Any] = {"seconds": self.seconds, "memory": self.memory << 20}
        if not self.cases:
            ran = run_python(code, tests, **limits)
            passed, reasons = ran.passed, [ran.reason]
        else:
            passed, reasons = (), []
            for case in tests:
                ran = run_python(code, stdin=str(case["input"]), script=True, **limits)
                same = not ran.reason and _lines(ran.output) == _lines(str(case["output"]))
                passed, reasons = (*passed, same), [*reasons, ran.reason or ("" if same else "another output")]
        share = sum(passed) / len(tests)
        reason = next(filter(None, reasons), "")
        return {"score": float(share == 1.0), "share": share, **({"reason": reason} if reason else {})}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Share of right programs with its Wilson interval."""
        reasons = Counter(
            value.get("reason", "fails a test").partition(":")[0] for value in values if not value["score"]
        )
        shares = sum(value["share"] for value in values) / max(1, len(values))
        return mean_summary(values, extra={"tests_passed": shares, "reasons": dict(reasons.most_common())})

    def _program(self, text: str, row: Mapping[str, Any]) -> str:
        code = out_of_fence(text, "python|py") if self.fenced else text
        if not self.before:
            return code
        name = re.escape(str(_column(row, self.entry))) if self.entry else r"\w+"
        return code if re.search(rf"^(async )?def {name}\b", code, re.MULTILINE) else self._begun(row) + code

    def _begun(self, row: Mapping[str, Any]) -> str:
        """The code that the answer goes on from: its column, or, where that was read as the question, the question."""
        if self.before in (row.get("columns") or {}):
            return str(_column(row, self.before))
        asked = [turn["content"] for turn in row.get("messages") or () if turn.get("role") == "user"]
        return str(asked[-1]) if asked else str(_column(row, self.before))

    def _tests(self, row: Mapping[str, Any]) -> list[Any]:
        """The row's cases, or its tests as programs; at least one."""
        name = self.cases or self.tests
        found = _column(row, name)
        if isinstance(found, str) and self.cases:
            try:
                found = json.loads(found)
            except ValueError:
                found = None
        if isinstance(found, Mapping) and {"inputs", "outputs"} <= set(found):  # as APPS has them
            found = [{"input": a, "output": b} for a, b in zip(found["inputs"], found["outputs"], strict=False)]
        tests = [found] if isinstance(found, str) and found.strip() else list(found) if isinstance(found, list) else []
        whole = all(isinstance(one, Mapping) and {"input", "output"} <= set(one) for one in tests)
        if not tests or (not whole if self.cases else not all(isinstance(one, str) for one in tests)):
            wanted = '[{"input": "4", "output": "5"}]' if self.cases else "Assertions: one text or a list of texts."
            raise DataError(f'{origin_of(row)}: "{name}" holds no tests: {str(found)[:80]}', wanted=wanted)
        if self.entry and not self.cases:
            tests[-1] += f"\ncheck({_column(row, self.entry)})\n"
        return tests


def _column(row: Mapping[str, Any], name: str) -> Any:
    columns = row.get("columns") or {}
    if name not in columns:
        raise DataError(
            f'{origin_of(row)} has no column "{name}". Found: {", ".join(columns) or "no columns"}.',
            wanted="The tests of its program, and what the metric code is told to read.",
            fix="Name the column: metrics: [{code: {tests: COLUMN}}]",
        )
    return columns[name]


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
