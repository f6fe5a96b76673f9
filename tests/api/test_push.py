"""push: what is sent to the hub, when, and what is said when it says no. The hub is a stand-in: nothing leaves this machine."""

import json
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from tunesmith.api.chain import chain
from tunesmith.api.rerun import rerun
from tunesmith.api.train import train
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.runs import RunFolder

KEYS = {"data": "faq.jsonl", "model": "pico", "steps": 2, "push": "me/faq", "quiet": True}


@pytest.fixture
def hub(monkeypatch, folder):
    """What was asked of the hub, in order; `refuse` names a call that fails."""
    rows = [{"prompt": f"Q {i}?", "completion": f"A {i}."} for i in range(8)]
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Hub:
        asked: ClassVar[list] = []
        refuse = ""

        def create_repo(self, name, **given):
            self._note("create_repo", name, given)
            return type("Repository", (), {"repo_id": name if "/" in name else f"me/{name}"})

        def auth_check(self, name, **given):
            self._note("auth_check", name, given)

        def create_commit(self, name, changes, **given):
            self._note("create_commit", name, {change.path_in_repo: change for change in changes})
            return type("Commit", (), {"commit_url": f"https://hub/{name}/commit/1"})

        def _note(self, call, name, what):
            Hub.asked.append((call, name, what))
            if call == Hub.refuse:
                raise OSError("401 Client Error.\nDetails.")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    Hub.asked = []
    return Hub


def test_the_result_is_uploaded_at_the_end(hub):
    done = train(out="run", adapter="lora", **KEYS)
    assert [call for call, *_ in hub.asked] == ["create_repo", "auth_check", "create_repo", "create_commit"]
    assert hub.asked[0][2] == {"private": True, "exist_ok": True} and hub.asked[1][1:] == ("me/faq", {"write": True})
    files = hub.asked[-1][2]
    assert {"adapter_config.json", "adapter_model.safetensors", "tunesmith.yaml", "README.md"} <= set(files)
    text = files["README.md"].path_or_fileobj.decode()
    assert "library_name: peft" in text and "pico, tuned by sft with lora" in text and "- Steps: 2" in text
    assert done["pushed"] == "https://hub/me/faq/commit/1" and "On the hub: https://hub/me/faq" in done.text


def test_nothing_is_asked_without_the_key(hub):
    assert "pushed" not in train(out="run", **{**KEYS, "push": None})
    assert hub.asked == []


def test_a_name_without_an_owner_is_the_owners(hub):
    train(out="run", **{**KEYS, "push": "faq"})
    assert [name for _, name, _ in hub.asked] == ["faq", "me/faq", "faq", "me/faq"]


def test_to_repeat_is_not_to_publish_again(hub):
    train(out="run", **KEYS)
    hub.asked.clear()
    rerun("run", out="again", quiet=True)
    assert hub.asked == []


def test_a_chain_says_which_stage_is_published(hub):
    with pytest.raises(ProjectError, match="push is set for all stages"):
        chain({"model": "pico", "push": "me/faq", "data": "faq.jsonl", "stages": {"one": {"steps": 1}}}, out="chained")


@pytest.mark.parametrize("call", ["create_repo", "auth_check"])
def test_a_refusal_comes_before_training(hub, call):
    hub.refuse = call
    with pytest.raises(ProjectError, match="push: me/faq: the hub said no: 401 Client Error.") as caught:
        train(out="run", **KEYS)
    assert "HF_TOKEN" in caught.value.wanted and not Path("run/events.jsonl").exists()


def test_a_lost_upload_loses_no_run_and_can_be_done_again(hub):
    hub.refuse = "create_commit"
    with pytest.raises(ProjectError) as caught:
        train(out="run", **KEYS)
    assert "kept in run" in caught.value.fix and RunFolder.open("run").manifest()["status"] == "finished"
    hub.refuse = ""
    assert train(None, resume="run", quiet=True)["pushed"].startswith("https://hub/me/faq")


def test_what_no_other_tool_loads_is_not_pushed(hub):
    with pytest.raises(SettingError, match="push is set, but method=features"):
        train(out="run", **{**KEYS, "method": "features", "adapter": "full"})
