"""tunesmith demo: the whole road on the embedded base and a bundled real task, ending in a report."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.core.result import Result


@dataclass(frozen=True)
class Task:
    """A bundled task: its files, how a row becomes a question and an answer, and how it is put to an untuned model."""

    name: str
    title: Mapping[str, str]
    story: Mapping[str, str]
    files: tuple[str, str]
    prompt: str
    answer: str
    field: str
    instruction: str
    test_rows: int
    max_tokens: int


TASKS = {
    "banking77": Task(
        name="banking77",
        title={"en": "Banking77: what does the customer want?", "ko": "Banking77: 고객이 원하는 것은?"},
        story={
            "en": "A bank's customers write a message; the model answers with one of 77 intents as JSON.",
            "ko": "은행 고객이 보낸 메시지를 읽고 77가지 의도 중 하나를 JSON으로 답하는 과제입니다.",
        },
        files=("train.csv", "test.csv"),
        prompt="{{ text }}",
        answer='{"intent": "{{ category }}"}',
        field="intent",
        instruction='Answer with the intent of the customer\'s message as JSON: {"intent": "..."}. The intents are: {labels}.',
        test_rows=770,
        max_tokens=32,
    ),
    "nsmc": Task(
        name="nsmc",
        title={"en": "NSMC: did the viewer like the film?", "ko": "네이버 영화평: 관객은 영화를 좋아했나?"},
        story={
            "en": "Korean film reviews; the model answers whether the review is positive or negative, as JSON.",
            "ko": "한국어 영화평이 긍정인지 부정인지 JSON으로 답하는 과제입니다.",
        },
        files=("train.jsonl", "test.jsonl"),
        prompt="{{ document }}",
        answer='{"감정": "{{ "긍정" if label | int == 1 else "부정" }}"}',
        field="감정",
        instruction='다음 영화평의 감정을 JSON으로 답하세요: {"감정": "긍정"} 또는 {"감정": "부정"}.',
        test_rows=1000,
        max_tokens=16,
    ),
}

NAMES = {
    "prompt": {"en": "Prompt only", "ko": "프롬프트만"},
    "examples": {"en": "Examples in the prompt", "ko": "프롬프트에 예시"},
    "picked": {"en": "Examples picked by BM25", "ko": "BM25로 고른 예시"},
    "lora": {"en": "LoRA", "ko": "LoRA"},
    "full": {"en": "Full tuning", "ko": "전체 미세 조정"},
}
ADAPTERS: dict[str, Any] = {"lora": {"lora": {"rank": 16}}, "full": "full"}
KOREAN_NOTES = {  # the English ones come with the rung
    "prompt": "지시문만",
    "examples": "{context}토큰에 들어가는 만큼 예시 {count}개",
    "picked": "메시지마다 BM25로 고른 예시 {count}개",
}
KINDS = {"prompt": "prompt", "examples": "examples", "picked": "retrieval", "lora": "lora", "full": "full"}


def demo(
    *,
    task: str | None = None,
    lang: Literal["en", "ko"] = "en",
    minutes: float = 8.0,
    rows: int | None = None,
    model: str = "mini",
    out: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Result:
    """Fail at a real task, tune, and prove the gain: the whole road in minutes.

    task      banking77 (English) or nsmc (Korean); default: the one of the language
    lang      language of the report: en or ko
    minutes   time budget on this machine; tuning gets two thirds of it
    rows      size of the frozen test set; default: 770 for banking77, 1,000 for nsmc
    model     the base that is asked and tuned
    out       folder of everything; default: runs/demo-TASK. Run again after a kill, it goes on.
    seed      start of all random numbers: the split, the order of rows, new weights
    device    auto = a GPU where there is one; cpu, cuda, cuda:1

    Example: tunesmith demo lang=ko
    """
    from tunesmith.core.errors import SettingError
    from tunesmith.core.names import unknown

    if lang not in ("en", "ko"):
        raise SettingError(f"lang is {lang!r}.", wanted="en or ko.")
    name = task or ("nsmc" if lang == "ko" else "banking77")
    if name not in TASKS:
        raise unknown("demo task", name, TASKS)
    if minutes <= 0:
        raise SettingError(f"minutes is {minutes}.", wanted="More than 0.")
    if rows is not None and rows < 1:
        raise SettingError(f"rows is {rows}.", wanted="1 or more.")
    folder = Path(out or f"runs/demo-{name}")
    return Demo(TASKS[name], lang, minutes, rows or TASKS[name].test_rows, model, folder, seed, device).run()


class Demo:
    """One demo under way: what it found so far lies in its folder, so a second call goes on."""

    def __init__(
        self, task: Task, lang: Literal["en", "ko"], minutes: float, rows: int, model: str, folder: Path, seed: int,
        device: str,
    ) -> None:  # fmt: skip
        from tunesmith.api.device import take

        self.task, self.lang, self.minutes, self.rows, self.base, self.folder, self.seed = (
            task, lang, minutes, rows, model, folder, seed
        )  # fmt: skip
        self.asked, self.device = device, take(device)
        self.began = time.perf_counter()

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)

    def run(self) -> Result:
        from tunesmith.core.files import write_json
        from tunesmith.report.page import write_report

        self.folder.mkdir(parents=True, exist_ok=True)
        project = self.write_project()
        self.say(f"{self.task.title['en']}  project: {project}")
        self.say("reading and splitting the data; LoRA and full tuning get the same rows")
        runs = {kind: self.tune(kind, project, share) for kind, share in (("lora", 0.33), ("full", 0.33))}
        self.freeze_test(runs["lora"])
        variants = [*self.ask_untuned(runs["lora"]), *(self.ask_tuned(kind, runs[kind]) for kind in runs)]
        tests = self.tests()
        report = {
            "format": 1, "title": self.task.title[self.lang], "task": self.task.story[self.lang], "lang": self.lang,
            "metric": {"name": "accuracy", "unit": "share", "better": "higher"},
            "rows": {"train": runs["lora"]["rows"]["train"], "dev": runs["lora"]["rows"]["dev"], "test": len(self.frozen)},
            "model": {"name": self.base, "parameters": self.parameters}, "variants": variants, "tests": tests,
            "baseline": NAMES["prompt"][self.lang],
            "panel": self.panel(runs), "worst_rows": self.worst(), "confusion": self.confusion(),
            "runs": {NAMES[kind][self.lang]: kind for kind in runs}, "budget": self.budget(runs),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        write_json(self.folder / "report.json", report)
        page = write_report(self.folder, lang=self.lang)
        best = max(variants, key=lambda variant: variant["score"])
        seconds = time.perf_counter() - self.began
        lines = [f"{v['name']:<28} {v['score']:6.1%}   95 % {v['low']:.1%} to {v['high']:.1%}" for v in variants]
        text = "\n".join(
            [
                *lines,
                "",
                *(test["words"] for test in tests[-3:]),
                "",
                f"Report: {page}",
                f"Talk to it: tunesmith chat {self.folder / 'full'}",
            ]
        )
        return Result(
            report=str(page), seconds=round(seconds, 1), variants=variants, tests=tests, best=best["name"],
            rows=report["rows"], folder=str(self.folder), text=text,
        )  # fmt: skip

    def write_project(self) -> Path:
        """The one project file of the demo: what a user would write."""
        import yaml

        from tunesmith.core.files import write_whole

        bundled = Path(__file__).parent.parent / "data" / "bundled" / self.task.name
        train, test = (str(bundled / file) for file in self.task.files)
        project = {
            "model": self.base,
            "data": {"path": train, "test": test, "dev": 500, "prompt": self.task.prompt, "answer": self.task.answer},
            "method": "sft", "adapter": "lora",
            "metrics": [{"accuracy": {"field": self.task.field}}, {"format": {"json": True}}],
            "generate": {"max_tokens": self.task.max_tokens}, "train": {"batch_size": 32},
            "eval": {"rows": self.rows}, "seed": self.seed, "lang": self.lang,
        }  # fmt: skip
        self.check_same(project)
        head = f"# {self.task.title['en']}\n# Try it yourself: tunesmith train {self.folder}/tunesmith.yaml minutes=2\n"
        return write_whole(
            self.folder / "tunesmith.yaml", head + yaml.safe_dump(project, sort_keys=False, allow_unicode=True)
        )

    def check_same(self, project: Mapping[str, Any]) -> None:
        """A folder with another demo in it (another model, seed or number of rows) is refused: its results would be taken for this one's."""
        from tunesmith.core.errors import ProjectError
        from tunesmith.core.project import read_project

        path = self.folder / "tunesmith.yaml"
        there = read_project(path) if path.exists() else project
        names = {"eval": "number of rows", "data": "task"}
        other = [names.get(name, name) for name in project if name != "lang" and there.get(name) != project[name]]
        if other:
            raise ProjectError(
                f"{self.folder} holds a demo with another {', '.join(other)}.",
                fix="Choose another folder (--out FOLDER), or delete that one.",
            )

    def tune(self, kind: str, project: Path, share: float) -> dict[str, Any]:
        """Train one variant, go on with it, or take it as it is when it is finished."""
        import json

        from tunesmith.api.train import train
        from tunesmith.core.runs import RunFolder

        place = self.folder / kind
        budget = self.minutes * share
        if not (place / "manifest.json").exists():
            self.say(f"{kind}: tuning for about {budget:.1f} minutes")
            train(
                str(project), adapter=ADAPTERS[kind], out=str(place), device=self.asked,
                train={"minutes": budget, "precision": "auto"},
            )  # fmt: skip
        elif "outcome" not in RunFolder.open(place).manifest():
            self.say(f"{kind}: going on where it was stopped")
            train(resume=str(place))
        folder = RunFolder.open(place)
        card = folder.read_json("data/card.json")
        return {
            "outcome": folder.manifest()["outcome"], "chosen": json.loads(folder.file("chosen.json").read_text()),
            "parameters": folder.read_json("parameters.json"),
            "rows": {name: card["splits"][name]["rows"] for name in ("train", "dev", "test")},
        }  # fmt: skip

    def freeze_test(self, run: Mapping[str, Any]) -> None:
        """Draw the frozen test rows once; every variant answers these and no others."""
        from tunesmith.data.prepare import open_test
        from tunesmith.data.rows import RowFile, write_rows
        from tunesmith.ladder.rungs import stratified_sample

        path = self.folder / "test.jsonl"
        if not path.exists():
            drawn = stratified_sample(
                list(open_test(self.folder / "lora", by="demo")), min(self.rows, run["rows"]["test"]), seed=self.seed
            )
            write_rows(path, drawn)
        self.frozen = list(RowFile(path))
        self.say(f"test set frozen: {len(self.frozen)} rows, stratified; no variant was chosen on it")

    def metrics(self) -> dict[str, Any]:
        from tunesmith.core.shelf import shelf

        wanted = {
            "accuracy": {"field": self.task.field},
            "macro_f1": {"field": self.task.field},
            "format": {"json": True},
        }
        return {name: shelf("metrics").make({name: settings}) for name, settings in wanted.items()}

    def evaluate(self, model: Any, kind: str, ask: Any = None) -> dict[str, Any]:
        from tunesmith.evals.run import evaluate
        from tunesmith.text.encode import Text

        return evaluate(
            model, Text(model.tokenizer), self.frozen, self.metrics(), folder=self.folder / "evals", name=kind,
            max_tokens=self.task.max_tokens, ask=ask, seed=self.seed,
        )  # fmt: skip

    def ask_untuned(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The base as it is: with the prompt, with examples, with picked examples."""
        from tunesmith.data.rows import RowFile
        from tunesmith.ladder import rungs
        from tunesmith.model.load import load
        from tunesmith.prompts.shots import answer_of
        from tunesmith.text.encode import Text

        model = load(self.base, device=self.device)
        self.parameters = sum(p.numel() for p in model.net.parameters())
        text, train = Text(model.tokenizer), list(RowFile(self.folder / "lora" / "data" / "train.jsonl"))
        short = self.task.instruction.split(" The intents are")[0]
        labels = sorted({answer_of(row).split('": "')[-1].rstrip('"}') for row in train})
        full = self.task.instruction.replace("{labels}", ", ".join(labels))
        room = {"context": model.context, "max_tokens": self.task.max_tokens}
        longest = max(len(text.prompt(rungs.instructed(row, full))) for row in self.frozen)
        if longest + self.task.max_tokens > model.context:
            self.say(
                f"the names of all {len(labels)} answers do not fit the context of {model.context} tokens: asking without them"
            )
            full = short
        made = {
            "prompt": rungs.plain(full),
            "examples": rungs.with_fixed(text, train, self.frozen, short, seed=self.seed, **room),
            "picked": rungs.with_picked(text, train, short, count=8, **room),
        }
        found = []
        for kind, rung in made.items():
            self.say(f"asking {self.base} as it is: {rung.note}")
            note = (
                rung.note
                if self.lang == "en"
                else KOREAN_NOTES[kind].format(count=rung.num_examples, context=model.context)
            )
            found.append(self.variant(kind, self.evaluate(model, kind, rung.ask), note=note, trainable=0))
        return found

    def ask_tuned(self, kind: str, run: Mapping[str, Any]) -> dict[str, Any]:
        from tunesmith.adapters.store import merge, open_run

        self.say(f"asking the model tuned by {kind}")
        made = self.evaluate(merge(open_run(self.folder / kind, device=self.device)), kind)
        return self.variant(
            kind, made, note=f"{run['chosen']['epochs']:.1f} {'epochs' if self.lang == 'en' else '에폭'}", trainable=run["parameters"]["trainable"],
            minutes=run["outcome"]["seconds"] / 60,
        )  # fmt: skip

    def variant(self, kind: str, made: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        score, valid = made["metrics"]["accuracy"], made["metrics"]["format"]
        self.say(
            f"  accuracy {score['value']:.1%} (95 % {score['low']:.1%} to {score['high']:.1%}), valid JSON {valid['value']:.1%}"
        )
        return {
            "name": NAMES[kind][self.lang], "kind": KINDS[kind], "score": score["value"], "low": score["low"], "high": score["high"],
            "n": score["n"], "valid": valid["value"],
            "prompt_tokens_per_answer": made["cost"]["prompt_tokens_per_answer"], "tokens_per_answer": made["cost"]["tokens_per_answer"],
            "seconds_per_answer": made["cost"]["seconds_per_answer"], **more,
        }  # fmt: skip

    def tests(self) -> list[dict[str, Any]]:
        """Paired tests on the frozen rows: each rung against the one before, and both tunings against the best prompt."""
        from tunesmith.evals.compare import compare
        from tunesmith.evals.files import read_evaluation

        evaluations = {kind: read_evaluation(self.folder / "evals" / kind) for kind in KINDS}
        pairs = [
            ("prompt", "examples"),
            ("examples", "picked"),
            ("picked", "lora"),
            ("picked", "full"),
            ("lora", "full"),
        ]
        found = []
        for a, b in pairs:
            names = (NAMES[a][self.lang], NAMES[b][self.lang])
            one = compare(evaluations[a], evaluations[b], metrics=["accuracy"], names=names, lang=self.lang)[0]
            verdict = "not told apart" if not one.told_apart else "better" if one.difference > 0 else "worse"
            found.append(
                {"a": names[0], "b": names[1], "difference": one.difference, "low": one.low, "high": one.high, "p": one.p,
                 "n": one.n, "test": one.test, "verdict": verdict, "words": one.verdict}
            )  # fmt: skip
        return found

    def panel(self, runs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What else changed: the fixed panel of other tasks before and after."""
        from tunesmith.adapters.store import merge, open_run
        from tunesmith.evals.panel import compare_panels, run_panel
        from tunesmith.model.load import load

        self.say("other-task panel, before and after: what got worse?")
        before = run_panel(load(self.base, device=self.device))
        rows = []
        for kind in runs:
            after = run_panel(merge(open_run(self.folder / kind, device=self.device)))
            rows += [
                {**row, "variant": NAMES[kind][self.lang]} for row in compare_panels(before, after, lang=self.lang)
            ]
        return rows

    def worst(self, number: int = 10) -> list[dict[str, Any]]:
        """Wrong answers of the best tuned variant that it was surest of."""
        from tunesmith.evals.files import read_evaluation

        lines = [
            line for line in read_evaluation(self.folder / "evals" / "full").rows if line["metrics"]["accuracy"] < 1
        ]
        lines.sort(key=lambda line: -float(line.get("logprob") or 0))
        return [
            {
                "prompt": line["prompt"],
                "expected": line["answer"],
                "answer": line["prediction"],
                "origin": line["origin"],
            }
            for line in lines[:number]
        ]

    def confusion(self) -> dict[str, Any]:
        """Which classes full tuning takes for which."""
        from tunesmith.evals.files import read_evaluation

        extra = read_evaluation(self.folder / "evals" / "full").summary["metrics"]["macro_f1"]["extra"]
        return {key: extra["confusion"][key] for key in ("labels", "matrix")}

    def budget(self, runs: Mapping[str, Any]) -> str:
        parts = [
            (NAMES[kind][self.lang], run["chosen"]["epochs"], run["outcome"]["seconds"] / 60)
            for kind, run in runs.items()
        ]
        if self.lang == "ko":
            told = ", ".join(f"{name} {epochs:g} 에폭 {minutes:.1f}분" for name, epochs, minutes in parts)
            return (
                f"학습은 {self.minutes:g}분의 시간 예산에 맞추었습니다: {told}. 시간이 더 있으면 더 좋아질 수 있습니다."
            )
        told = ", ".join(f"{name} {epochs:g} epochs in {minutes:.1f} minutes" for name, epochs, minutes in parts)
        return f"Tuning was fitted into a budget of {self.minutes:g} minutes: {told}. More time may give more."
