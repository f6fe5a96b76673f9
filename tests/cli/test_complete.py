"""Completion: verbs, flags, settings, values; and the scripts in a real shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.api.config import catalogue
from tunesmith.cli.complete import complete, script
from tunesmith.core.errors import SettingError


def test_verbs_are_completed():
    assert complete(["whe"]) == ["where"]
    assert "list" in complete([""]) and "list" in complete([])
    assert complete(["nothing"]) == []
    assert complete(["nothing", "x"]) == []


def test_settings_and_their_values_are_completed():
    assert complete(["check", "train.ep"]) == ["train.epochs=", "train.eps="]
    assert complete(["check", "metho"]) == ["method="]
    assert complete(["check", "method=sf"]) == ["method=sft"]
    assert complete(["check", "optimizer="]) == ["optimizer=adamw", "optimizer=adam", "optimizer=sgd", "optimizer=muon"]
    assert complete(["check", "train.checkpointing=t"]) == ["train.checkpointing=true"]
    assert complete(["check", "model=m"]) == ["model=mini"]
    assert complete(["check", "nothing=x"]) == []
    assert complete(["check", "data.path=x"]) == []
    assert len([word for word in complete(["check", "t"]) if word.startswith("train.")]) == sum(
        n.startswith("train.") for n in catalogue()
    )


def test_flags_and_names_are_completed():
    assert complete(["check", "--s"]) == ["--schema"]
    assert complete(["list", "met"]) == ["metrics"]
    assert complete(["where", "exact"]) == ["exact_match"]
    assert complete(["explain", "attent"]) == ["attention"]
    assert complete(["check", ""]) == []  # files


def test_an_unknown_shell_is_refused():
    with pytest.raises(SettingError, match="Did you mean: bash"):
        script("bahs")
    with pytest.raises(SettingError, match="bash, zsh, fish"):
        script("")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("tunesmith whe", ["where"]), ("tunesmith check method=sf", ["sft"]), ("tunesmith list ste", ["steps"])],
)
def test_bash_completes(tmp_path: Path, line: str, wanted: list[str]):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    (tmp_path / "tunesmith").write_text(f'#!/bin/sh\nexec {sys.executable} -m tunesmith "$@"\n')
    (tmp_path / "tunesmith").chmod(0o755)
    code = f"""
    eval "$(tunesmith --completion bash)"
    compopt() {{ :; }}
    COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
    _tunesmith
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.stdout.split() == wanted, done.stderr
