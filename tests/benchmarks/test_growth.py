"""The benchmark of growth: who ran when, and a size's speed beside the other's in the same time."""

import json
import sys
import time

import pytest
from benchmarks import growth
from benchmarks.growth import Turns, in_turns, read_runs, show, speeds


def test_only_the_time_in_which_it_ran_counts():
    turns = Turns("size")
    for begin, end in ((0, 1), (2, 4), (10, 11)):
        turns.ran("size", begin, end)
    assert turns.seconds("size", -5, 20) == 4
    assert turns.seconds("size", 0.5, 3) == pytest.approx(1.5)
    assert turns.seconds("size", 4, 10) == turns.seconds("size", -2, -1) == 0


def test_a_size_is_compared_with_what_the_other_did_in_the_same_time():
    """Seconds in turn: the size has the even ones, the other the odd. The machine is twice as fast from second 20 on."""
    turns = Turns("size", "beside")
    for second in range(40):
        turns.ran(("size", "beside")[second % 2], second, second + 1)
    size = [{"rows": 300, "began": 0, "started": 20, "steps": [[20, 5], [30, 500], [40, 500]]}]
    other = [
        {"rows": 50, "began": 0, "started": 10, "steps": [[10, 5], [20, 100]]},
        {"rows": 100, "began": 20, "started": 30, "steps": [[30, 5], [40, 200]]},
    ]
    assert speeds(turns, size, other, "data") == (30, 10)  # 300 rows in 10 of its seconds; 50 in 5
    assert speeds(turns, size, other, "steps") == (100, 40)  # 1,000 tokens in 10; 200 in 5, and none before second 20


def test_processes_run_in_turn_until_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "SLICE", 0.05)
    tick = "import time, sys\nfor i in range(int(sys.argv[2])):\n print(time.time(), file=open(sys.argv[1], 'a')); time.sleep(0.01)"
    folders = {name: tmp_path / name for name in ("size", "beside")}
    commands = {
        name: [sys.executable, "-c", tick, str(folder), str(times)]
        for (name, folder), times in zip(folders.items(), (40, 100_000), strict=True)
    }
    began = time.time()
    turns = in_turns(commands)
    ticks = {name: [float(line) for line in folder.read_text().split()] for name, folder in folders.items()}
    assert len(ticks["size"]) == 40 and ticks["beside"]
    for name, other in (("size", "beside"), ("beside", "size")):
        late = [when for when in ticks[name] if not turns.seconds(name, when - 0.02, when + 0.02)]
        assert not late, (name, other)
    assert all(turns.seconds(name, began, time.time()) > 0.1 for name in folders)


def test_a_failure_is_told(tmp_path):
    with pytest.raises(SystemExit, match="size ended with 3"):
        in_turns({"size": [sys.executable, "-c", "raise SystemExit(3)"], "beside": ["sleep", "60"]})


def test_a_line_that_is_not_whole_is_none(tmp_path):
    (tmp_path / "runs.jsonl").write_text(json.dumps({"rows": 1}) + "\n" + '{"rows": ')
    assert read_runs(tmp_path) == [{"rows": 1}]


def test_the_table_tells_shares_and_bytes():
    def run(speed, peak):
        return {"peak_bytes": peak, "data_rows_per_second": speed, "beside_data_rows_per_second": 100.0,
                "tokens_per_second": speed, "beside_tokens_per_second": 100.0}  # fmt: skip

    sizes = [
        {"rows": rows, "runs": [run(speed, peak)]}
        for rows, speed, peak in ((1_000, 50, 10**6), (11_000, 100, 1_120_000), (101_000, 110, 2_200_000))
    ]
    text = show({"sizes": sizes})
    assert "Tokens a second differ by 120%, rows a second of the data path by 10%" in text
    assert all(figure in text for figure in ("0.50", "1.10", "12.0"))
