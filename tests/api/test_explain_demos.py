"""explain shows demonstrations, with values, in a language, and their pictures as files."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.api.explain import demos
from tunesmith.cli import main
from tunesmith.core.errors import SettingError


def test_values_are_taken(folder: Path):
    found = tunesmith.explain("formats", value=123456.789)
    assert found["found"]["demo"]["formats"]["fp16"]["rounded"] == "inf"
    assert "65504" in found.text and "수 형식" in found.text and "Takes: value" in found.text
    assert "수 형식" not in tunesmith.explain("formats", lang="en").text
    assert "형식" in tunesmith.explain("formats", lang="ko").text


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "formats", "value=1e-9", "lang=en"]) == 0
    assert "1e-09 becomes" in capsys.readouterr().out
    assert main(["explain", "attention", "text=a b c", "model=pico", "layer=0", "svg=map.svg"]) == 0
    assert Path("map.svg").read_text().startswith("<svg")
    assert main(["explain", "position", "kind=relative"]) == 0
    assert main(["explain", "norm", "valeu=1"]) == 2
    assert main(["explain", "step", "svg=a.svg"]) == 2
    assert main(["explain", "lora", "value=1"]) == 2
    assert "only demonstrations" in capsys.readouterr().err


def test_all_are_listed_and_explained_in_both_languages(folder: Path):
    overview = tunesmith.explain().text
    for name in demos():
        assert name in overview
        text = tunesmith.explain(name, **({"model": "pico"} if name == "attention" else {})).text
        assert "arXiv" in text or "1986" in text
        assert any("가" <= letter <= "힣" for letter in text)
    with pytest.raises(SettingError, match="Did you mean: attention"):
        tunesmith.explain("atention")
