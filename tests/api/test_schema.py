"""The JSON Schema says what resolve says."""

import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.api.config import resolve
from tunesmith.api.schema import project_schema
from tunesmith.core.errors import UserError
from tunesmith.core.files import to_json
from tunesmith.metrics._json_schema import broken


def valid(value: Any) -> bool:
    return not broken(json.loads(to_json(value)), json.loads(to_json(project_schema())))


def test_it_is_a_schema_and_check_prints_it(folder: Path):
    schema = project_schema()
    assert tunesmith.check(schema=True) == schema
    assert schema["properties"]["train"]["properties"]["epochs"]["description"].startswith("How often each row is seen")
    assert schema["properties"]["lr"] == schema["properties"]["train"]["properties"]["lr"]
    assert "name" not in schema["properties"]


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {
            "model": "mini",
            "data": "a.jsonl",
            "method": "sft",
            "adapter": {"lora": {"rank": 16}},
            "metrics": ["exact_match"],
        },
        {
            "data": {
                "path": ["a", "b"],
                "columns": {"answer": "reply"},
                "steps": [{"dedup": {"part": "prompt"}}],
                "dev": 0.1,
            }
        },
        {"train": {"eval_every": 50, "betas": [0.9, 0.95]}, "lr": 1e-4},
        {"adapter": {"lora": None}},
        {"epohcs": 3},
        {"train": {"epochs": "three"}},
        {"adapter": {"lora": {"ranks": 1}}},
        {"method": "stf"},
        {"metrics": "exact_match"},
        {"train": {"optimizer": "adamm"}},
        {"data": {"bad_rows": "ignore"}},
        {"generate": {"stop": "x"}},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_an_editor_accepts_what_we_accept(folder: Path, raw: dict):
    try:
        resolve(raw)
        accepted = True
    except UserError:
        accepted = False
    assert valid(raw) == accepted


def test_the_filled_project_is_valid(folder: Path):
    _, filled, _ = resolve({"metrics": ["exact_match"]})
    assert valid(filled)


def test_own_items_are_in_it(folder: Path, mine: str):
    Path("tunesmith.yaml").write_text(f"use: [{mine}]\n")
    assert "mine" in str(tunesmith.check(schema=True)["properties"]["metrics"])


def test_a_file_of_stages_is_checked_too():
    stages = {"a": {"method": "pretrain", "data": "x"}, "b": {"from": "a", "lr": 1e-3}}
    assert valid({"model": "mini", "stages": stages, "compare": {"rows": 3, "metrics": ["exact_match"], "judge": None}})
    for bad in ({"stages": {"a": {"mehtod": "sft"}}}, {"stages": {"a": {"model": "x"}}}, {"compare": {"rosw": 1}}):
        assert not valid(bad)
