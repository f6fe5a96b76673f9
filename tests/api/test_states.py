"""The three states of a tuned model, and a run as it was at an earlier checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from tunesmith.adapters.store import merge, open_run
from tunesmith.api.runs import runs
from tunesmith.api.states import states_of
from tunesmith.api.train import train
from tunesmith.core.errors import ProjectError

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
KEYS = {
    "train.steps": 4,
    "train.eval_every": 1,
    "train.keep": 9,
    "train.sample": 0,
    "train.batch_size": 4,
    "train.lr": 0.05,
}


def test_what_changed_is_measured_on_the_weights(folder: Path):
    train(data=ROWS, model="pico", adapter="full", out="runs/first", quiet=True, **KEYS)
    train(data=ROWS, model="runs/first", out="runs/second", quiet=True, **KEYS)
    first, second = states_of(Path("runs/first")), states_of(Path("runs/second"))
    assert first["pretrained"] | {"parameters": 0} == {
        "model": "pico", "made_by": None, "merged_adapter": False, "parameters": 0,
    }  # fmt: skip
    assert first["transfer"]["frozen"] == 0 and first["tuned"]["new"] == []
    before, after = open_run("pico").net.state_dict(), open_run("runs/first").net.state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    moved = (after[name].double() - before[name].double()).norm() / before[name].double().norm()
    assert first["tuned"]["modules"]["layers.self_attn.q_proj"]["changed"] == pytest.approx(float(moved))
    # the adapter's run: made by the first one, its frozen modules bit-identical, its own adapter's share told
    assert Path(second["pretrained"]["made_by"]).name == "first" and second["transfer"]["frozen"] > 0
    assert second["tuned"]["modules"]["embed_tokens"]["changed"] == 0 and second["tuned"]["changed"] > 0
    assert second["pretrained"]["parameters"] == second["transfer"]["frozen"]
    text = runs("second").text
    assert "1 pre-trained   runs/first, made by the run first" in text and "2 for transfer  sft with lora" in text
    assert "3 fine-tuned    4 steps" in text and "to the last bit" in text
    assert json.loads(Path("runs/second/states.json").read_text()) == second == states_of(Path("runs/second"))


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_rolling_back_to_a_checkpoint_gives_the_run_that_ended_there(folder: Path, adapter: str):
    keys = {**KEYS, "train.schedule": "constant", "train.warmup": 0.0}
    train(data=ROWS, model="pico", adapter=adapter, out="runs/long", quiet=True, **keys)
    train(data=ROWS, model="pico", adapter=adapter, out="runs/short", quiet=True, **{**keys, "train.steps": 2})
    found = runs("long", checkpoint=2, name="current")
    assert found["run"] == "runs/long-step-2"
    old, short = merge(open_run("@current")).net, merge(open_run("runs/short")).net
    for (name, one), other in zip(old.state_dict().items(), short.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    facts = runs("@current")
    assert facts["parent"] == "long" and [Path(path).name for path in facts["lineage"]] == ["long"]
    assert runs("long", checkpoint=2, name="current")["run"] == "runs/long-step-2"  # made once
    with pytest.raises(ProjectError, match="no checkpoint of step 7"):
        runs("long", checkpoint=7, name="current")


def test_a_name_is_settled_when_a_project_is_read(folder: Path):
    from tunesmith.api.config import resolve

    train(data=ROWS, model="pico", out="runs/first", quiet=True, **{**KEYS, "train.steps": 1})
    runs("first", name="current")
    project, filled, _ = resolve({"model": "@current"})
    assert Path(project.model) == folder / "runs/first" and filled["model"] == project.model
    with pytest.raises(ProjectError, match="No run is named best"):
        resolve({"model": "@best"})


@pytest.mark.parametrize(
    ("model", "keys", "share", "new"),
    [
        ("pico", {"adapter": {"prompt": {"virtual": 3}}}, None, ["model.embed_tokens.prompt"]),
        ("pico", {"adapter": {"prefix": {"virtual": 3}}}, None, ["model.prefix.prompt"]),
        ("pico", {"adapter": {"bottleneck": {"size": 4}}}, None, 8),
        ("pico-encoder", {"method": "masked"}, float, []),
        ("pico-t5", {"method": "seq2seq", "data": "pairs"}, float, []),
        (
            "pico-encoder",
            {"method": "classify", "data": "titles", "adapter": "full"},
            float,
            4,
        ),  # the pooler and the labels
        ("pico", {"method": "embed", "data": "pairs"}, float, []),
        ("pico", {"method": "features", "data": "titles"}, None, ["features"]),
    ],
)
def test_runs_of_every_kind_have_their_states(folder: Path, model: str, keys: dict, share: type | None, new: object):
    data = {
        "masked": [{"text": f"The law number {i} says that {i} apples are {3 * i} coins."} for i in range(14)],
        "pairs": [{"text": f"item {i}", "text2": f"thing {i}"} for i in range(14)],
        "titles": [{"text": f"{'goal' if i % 2 else 'law'} {i}", "label": "ab"[i % 2]} for i in range(14)],
    }
    given = data.get(keys.get("data") or keys.get("method", ""), ROWS)
    train(
        **{
            "model": model,
            "adapter": "lora",
            "out": "runs/one",
            "quiet": True,
            **KEYS,
            "train.lr": 1e-3,
            **keys,
            "data": given,
        }
    )
    tuned = states_of(Path("runs/one"))["tuned"]
    if share is None:
        assert tuned["changed"] is None and not any(one["changed"] for one in tuned["modules"].values())
    else:
        assert 0 < tuned["changed"] < 1
    assert len(tuned["new"]) == new if isinstance(new, int) else tuned["new"] == new
    text = runs("one").text
    assert "3 fine-tuned" in text and (share is not None) == ("the weights moved" in text)
