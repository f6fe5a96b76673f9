"""The verb demo, the whole road in small."""

from pathlib import Path

import pytest

from tunesmith.api.demo import demo
from tunesmith.core.errors import ProjectError, SettingError


@pytest.mark.slow
def test_the_whole_road(folder: Path):
    keys = {"model": "pico", "minutes": 0.05, "rows": 77}
    found = demo(**keys)
    page = Path(found["report"])
    assert page.name == "report.html" and page.stat().st_size > 10_000
    assert [variant["kind"] for variant in found["variants"]] == ["prompt", "examples", "retrieval", "lora", "full"]
    assert all(variant["n"] == 77 for variant in found["variants"])
    again = demo(**keys, lang="ko", task="banking77")  # goes on with what is there
    assert [variant["score"] for variant in again["variants"]] == [variant["score"] for variant in found["variants"]]
    with pytest.raises(ProjectError, match="another model"):
        demo(**{**keys, "model": "mini"})
    with pytest.raises(ProjectError, match="number of rows"):
        demo(**{**keys, "rows": 154})


@pytest.mark.parametrize("keys", [{"task": "bankin77"}, {"minutes": 0}, {"rows": 0}, {"lang": "de"}])
def test_refused(folder: Path, keys: dict):
    with pytest.raises(SettingError):
        demo(**keys)
    assert not Path("runs").exists()
