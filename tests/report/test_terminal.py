"""The run in a terminal: the same words as the page, columns that stand under one another also in Korean."""

from tunesmith.report.labels import speaker
from tunesmith.report.page import write_report
from tunesmith.report.read import read_run
from tunesmith.report.terminal import interval_bar, spark, summary, table, wide, wrapped
from tunesmith.report.verdict import run_verdict


def test_terminal_and_page_say_the_same(run_folder, report_folder):
    verdict = run_verdict(read_run(run_folder), speaker("ko"), "ko")
    text = " ".join(summary(run_folder, lang="ko").split())
    page = write_report(run_folder, lang="ko").read_text(encoding="utf-8")
    assert verdict.headline in text and verdict.headline in page
    assert "Full tuning gets 84.5% of the test rows right." in summary(report_folder)
    assert "not told apart" in summary(report_folder)


def test_columns_stand_under_one_another():
    first, second = table([["프롬프트만", "1.3%"], ["LoRA", "82.9%"]], right=(1,)).splitlines()
    assert wide(first) == wide(second) == 10 + 2 + 5
    assert table([]) == ""


def test_wrapping_counts_korean_letters_twice():
    assert wrapped("가나 다라 마바", 9) == ["가나 다라", "마바"]
    assert wrapped("", 10) == []


def test_spark_and_interval():
    assert spark([3, 2, 1]) == "█▅▁" and spark([]) == "" and spark([1, 1]) == "▁▁"
    assert len(spark(range(1000), 40)) == 40
    assert interval_bar(0.5, 0.25, 0.75, 0.0, 1.0, width=5) == " ├●┤"
    assert interval_bar(0.5, None, None, 0.5, 0.5, width=5) == "●"
