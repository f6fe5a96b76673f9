"""The card of a base: what check and explain say of a model before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tunesmith
from tunesmith.api.model_card import card_of
from tunesmith.core.errors import ModelError
from tunesmith.model.load import load
from tunesmith.model.save import save

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
QUICK = {"quiet": True, "train.steps": 1, "train.sample": 0}


@pytest.fixture
def made(folder: Path) -> Path:
    """A folder of two matrices and a table: 8 x 4 and 4 x 8 in bf16 in a layer, 10 x 4 in fp32."""
    place = folder / "made"
    place.mkdir()
    tensors = {
        "model.layers.0.up.weight": torch.zeros(8, 4, dtype=torch.bfloat16),
        "model.layers.0.down.weight": torch.zeros(4, 8, dtype=torch.bfloat16),
        "model.embed_tokens.weight": torch.zeros(10, 4),
    }
    save_file(tensors, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 77}))
    return place


def test_a_made_folder_by_hand(made: Path):
    card = card_of("made", made.parent, rank=3)
    assert card["parameters"] == 32 + 32 + 40 and card["format"] == "fp32 and bf16"
    assert card["bytes"] == (made / "model.safetensors").stat().st_size
    assert card["context"] == 77 and card["licence"] is None and card["untuned"] == []
    weights, lora = 104, 3 * (8 + 4) * 2
    assert card["memory"] == {
        "run": {"fp32": round(weights * 4 * 1.2), "bf16": round(weights * 2 * 1.2)},
        "rank": 3,
        "lora": 4 * weights + 4 * lora + 12 * lora,
        "full": 4 * weights + 12 * weights,
    }


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"README.md": "---\nlanguage: en\nlicense: mit\n---\n# It\n"}, ("mit", "README.md")),
        ({"README.md": "---\nlicense: other\nlicense_name: mine-1.0\n---\n"}, ("mine-1.0", "README.md")),
        (
            {"README.md": "# license: mit\n", "LICENSE": "\n  Apache License\n  Version 2.0\n"},
            ("Apache License", "LICENSE"),
        ),
        ({"LICENCE.txt": "BSD 3-Clause\n"}, ("BSD 3-Clause", "LICENCE.txt")),
        ({"README.md": "---\n---\nno word of it"}, None),
    ],
    ids=str,
)
def test_the_licence_is_what_the_folder_says(made: Path, files: dict, wanted):
    for name, text in files.items():
        (made / name).write_text(text)
    found = card_of("made", made.parent)["licence"]
    assert (found and (found["name"], found["from"])) == wanted


@pytest.mark.parametrize("name", ["pico", "pico-encoder", "pico-t5", "mini-encoder"])
def test_names_of_ours_without_a_folder(folder: Path, name: str):
    card = tunesmith.check({}, model=name)["card"]
    net = tunesmith.load(name).net
    assert card["parameters"] == sum(p.numel() for p in net.parameters()) and card["bytes"] is None
    assert card["licence"]["name"] == "Apache-2.0" and card["context"] == (
        None if name == "pico-t5" else card["context"]
    )
    assert "made here from a seed" in tunesmith.check({}, model=name).text


def test_mini_says_what_its_readme_says(folder: Path):
    card = tunesmith.explain("mini")["found"]["model"]
    assert card["licence"] == {"name": "apache-2.0", "from": "README.md"} and card["context"] == 1024
    assert card["format"] == "bf16" and f"{card['parameters']:,}" in Path(card["folder"], "README.md").read_text()
    text = tunesmith.explain("mini").text
    assert text.startswith("mini: a model\n\n  parameters  ") and "to tune     LoRA of rank" in text
    assert "untuned     not scored yet" in text


def test_loras_part_is_what_a_run_trains(folder: Path):
    from tunesmith.adapters.lora import Lora
    from tunesmith.adapters.store import attach

    for name in ("pico", "pico-encoder"):
        model = tunesmith.load(name)
        attach(Lora(rank=5), model)
        trained = sum(p.numel() for p in model.net.parameters() if p.requires_grad)
        card = card_of(name, folder, rank=5)
        assert card["memory"]["lora"] == 4 * card["parameters"] + 16 * trained, name
    assert tunesmith.check({}, model="pico", adapter={"lora": {"rank": 5}})["card"]["memory"]["rank"] == 5


def test_packed_weights_count_as_what_they_stand_for(folder: Path):
    whole = load("pico")
    save(whole.net, whole.tokenizer, folder / "whole")
    known = card_of("whole", folder)
    for kind in ("nf4", "int8"):
        small = load("pico", base=kind)
        save(small.net, small.tokenizer, folder / kind)
        card = card_of(kind, folder)
        assert card["parameters"] == known["parameters"] and kind in card["format"]
        assert card["memory"]["full"] is None and card["memory"]["lora"] < known["memory"]["lora"]
        assert [*card["memory"]["run"]] == [card["format"]]


def test_an_untuned_score_in_runs_is_shown_with_its_interval(folder: Path):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert tunesmith.check({}, model="pico")["card"]["untuned"] == []
    scored = tunesmith.eval(
        None,
        data="rows.jsonl",
        model="pico",
        metrics=["token_f1"],
        quiet=True,
        **{"data.test": 4, "generate.max_tokens": 2},
    )
    tunesmith.train(data="rows.jsonl", model="pico", **QUICK)  # a tuned run is not its base's score
    (one,) = tunesmith.check({}, model="pico")["card"]["untuned"]
    wanted = scored["metrics"]["token_f1"]
    assert one["metric"] == "token_f1" and one["run"] == scored["run"] and one["n"] == 4
    assert (one["value"], one["low"], one["high"]) == (wanted["value"], wanted["low"], wanted["high"])
    assert "untuned     token_f1 " in tunesmith.explain("pico").text and scored["run"] in tunesmith.explain("pico").text
    assert tunesmith.explain("mini")["found"]["model"]["untuned"] == []


def test_a_run_and_its_adapter_stand_on_their_base(folder: Path):
    full = tunesmith.train(data=ROWS, model="pico", adapter="full", out="full", **QUICK)["run"]
    save_to = load("pico")
    save(save_to.net, save_to.tokenizer, folder / "base")
    lora = tunesmith.train(data=ROWS, model="base", out="lora", **QUICK)["run"]
    pico = card_of("pico", folder)["parameters"]
    assert [card_of(name, folder)["parameters"] for name in (full, lora, "lora/adapter")] == [pico] * 3
    assert card_of(lora, folder)["folder"].endswith("base")


def test_a_folder_is_explained_by_its_name_or_path(made: Path):
    for name in ("made", "./made", str(made)):
        found = tunesmith.explain(name)["found"]
        assert [*found] == ["model"] and found["model"]["parameters"] == 104
    (made.parent / "lora").mkdir()
    for path in made.iterdir():
        (made.parent / "lora" / path.name).write_bytes(path.read_bytes())
    assert [*tunesmith.explain("lora")["found"]][:2] == ["model", "adapters"], "a word of several meanings gives all"


def test_what_has_no_card_and_what_is_damaged(made: Path):
    assert card_of("nothing", made.parent) is None
    Path("empty").mkdir()
    assert tunesmith.check({}, model="empty")["card"] is None
    assert tunesmith.check({}, model="nobody/knows-this-model")["card"] is None
    (made / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError, match="are damaged"):
        tunesmith.check({}, model="made")
