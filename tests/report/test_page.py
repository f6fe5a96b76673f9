"""Pages: well-formed, from nothing but themselves, in both languages, and of the worst data there is."""

import json
import re
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.report.page import write_report

spec = spec_from_file_location("report_fixtures", Path(__file__).parent / "conftest.py")
made = module_from_spec(spec)
spec.loader.exec_module(made)

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Checks that what opens also closes, and collects ids, links, texts and the tags that must not be there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.problems, self.ids, self.links, self.words, self.svgs = [], [], [], [], [], 0
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"never closed: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("href", "src", "xlink:href") if name in attrs]
        self.svgs += tag == "svg" and attrs.get("role") == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def check(folder: Path, lang: str | None = None) -> Page:
    """Write a folder's page, hold what every page must hold, and return it."""
    text = write_report(folder, lang=lang).read_text(encoding="utf-8")
    page = Page(text)
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|<iframe|\son\w+=", text)
    assert text.count("<title>") >= page.svgs  # every picture says what it is
    assert "NaN" not in re.sub(r"<title>.*?</title>|>[^<]*<", "", text), "NaN in an attribute"
    assert "None" not in page.text.replace("None of", "")
    return page


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_run_page_has_every_section(run_folder, lang):
    page = check(run_folder, lang)
    assert {
        "scores", "curves", "worst", "confusion", "samples", "settings", "weights", "batch", "memory", "data", "row-losses", "figures", "choices",
        "manifest", "verdict",
    } <= set(page.ids)  # fmt: skip
    assert "82.9%" in page.text
    assert ("770 test rows" in page.text) if lang == "en" else ("평가 770행" in page.text)


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_comparison_page_has_every_section(tmp_path, lang):
    page = check(made.make_report(tmp_path / "demo", lang=lang))
    assert {"ladder", "tests", "cost", "panel", "worst", "confusion", "curves", "memory", "data", "manifest"} <= set(
        page.ids
    )
    headline = "Full tuning gets 84.5% of the test rows right. Prompt only got 1.3%."
    assert (
        headline if lang == "en" else "맞힌 비율이 1.3%(프롬프트만)에서 84.5%(전체 튜닝)로 올랐습니다."
    ) in page.text


def test_the_language_is_the_folders_own_unless_asked_for(tmp_path):
    folder = made.make_run(tmp_path / "run", lang="ko", steps=30)
    assert '<html lang="ko">' in write_report(folder).read_text(encoding="utf-8")
    assert '<html lang="en">' in write_report(folder, lang="en").read_text(encoding="utf-8")
    with pytest.raises(SettingError, match="'fr'"):
        write_report(folder, lang="fr")


def test_hyperparameters_and_parameters_are_apart_and_updates_add_up(run_folder):
    page = check(run_folder)
    text = page.text
    assert "16 per pass × 2 accumulated × 1 device = 32 rows per update" in text
    journal = run_folder / "events.jsonl"
    whole = journal.read_text("utf-8")
    journal.write_text(whole.replace('"batch_size": 32', '"batch_size": 32, "devices": 4'), encoding="utf-8")
    assert "4 per pass × 2 accumulated × 4 devices = 32 rows per update" in check(run_folder).text
    journal.write_text(whole, encoding="utf-8")
    assert "120 predicted = 120 counted" in text
    assert "each of 400 rows 3 times" in text
    assert "589,824 (6.5%)" in text and "8,450,304" in text  # trainable and frozen
    assert "2 times: eval, compare" in text  # reads of the test split
    assert "10,803 in = 10,773 used + 30 dropped" in text


def test_data_can_say_anything_and_stays_text(tmp_path):
    folder = made.make_report(tmp_path / "demo")
    nasty = (
        "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>\"'&amp; {{ 7*7 }} {% raw %}"
    )
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report["worst_rows"][0].update(prompt=nasty, answer=nasty, origin=nasty)
    report["variants"][1]["name"] = report["title"] = report["task"] = nasty
    report["tests"][0]["b"] = nasty
    report["panel"][0]["task"] = nasty
    report["runs"] = {nasty: "lora"}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    lines = (folder / "lora/data/train.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[0])
    row["messages"][0]["content"] = nasty
    (folder / "lora/data/train.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]), encoding="utf-8")
    (folder / "lora/data/examples.json").unlink()
    (folder / "lora/project.yaml").write_text("model: '<script>'\nmethod: '<b>'\n", encoding="utf-8")
    for target in (folder, folder / "lora"):
        text = write_report(target).read_text(encoding="utf-8")
        page = Page(text)
        assert page.problems == [] and "script" not in page.tags and "img" not in page.tags
    assert "alert('x')" in Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "{{ 7*7 }}" in Page(write_report(folder).read_text(encoding="utf-8")).text


def test_long_texts_without_spaces_are_all_there(tmp_path):
    folder = made.make_run(tmp_path / "run", steps=20)
    long = "한" * 5000
    rows = [{"prompt": long, "answer": "b" * 3000, "prediction": "", "metrics": {"exact_match": False}}]
    made.dump_lines(folder / "evals/test.jsonl", rows)
    page = check(folder)
    assert long in page.text and "(empty)" in page.text


def test_one_row_one_step(tmp_path):
    folder = tmp_path / "run"
    made.dump_lines(
        folder / "events.jsonl", [{"kind": "step", "step": 1, "loss": 2.5, "lr": 0.001}, {"kind": "end", "step": 1}]
    )
    made.dump(folder / "evals/test.json", {"metrics": {"exact_match": {"value": 1.0, "n": 1, "low": 0.2, "high": 1.0}}})
    made.dump_lines(folder / "loss_per_row.jsonl", [{"row": 0, "origin": "a:1", "loss": 2.5, "seen": 1}])
    page = check(folder)
    assert "100.0%" in page.text and "1 test rows" in page.text and "2.5" in page.text
    assert "manifest.json" in page.text  # what is missing is named


def test_no_rows_and_no_numbers(tmp_path):
    folder = tmp_path / "run"
    nan = "NaN"
    events = [
        {"kind": "start", "steps": 0, "batch_size": 0},
        {
            "kind": "step",
            "step": 1,
            "loss": nan,
            "lr": None,
            "grad_norm": float("nan"),
            "tokens": nan,
            "figures": {"accuracy": nan},
        },
        {"kind": "step", "step": "two", "loss": 1},
        {"kind": "eval", "step": 1, "dev_loss": nan},
        {"kind": "sample", "step": None},
    ]
    made.dump_lines(folder / "events.jsonl", events)
    made.dump(folder / "manifest.json", {"format": 1, "versions": None, "hardware": "?", "test_reads": 0})
    made.dump(
        folder / "data/card.json",
        {"counts": {"rows_in": 0, "rows_out": 0, "rows_dropped": 0, "by_origin": {}}, "splits": {"train": {"rows": 0}}},
    )
    made.dump(folder / "evals/test.json", {"metrics": {"accuracy": {"value": None, "n": 0, "low": None, "high": None}}})
    made.dump_lines(folder / "evals/test.jsonl", [])
    made.dump(folder / "memory.json", {"weights": 0})
    made.dump(folder / "parameters.json", {"modules": []})
    made.dump_lines(folder / "loss_per_row.jsonl", [{"row": 0, "loss": nan, "seen": 0}])
    for lang in ("en", "ko"):
        page = check(folder, lang)
    made.dump(folder / "report.json", {"variants": [], "tests": None, "panel": [{}], "runs": {"gone": "nowhere"}})
    page = check(folder)
    assert "No variant has a score." in page.text and "nowhere" in page.text
    made.dump(
        folder / "report.json",
        {"variants": [{"name": "a", "score": nan}, {"score": None}, 7], "tests": [{"a": 1}, 5], "typo": 1, "memory": 3},
    )
    page = check(folder)
    assert "typo" in page.text  # not shown in silence


def test_a_folder_of_broken_files_still_gives_a_page(tmp_path):
    folder = made.make_run(tmp_path / "run", steps=20)
    for name in (
        "project.yaml",
        "manifest.json",
        "data/card.json",
        "memory.json",
        "evals/test.json",
        "parameters.json",
    ):
        (folder / name).write_text('{"a": [', encoding="utf-8")
    page = check(folder)
    assert "manifest.json (" in page.text and "project.yaml (" in page.text


def test_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(ProjectError, match="no run folder"):
        write_report(tmp_path)
    with pytest.raises(ProjectError, match="There is no folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "report.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ProjectError, match="no object"):
        write_report(tmp_path)


def test_many_labels_are_folded_and_few_are_a_table(tmp_path):
    folder = made.make_run(tmp_path / "run", steps=20)
    text = write_report(folder).read_text(encoding="utf-8")
    assert '<table class="heat">' not in text and "and 30 more" in text
    extra = {"labels": ["good", "bad"], "confusion": [[40, 3, 1], [7, 49, 0]]}
    made.dump(
        folder / "evals/test.json",
        {"metrics": {"macro_f1": {"value": 0.9, "n": 100, "low": 0.8, "high": 0.95, "extra": extra}}},
    )
    page = check(folder)
    assert "heat" in (folder / "report.html").read_text(encoding="utf-8")
    assert "(none of them)" in page.text


def test_a_number_of_rows_that_do_not_add_up_is_shown_as_such(tmp_path):
    folder = made.make_run(tmp_path / "run", steps=20)
    made.dump(folder / "data/card.json", {"counts": {"rows_in": 10, "rows_out": 8, "rows_dropped": 1, "by_origin": {}}})
    assert "These do not add up: 10 in, 8 used, 1 dropped" in check(folder).text


def test_the_same_folder_gives_the_same_page(run_folder):
    assert write_report(run_folder).read_bytes() == write_report(run_folder).read_bytes()


def test_text_can_be_read_on_its_ground_by_day_and_by_night():
    from tunesmith.report.page import TEMPLATES

    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((light(a), light(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    for start in (0, css.index("prefers-color-scheme: dark")):
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css[start : css.index("}", start)]))
        for text in ("ink", "soft", "faint", "c1", "c2", "good", "bad"):
            for ground in ("page", "paper"):
                assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground, start)
        assert (
            contrast(colors["good"], colors["good-wash"]) >= 4.5 and contrast(colors["bad"], colors["bad-wash"]) >= 4.5
        )
        assert all(contrast(colors[f"c{k}"], colors["page"]) >= 3 for k in range(7))  # lines and dots


@pytest.mark.parametrize(
    ("found", "words"), [(1_050_000_000, "within its error bar"), (2_000_000_000, "outside its error bar")]
)
def test_what_was_planned_stands_beside_what_was_measured(tmp_path, found, words):
    run_folder = made.make_run(tmp_path / "run", steps=30)
    assert "Memory: planned and measured" not in check(run_folder).text
    plan = {"forecast": {"device": 1_000_000_000, "error": 0.1}}
    (run_folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    before = check(run_folder).text
    assert "give or take 10%" in before and "error bar" not in before
    plan["measured"] = {"device": found, "error": 1_000_000_000 / found - 1}
    plan["measured"]["step"] = {"predicted": 4.5, "measured": 5.0, "error": -0.1}
    (run_folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    page = check(run_folder, "en").text
    assert words in page and f"{100 * plan['measured']['error']:+.1f} %" in page
    assert "4.50 s" in page and "5.00 s; the plan was off by -10.0 %" in page
    assert "예측과 실측" in check(run_folder, "ko").text
