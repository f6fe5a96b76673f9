"""A setting that a run would not read is refused by its name; none is ignored in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.eval import eval as evaluate
from tunesmith.api.train import train
from tunesmith.core.errors import SettingError
from tunesmith.core.runs import RunFolder

TEXTS = [{"text": f"Once there were {i} cats in a garden of {3 * i} trees."} for i in range(12)]


def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def small(**keys: Any) -> dict[str, Any]:
    return {"model": "pico", "quiet": True, "train.steps": 1, "train.sample": 0, "out": "run", **keys}


@pytest.mark.parametrize("policy", ["error", "drop", "trim_prompt"])
def test_too_long_under_masked(folder: Path, policy: str):
    keys = small(data=write(TEXTS), model="pico-encoder", method="masked", adapter="full")
    with pytest.raises(SettingError, match=f"too_long is {policy}, but method masked always reads") as caught:
        train(**keys, too_long=policy)
    assert "split" in caught.value.wanted and not Path("run").exists()
    assert train(**keys, too_long="split")["status"] == "finished"


CHATS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(12)]
LABELS = [{"text": f"cat {i}", "label": i % 2} for i in range(12)]


@pytest.mark.parametrize("name", ["dev", "reward"])
def test_early_stopping_with_nothing_to_stop_by(folder: Path, name: str):
    keys: dict[str, Any] = {"data": {"path": write(CHATS), "dev": 0}}
    if name == "reward":
        keys = {"data": write(CHATS), "method": {"gkd": {"teacher": "pico", "max_tokens": 2}}}
    with pytest.raises(SettingError, match="train.early_stopping is 1, but no") as caught:
        train(**small(**keys, **{"train.early_stopping": 1}))
    assert "leave" in caught.value.fix.lower() and not Path("run").exists()


@pytest.mark.parametrize(("name", "value"), [("sheet", "Sheet1"), ("delimiter", ";"), ("header", True)])
def test_options_of_tables_on_jsonl(folder: Path, name: str, value: Any):
    with pytest.raises(SettingError, match=f"data.{name} is .* nothing here is read with it: rows.jsonl"):
        train(**small(data={"path": write(CHATS), name: value}))
    with pytest.raises(SettingError, match=f"data.{name} is .*: the rows are in no file"):
        train(**small(data={"path": CHATS, name: value}))
    assert not Path("run").exists()


def test_options_of_tables_beside_a_table(folder: Path):
    """A table to train on and a dev file of another format: the option is read by one of them."""
    Path("rows.csv").write_text("question;answer\n" + "".join(f"What is {i}?;It is {i}, indeed.\n" for i in range(12)))
    dev = write([{"question": "Why?", "answer": "So."}], "held.jsonl")
    data = {"path": "rows.csv", "delimiter": ";", "header": True, "dev": dev, "test": 0}
    assert train(**small(data=data))["status"] == "finished"


def test_label_names_on_chats(folder: Path):
    with pytest.raises(SettingError, match="data.label_names names 2 labels, but the rows are conversations"):
        train(**small(data={"path": write(CHATS), "label_names": ["no", "yes"]}))
    keys = small(data={"path": write(LABELS), "label_names": ["no", "yes"], "dev": 2, "test": 2}, method="classify")
    assert train(**keys, **{"train.batch_size": 4})["status"] == "finished"
    assert json.loads(Path("run/data/train.jsonl").read_text().splitlines()[0])["label"] in ("no", "yes")


def test_metrics_where_no_answer_is_scored(folder: Path):
    votes = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "Go away."} for row in CHATS]
    pairs = [{"text": f"cat {i}", "text2": f"a cat called {i}"} for i in range(12)]
    cases = {
        "pretrain": (TEXTS, "raw text is scored by"),
        "reward": (votes, "a reward model is"),
        "embed": (pairs, "vectors are"),
    }
    for method, (rows, told) in cases.items():
        data = {"path": write(rows, f"{method}.jsonl"), "dev": 2, "test": 4}
        train(**small(data=data, method=method, metrics=["token_f1"]) | {"out": method})
        with pytest.raises(SettingError, match=f"metrics names token_f1, but {told}"):
            evaluate(method, quiet=True)
        assert RunFolder.open(method).manifest()["test_reads"] == []
        assert evaluate(method, quiet=True, metrics=[])["metrics"]
