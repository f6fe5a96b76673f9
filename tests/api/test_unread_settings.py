"""A setting that a run would not read is refused by its name; none is ignored in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.train import train
from tunesmith.core.errors import SettingError

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
