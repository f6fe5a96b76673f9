"""--resume goes on with what a run was started on: other rows or another base are refused in words, and nothing is touched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.train import train
from tunesmith.core.errors import DataError, ModelError, TrainingError
from tunesmith.core.files import write_json
from tunesmith.core.runs import RunFolder
from tunesmith.model.load import load
from tunesmith.model.save import save

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]


def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(**keys: Any) -> str:
    """The result's hash of a run that is whole, and looks as if it had been killed before its end."""
    given = {"model": "pico", "quiet": True, "train.steps": 4, "train.sample": 0, "adapter": {"lora": {"rank": 2}}}
    write(ROWS)
    found = train(**{**given, "data": "rows.jsonl", "out": "run", **keys})
    manifest = json.loads(Path("run/manifest.json").read_text())
    del manifest["outcome"]
    write_json("run/manifest.json", manifest)
    place = Path("run/checkpoints/step-000004/progress.json")
    progress = json.loads(place.read_text())
    progress["progress"]["done"] = ""
    place.write_text(json.dumps(progress))
    for result in ("adapter", "model"):
        shutil.rmtree(f"run/{result}", ignore_errors=True)
    return str(found["result_hash"])


def contents(folder: str = "run") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def resume() -> Any:
    return train(resume="run", quiet=True)


CHANGED = {
    "answers edited": lambda: write([{**row, "answer": row["answer"].upper()} for row in ROWS]),
    "rows added": lambda: write([*ROWS, *({"question": f"Why {i}?", "answer": f"So {i}."} for i in range(9))]),
    "rows taken away": lambda: write(ROWS[:-4]),
    "another order": lambda: write(ROWS[::-1]),
}


@pytest.mark.parametrize("how", CHANGED)
def test_other_rows_are_refused_and_nothing_is_overwritten(folder: Path, how: str):
    start()
    CHANGED[how]()
    before = contents()
    with pytest.raises(DataError, match="no longer what the run was started on: other rows in") as caught:
        resume()
    assert caught.value.wanted and "--resume" in caught.value.fix
    assert contents() == before


def test_other_settings_of_the_data_are_refused(folder: Path):
    start()
    project = Path("run/project.yaml")
    project.write_text(project.read_text().replace("bad_rows: error", "bad_rows: drop").replace("dev: null", "dev: 5"))
    assert "dev: 5" in project.read_text()
    with pytest.raises(DataError, match=r"other rows in train, dev"):
        resume()


def test_the_same_rows_go_on_however_their_file_is_written(folder: Path):
    wanted = start()
    Path("rows.jsonl").write_text("".join(json.dumps(row, indent=None, separators=(",", ":")) + "\n" for row in ROWS))
    assert resume()["result_hash"] == wanted


def test_a_torn_card_is_refused_and_made_again_where_its_folder_is_removed(folder: Path):
    wanted = start()
    card = Path("run/data/card.json")
    card.write_bytes(card.read_bytes()[:100])
    before = contents()
    with pytest.raises(DataError, match=r"card.json is not JSON") as caught:
        resume()
    assert "Remove run/data" in caught.value.fix and contents() == before
    shutil.rmtree("run/data")
    assert resume()["result_hash"] == wanted


def test_a_torn_card_of_rows_handed_over_in_python_is_refused(folder: Path):
    start(data=ROWS)
    Path("run/data/card.json").write_text('{"format": 1, "ki')
    with pytest.raises(DataError, match=r"card.json is not JSON"):
        resume()


def a_base(seed: int) -> None:
    shutil.rmtree("base", ignore_errors=True)
    model = load("pico", seed=seed)
    save(model.net, model.tokenizer, Path("base"), dtype="fp32")


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_another_base_is_refused(folder: Path, adapter: str):
    a_base(1)
    wanted = start(model="base", adapter=adapter)
    a_base(2)
    before = contents()
    with pytest.raises(ModelError, match=r"no longer holds the weights .* model.safetensors") as caught:
        resume()
    assert caught.value.wanted and caught.value.fix and contents() == before
    a_base(1)
    assert resume()["result_hash"] == wanted


def test_units_of_another_number_are_refused_in_words(folder: Path):
    """What the hashes of the rows do not know: a length set by hand in the run's project file."""
    start(too_long="drop")
    project = Path("run/project.yaml")
    project.write_text(project.read_text().replace("length: null", "length: 31"))
    assert len(list(RunFolder.open("run").journal("data/dropped.jsonl"))) == 0
    with pytest.raises(TrainingError, match=r"made on \d+ examples; there are \d+ now"):
        resume()
