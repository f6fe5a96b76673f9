"""The house holds: imports go down, and nothing below floor 3 (nor the command line's start) loads torch.

The floors themselves are written in `.importlinter`; `lint-imports` at the root of the repository says the same as this file.
"""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOW_ROOMS = ("core", "stats", "text", "metrics", "report", "data", "retrieve", "prompts")


def modules_of(room: str) -> list[str]:
    """Every module of a room, as a dotted name: no file escapes because nobody imports it yet."""
    source = ROOT / "src"
    files = sorted((source / "tunesmith" / room).rglob("*.py"))
    names = [".".join(file.relative_to(source).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_imports_go_down_and_rooms_of_one_floor_never_meet():
    code = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 2 kept, 0 broken." in done.stdout


def test_the_torch_rule_names_every_room_of_floors_0_to_2():
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    floors = rules["importlinter:contract:floors"]["layers"].split("\n")[-3:]
    rooms = {f"tunesmith.{room.strip(' ()')}" for floor in floors for room in floor.split("|")}
    named = set(rules["importlinter:contract:no-torch-below-the-third-floor"]["source_modules"].split())
    assert named == rooms == {f"tunesmith.{room}" for room in LOW_ROOMS}


def test_no_room_imports_a_private_name_of_another():
    """Files of one room may; what another room wants has a public name. (A file `_x.py` is no item of its shelf, but no secret.)"""
    source = ROOT / "src"
    found = []
    for file in sorted(source.rglob("*.py")):
        own = file.relative_to(source).parts[:2]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tunesmith."):
                place = source.joinpath(*node.module.split("."))
                names = [alias.name for alias in node.names if not place.joinpath(f"{alias.name}.py").exists()]
                private = [name for name in names if name.startswith("_") and not name.startswith("__")]
                if private and place.relative_to(source).parts[:2] != own:
                    found.append(f"{file.relative_to(source)}:{node.lineno} {', '.join(private)}")
    assert found == []


@pytest.mark.parametrize("room", LOW_ROOMS)
def test_no_module_of_a_low_room_loads_torch(room, loaded_by):
    loaded = loaded_by("\n".join(f"import {name}" for name in modules_of(room)))
    assert not loaded & {"torch", "transformers", "peft"}


def test_importing_tunesmith_loads_nothing_slow(loaded_by, heavy):
    assert not loaded_by("import tunesmith") & {*heavy, "numpy", "pydantic", "rich", "typer"}
