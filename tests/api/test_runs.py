"""tunesmith runs: the list, one run, and where it comes from."""

import json
import shutil
from pathlib import Path

import pytest

from tunesmith.api.report import report
from tunesmith.api.runs import children, lineage, runs
from tunesmith.core.errors import ProjectError


def make(folder: Path, *, created: str, parent: str | None = None, score: float | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text("model: mini\nmethod: sft\nadapter: lora\n", encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "verb": "train", "created": created, "parent": parent}), encoding="utf-8"
    )
    (folder / "events.jsonl").write_text('{"kind": "step", "step": 1, "loss": 1.0}\n', encoding="utf-8")
    if score is not None:
        (folder / "evals").mkdir()
        summary = {"value": score, "n": 100, "low": score - 0.1, "high": score + 0.1, "better": "higher"}
        (folder / "evals/test.json").write_text(json.dumps({"metrics": {"exact_match": summary}}), encoding="utf-8")


@pytest.fixture
def three(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/first", created="2026-11-20T10:00:00Z", score=0.5)
    make(tmp_path / "runs/second", created="2026-11-21T10:00:00Z", parent="runs/first", score=0.8)
    make(tmp_path / "runs/demo/third", created="2026-11-19T10:00:00Z", parent=str(tmp_path / "runs/second"))
    return tmp_path / "runs"


def test_the_list_is_in_order_of_time_with_scores(three):
    result = runs()
    assert [facts["name"] for facts in result["runs"]] == ["third", "first", "second"]
    assert result["runs"][2]["score"]["value"] == 0.8 and result["runs"][0]["score"] is None
    lines = result.text.splitlines()
    assert lines[1].startswith("demo/third") and "running" in lines[1]
    assert "80.0% exact_match" in lines[3] and "70.0%..90.0%" in lines[3] and lines[3].endswith("first")


def test_one_run_with_its_lineage(three):
    result = runs("demo/third")
    assert [Path(path).name for path in result["lineage"]] == ["second", "first"]
    assert "first -> second -> third" in result.text
    assert [Path(path).name for path in runs("first")["children"]] == ["second"]


def test_a_circle_of_parents_ends(tmp_path):
    make(tmp_path / "a", created="1", parent="b")
    make(tmp_path / "b", created="2", parent="a")
    assert [Path(path).name for path in lineage(tmp_path / "a")] == ["b"]
    assert [path.name for path in children(tmp_path / "a")] == ["b"]


def test_no_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs()["runs"] == [] and "No runs under runs" in runs().text
    assert "훈련 기록이 없습니다" in runs(lang="ko").text


# --- order among runs


def test_a_tree_of_runs(three):
    text = runs(tree=True).text
    assert text.splitlines()[0].startswith("first  (sft, lora, running, exact_match 0.5)  from mini")
    assert text.splitlines()[1].startswith("└─ second") and text.splitlines()[2].startswith("   └─ demo/third")
    found = runs(tree=True)["trees"]
    assert [tree["run"] for tree in found] == ["runs/first"]
    assert found[0]["children"][0]["children"][0]["run"] == "runs/demo/third"
    assert [tree["run"] for tree in runs("second", tree=True)["trees"]] == ["runs/second"]


def test_a_circle_in_a_tree_ends(tmp_path):
    make(tmp_path / "a", created="1", parent="b")
    make(tmp_path / "b", created="2", parent="a")
    assert len(runs(tree=True, under=str(tmp_path)).text.splitlines()) == 2


def test_several_runs_side_by_side_show_what_differs(three):
    (three / "second/project.yaml").write_text("model: mini\nmethod: dpo\nadapter: lora\n", encoding="utf-8")
    found = runs("first", "second", "demo/third")
    assert found["settings"] == {"method": ["sft", "dpo", "sft"]}
    scores = found["scores"]["test exact_match"]
    assert [one and one["value"] for one in scores] == [0.5, 0.8, None] and scores[0]["n"] == 100
    lines = found.text.splitlines()
    assert lines[0].split() == ["first", "second", "demo/third"] and "model" not in found.text.replace("made from", "")
    assert any(line.split()[:4] == ["method", "sft", "dpo", "sft"] for line in lines)
    assert "0.800 [0.700, 0.900] n=100" in found.text


def finish(folder: Path) -> None:
    (folder / "events.jsonl").write_text('{"kind": "end", "step": 1}\n', encoding="utf-8")
    (folder / "model").mkdir()


def test_names_and_the_way_back(three):
    for name in ("first", "second"):
        finish(three / name)
    assert runs("first", name="current")["before"] is None
    found = runs("second", name="current")
    assert (found["run"], found["before"]) == ("runs/second", "runs/first")
    assert "@current = runs/second" in runs().text and "@current" in runs(tree=True).text
    assert runs("@current")["names"] == ["current"] and runs("@current")["name"] == "second"
    assert runs(back="current")["run"] == "runs/first" and runs()["names"] == {"current": "runs/first"}
    with pytest.raises(ProjectError, match="no finished model"):
        runs("demo/third", name="current")


def test_deleting_is_told_first_and_refused_where_something_stands_on_it(three):
    for name in ("first", "second", "demo/third"):
        finish(three / name)
    found = runs("first", delete=True)
    assert not found["deleted"] and found["refused"] and "2 runs were made from it: second, demo/third" in found.text
    with pytest.raises(ProjectError, match="first is not deleted: 2 runs were made from it"):
        runs("first", delete=True, yes=True)
    assert (three / "first").is_dir()
    dry = runs("second", delete=True, descendants=True)
    assert [Path(run).name for run in dry["runs"]] == ["third", "second"] and "Nothing is deleted yet" in dry.text
    assert (three / "second").is_dir() and dry["bytes"] > 0
    runs("second", delete=True, descendants=True, yes=True)
    assert not (three / "second").exists() and not (three / "demo/third").exists() and (three / "first").is_dir()
    assert not list(three.rglob(".*deleted*"))


def test_what_may_not_be_deleted(three, tmp_path):
    make(tmp_path / "elsewhere", created="1")
    for run in ("../elsewhere", str(tmp_path / "elsewhere")):
        with pytest.raises(ProjectError, match="does not lie under runs"):
            runs(run, delete=True, yes=True)
    (three / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ProjectError, match="does not lie under"):
        runs("link", delete=True, yes=True)
    assert (tmp_path / "elsewhere/manifest.json").is_file()
    # a run that is going on, one with a name, a folder with runs inside
    with pytest.raises(ProjectError, match="wrote its last step . s ago"):
        runs("demo/third", delete=True, yes=True)
    finish(three / "demo/third")
    runs("demo/third", name="current")
    with pytest.raises(ProjectError, match="demo/third is named current"):
        runs("demo/third", delete=True, yes=True)
    make(three / "first/inner", created="1")
    assert any("other runs lie inside" in reason for reason in runs("first", delete=True, descendants=True)["refused"])


def test_a_stage_that_was_deleted_is_made_anew_by_its_chain(three):
    finish(three / "demo/third")
    (three / "demo/chain.json").write_text(
        json.dumps({"format": 1, "stages": {"third": {}, "other": {}}}), encoding="utf-8"
    )
    runs("demo/third", delete=True, yes=True)
    assert json.loads((three / "demo/chain.json").read_text())["stages"] == {"other": {}}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"tree": True, "back": "x"}, "two things to do"),
        ({"yes": True}, "belong to --delete"),
        ({"checkpoint": 3}, "belongs to --name"),
        ({"delete": True}, "needs one run"),
        ({"name": "x"}, "needs one run"),
        ({"back": "x"}, "No run is named x"),
    ],
)
def test_words_that_do_not_go_together(three, words, says):
    with pytest.raises(ProjectError, match=says):
        runs(**words)


def seeded(folder: Path, seed: int, score: float, loss: float, lr: float = 0.1) -> None:
    make(folder, created="2026-11-20T10:00:00Z", score=score)
    settings = f"model: mini\nmethod: sft\nseed: {seed}\ndata: {{seed: {seed}}}\ntrain: {{lr: {lr}}}\nout: {folder}\n"
    (folder / "project.yaml").write_text(settings, encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text())
    outcome = {"steps": 3, "best_dev_loss": loss, "tokens": 9}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "outcome": outcome}), encoding="utf-8")


def test_runs_that_differ_in_seed_alone_show_how_much_each_figure_moves(tmp_path, monkeypatch):
    from scipy import stats

    monkeypatch.chdir(tmp_path)
    scores, losses = [0.61, 0.64, 0.58], [1.0, 1.5, 1.25]
    for seed, (score, loss) in enumerate(zip(scores, losses)):
        seeded(tmp_path / f"runs/s{seed}", seed, score, loss)
        right = [1.0, float(seed == 0), float(seed < 2), 0.0]
        rows = [{"id": str(row), "metrics": {"exact_match": value, "length": 7.0}} for row, value in enumerate(right)]
        (tmp_path / f"runs/s{seed}/evals/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = runs("s0", "s1", "s2")
    assert set(found["spread"]) == {"steps", "best_dev_loss", "test exact_match"}
    one = found["spread"]["test exact_match"]
    low, high = stats.t.interval(0.95, 2, loc=0.61, scale=stats.sem(scores))
    assert (one["mean"], one["sd"], one["low"], one["high"]) == pytest.approx((0.61, 0.03, low, high))
    assert found["spread"]["best_dev_loss"]["sd"] == pytest.approx(0.25)
    assert (
        "From seed to seed (0, 1, 2), all else equal:" in found.text and "0.61  0.535476..0.684524  0.03" in found.text
    )
    # the page of one of them says so too, and no longer when the others have gone
    page = Path(report("runs/s1")["report"]).read_text(encoding="utf-8")
    assert "From seed to seed" in page and "s0, s1, s2" in page and "mean 0.61, 95 % interval 0.5355 to 0.6845" in page
    assert "two of the runs agree on 66.7% of the rows" in page  # 3, 2 and 3 of 4: seeds 0 and 1, 0 and 2, 1 and 2
    assert "시드에 따른 차이" in Path(report("runs/s1", lang="ko")["report"]).read_text(encoding="utf-8")
    for other in ("s0", "s2"):
        shutil.move(f"runs/{other}", f"elsewhere/{other}")
    assert "From seed to seed" not in Path(report("runs/s1")["report"]).read_text(encoding="utf-8")
    for other in ("s0", "s2"):
        shutil.move(f"elsewhere/{other}", f"runs/{other}")
    # another setting differs: the runs say nothing of the seed
    seeded(tmp_path / "runs/other", 3, 0.7, 1.0, lr=0.2)
    assert runs("s0", "s1", "other")["spread"] == {} and "From seed to seed" not in runs("s0", "other").text
