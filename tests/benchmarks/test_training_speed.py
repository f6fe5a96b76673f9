"""The speed harness itself: who wins is decided by figures it must get right."""

import importlib
import json
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from benchmarks.training_speed import models, rows
from benchmarks.training_speed.__main__ import TARGET_SECONDS, Bench, judge, measure, show
from benchmarks.training_speed.cells import GRID, HEADLINE, SETS, cells
from benchmarks.training_speed.hf_side import PRECISIONS, Counted
from benchmarks.training_speed.limit import linears
from benchmarks.training_speed.limit import main as limit
from benchmarks.training_speed.measure import Meter, resident_mb
from benchmarks.training_speed.models import SHAPES
from benchmarks.training_speed.peers import PEERS


def test_cells_have_unique_names_and_sets_add_up() -> None:
    assert len({cell.name for cell in SETS["all"]}) == len(SETS["all"]) == 18
    assert len(GRID) == 16 and len(HEADLINE) == 4
    for factor in ("size", "adapter", "precision", "cut"):
        values = [getattr(cell, factor) for cell in HEADLINE]
        assert sorted(map(values.count, set(values))) == [2, 2]
    assert [cell.name for cell in cells("10M-full-bf16-256,quick")] == ["10M-full-bf16-256", "10M-lora-fp32-256"]
    assert {cell.name for cell in cells("sizes")} >= {"100M-full-fp32-256", "10M-lora-fp32-256"}
    with pytest.raises(SystemExit, match="no cell or set"):
        cells("10M-lora-fp33-256")


def test_rows_are_fixed_cut_and_counted(tmp_path: Path) -> None:
    lengths = np.array([5, 300, 17])
    np.savez_compressed(tmp_path / "rows.npz", ids=np.arange(lengths.sum()).astype(np.int16), lengths=lengths)
    cut = rows.load(tmp_path, cut=256, num=3)
    assert [len(row) for row in cut] == [5, 256, 17]
    assert cut[1][0] == 5 and cut[2][0] == 305  # a cut row's rest does not run into the next
    assert rows.fingerprint(cut) != rows.fingerprint(cut[:2])
    assert rows.fingerprint([[1, 2], [3]]) != rows.fingerprint([[1], [2, 3]])
    assert [rows.answer_start(list(range(n))) for n in (2, 8, 100)] == [1, 6, 75]


def test_docstrings_are_the_standard_library_s() -> None:
    found = list(islice(rows.docstrings(), 60))
    assert found == list(islice(rows.docstrings(), 60))
    assert any("Abstract Base Classes" in text for text in found)


def test_meter_leaves_out_the_first_two_steps_and_sees_memory() -> None:
    meter = Meter()
    for tokens, pause in ((1000, 0.05), (1000, 0.05), (100, 0.02), (100, 0.02)):
        time.sleep(pause)
        meter.step(tokens, loss=2.0)
    held = np.ones(40 * 2**20 // 8)
    report = meter.report()
    assert report["tokens"] == 2200 and report["tokens_timed"] == 200
    assert report["seconds"] == pytest.approx(report["tokens_timed"] / report["tokens_per_second"])
    assert report["above_model_mb"] >= 35
    assert report["peak_mb"] >= resident_mb() - 5
    assert held.size
    with pytest.raises(RuntimeError, match="need more"):
        Meter().report()


def test_the_limit_counts_the_products_of_every_layer(tmp_path: Path) -> None:
    width, inner = SHAPES["10M"]["hidden_size"], SHAPES["10M"]["intermediate_size"]
    assert sum(a * b for a, b in linears("10M")) == 3 * width * width + 3 * width * inner
    cell = {"size": "10M", "adapter": "full", "precision": "fp32", "cut": 256, "vocab": 64, "answers": False}
    given, out = tmp_path / "spec.json", tmp_path / "out.json"
    given.write_text(json.dumps({"cell": cell, "step_tokens": 8, "threads": 1, "budget": 0.01}))
    limit(str(given), str(out))
    found = json.loads(out.read_text())
    weights = 10 * (3 * width * width + 3 * width * inner) + width * 64
    assert found["gflops"] * 1e9 * found["seconds_a_step"] == pytest.approx(6.0 * 8 * weights)
    assert found["tokens_per_second"] == pytest.approx(8 / found["seconds_a_step"])
    assert found["best_tokens_per_second"] > found["tokens_per_second"]


@pytest.mark.parametrize("name", PEERS)
def test_each_worker_knows_every_option_it_is_asked_for(name: str) -> None:
    worker = importlib.import_module(f"benchmarks.training_speed.{PEERS[name].module}")
    known = worker.MICRO_BATCHES if name == "litgpt" else worker.LAYOUTS
    assert {*PEERS[name].layouts, "in_order"} == set(known)
    assert set(PEERS[name].precisions) == {cell.precision for cell in GRID}
    if name in ("trl", "hf"):
        assert {each for ways in PEERS[name].precisions.values() for each in ways} <= set(PRECISIONS)


def test_tokens_of_a_step_are_those_of_its_batches_though_the_next_is_fetched_ahead() -> None:
    counted = Counted(lambda features: len(features))
    for lengths in ([3, 2], [4], [1, 1]):
        counted([{"attention_mask": [1] * length + [0]} for length in lengths])
    assert counted.tokens == [5, 4, 2]


def record(ours: float, best: float, packing: float, limit: float, memory: tuple[float, float]) -> dict:
    runs = []
    for role, speed, above in (("ours", ours, memory[0]), ("best", best, memory[1]), ("packing", packing, memory[1])):
        runs.append({"role": role, "tokens_per_second": speed, "above_model_mb": above, "late_loss": 2.0})
    best_option = {"option": "group_by_length", "dtype": "fp32"}
    return {"answers": False, "limit": {"tokens_per_second": limit}, "best": best_option, "runs": runs, "num_rows": 320}


def test_judgement_follows_the_bar() -> None:
    held = judge(record(3000, 1500, 1000, 9000, (400, 1000)))
    assert held["speed_held"] and held["memory_held"] and not held["by_limit"]
    assert not judge(record(2400, 1500, 1000, 9000, (600, 1000)))["memory_held"]
    assert not judge(record(2400, 1000, 1000, 9000, (400, 1000)))["speed_held"]  # 2.4x its packing
    near_limit = judge(record(2400, 2000, 1000, 3000, (400, 1000)))  # 80 % of what the machine can do at all
    assert near_limit["speed_held"] and near_limit["by_limit"]
    assert near_limit["limit_share"] == near_limit["at_best_share"] == pytest.approx(0.8)
    both = record(2400, 2000, 1000, 0, (400, 1000))
    both["limits"] = [{"tokens_per_second": speed, "best_tokens_per_second": 4000} for speed in (2500, 3000, 3500)]
    assert judge(both)["speed_held"]  # by what products make over time; of their best repetitions it is told
    assert judge(both)["limit_share"] == pytest.approx(0.8) and judge(both)["at_best_share"] == pytest.approx(0.6)
    both["runs"] += [{**both["runs"][0], "tokens_per_second": speed} for speed in (1600, 3000)]
    both["limits"] = [{"pair": pair, "tokens_per_second": speed, "best_tokens_per_second": 4000} for pair, speed in
                      ((0, 2900), (0, 3100), (1, 2000), (2, 4000), (2, 6000))]  # fmt: skip
    assert judge(both)["limit_share"] == pytest.approx(0.8), "0.8 of those around it, 0.8, 0.6"
    assert judge(both)["at_best_share"] == pytest.approx(0.6)
    text = show({"cells": {"10M-lora-fp32-256": record(3000, 1500, 1000, 9000, (400, 1000))}})
    assert "2.00x" in text and "3.00x" in text and "single" in text and "MISSED" not in text


ENVIRONMENTS = dict.fromkeys(PEERS, "python")


class Pretended(Bench):
    """Workers that answer at once: length groups are the peer's best, autocast its fastest bf16."""

    calls: list

    def worker(self, module, spec, *, python=sys.executable):
        peer = module.startswith("peer_")
        self.calls.append((module, spec.get("option"), spec.get("dtype"), spec.get("num_rows")))
        if module == "limit":
            return {"tokens_per_second": 9000.0, "best_tokens_per_second": 9900.0, "gflops": 100.0}
        speed = {"group_by_length": 1500.0, "packing": 800.0}.get(spec.get("option"), 700.0) if peer else 3000.0
        speed += 100 * (spec.get("dtype") == "autocast") + 1000 * (
            module == "peer_litgpt" and spec["option"] == "padded_8x2"
        )
        chosen = rows.load(self.work, cut=spec["cell"]["cut"], num=spec["num_rows"])
        return {"tokens_per_second": speed, "above_model_mb": 400.0 if not peer else 1000.0, "late_loss": 2.0, "losses": [2.0],
                "rows": rows.fingerprint(chosen), "option": spec.get("option"), "dtype": spec.get("dtype")}  # fmt: skip


def test_a_cell_is_measured_from_calibration_to_table_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = np.full(rows.NUM_ROWS, 100)
    np.savez_compressed(tmp_path / "rows.npz", ids=np.zeros(lengths.sum(), dtype=np.int16), lengths=lengths)
    monkeypatch.setattr(models, "build", lambda work, size, vocab: work / "model")
    (cell,) = cells("30M-lora-bf16-1024")
    bench = Pretended(tmp_path / "results.json", tmp_path, ENVIRONMENTS, 1)
    bench.calls = []
    measure(bench, cell, ("trl",), pairs=3, fixed_rows=None)
    record = json.loads((tmp_path / "results.json").read_text())["cells"][cell.name]
    assert record["num_rows"] == round(3000 * TARGET_SECONDS / 1600) * 16  # as many rows as that time takes
    assert record["best"] == {"peer": "trl", "option": "group_by_length", "dtype": "autocast"}
    assert [limit["pair"] for limit in record["limits"]] == [0, 0, 1, 1, 2, 2]
    around = [name for name, *_ in bench.calls if name in ("ours", "limit")][1:]  # the first says how many rows
    assert around == ["limit", "ours", "limit"] * 3
    assert [run["role"] for run in record["runs"]] == ["ours", "best", "packing", "best", "ours", "ours", "best"]
    assert {pilot["option"] for pilot in record["pilots"]} == set(PEERS["trl"].layouts)
    assert ("packing", "autocast") in {(pilot["option"], pilot["dtype"]) for pilot in record["pilots"]}

    again = Pretended(tmp_path / "results.json", tmp_path, ENVIRONMENTS, 1)
    again.calls = []
    measure(again, cell, ("trl",), pairs=3, fixed_rows=None)
    assert again.calls == []
    again.data["cells"][cell.name]["runs"].pop()
    measure(again, cell, ("trl",), pairs=3, fixed_rows=None)
    assert again.calls == [("peer_trl", "group_by_length", "autocast", record["num_rows"])]
    assert "| 1.88x | 3.33x |" in show(again.data)


def test_the_fastest_of_several_peers_runs_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.full(rows.NUM_ROWS, 100)
    np.savez_compressed(tmp_path / "rows.npz", ids=np.zeros(lengths.sum(), dtype=np.int16), lengths=lengths)
    monkeypatch.setattr(models, "build", lambda work, size, vocab: work / "model")
    (cell,) = cells("100M-full-fp32-256")
    bench = Pretended(tmp_path / "results.json", tmp_path, ENVIRONMENTS, 1)
    bench.calls = []
    measure(bench, cell, ("hf", "litgpt"), pairs=1, fixed_rows=320)
    record = bench.data["cells"][cell.name]
    assert record["best"] == {"peer": "litgpt", "option": "padded_8x2", "dtype": "32-true"}
    assert [run["role"] for run in record["runs"]] == ["ours", "best"]
    assert "litgpt padded_8x2/32-true" in show(bench.data) and "MISSED" not in show(bench.data)
