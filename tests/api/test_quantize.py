"""The verb quantize: a folder that every other verb opens, a report that is true, and nothing of the user's written over."""

import json
from pathlib import Path

import pytest
import torch

from tunesmith.api.load import load
from tunesmith.api.quantize import quantize
from tunesmith.api.train import train
from tunesmith.cli import main
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load as load_kind
from tunesmith.model.packed import kind_of, packed_layers
from tunesmith.model.save import save

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(40)]
QUICK = {"train.steps": 2, "train.sample": 0, "train.lr": 0.05, "generate.max_tokens": 8}


def logits(model):
    with torch.no_grad():
        return model.net(input_ids=torch.arange(40, 70)[None], use_cache=False).logits


def test_a_run_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    train(data=ROWS, model="pico", out="run", quiet=True, metrics=["exact_match", "token_f1"], **QUICK)
    assert main(["quantize", "run", "bits=8", "--quiet", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    where = Path("run/int8")
    assert report == json.loads((where / "quantize.json").read_text()) and report["out"] == "run/int8"
    assert not list(Path("run").glob(".int8*")), "what was written beside is gone"

    small, whole = load(where), load("run", merge=True)
    assert kind_of(small.net) == "int8" and len(packed_layers(small.net)) == report["layers"] == 7
    away = (logits(small) - logits(whole)).abs().max()
    assert 0 < away < 0.05 * logits(whole).abs().max()
    assert report["on_disk"]["file"] == (where / "model.safetensors").stat().st_size
    assert report["on_disk"]["matrices"] == report["bytes"]["int8"]["matrices"]

    change = report["change"]
    assert report["measured_on"] == "the dev rows of run" and change["texts"] == 4
    assert 0 < change["kl"] < 1e-3
    assert change["perplexity_after"] / change["perplexity_before"] == pytest.approx(change["perplexity_ratio"])
    scores = report["scores"]["comparisons"]
    assert [one["metric"] for one in scores] == ["exact_match", "token_f1"] and report["scores"]["n"] == 4
    assert (where / "evals" / "test.json").is_file() and (where / "evals" / "before.json").is_file()

    assert main(["chat", str(where), "--message", "hello", "--max-tokens", "4"]) == 0
    assert main(["quantize", "run", "bits=8"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["quantize", str(where), "out=again"]) == 2
    assert "quantised already, as int8" in capsys.readouterr().err

    # it is a base for LoRA, which opens again over the packed matrices; and no base for training all weights
    train(data=ROWS, model=str(where), out="beside", quiet=True, adapter="lora", **QUICK)
    beside = load("beside")
    assert kind_of(beside.net) == "int8" and beside.adapter is not None
    assert not torch.equal(logits(beside), logits(small))
    with pytest.raises(SettingError, match="quantised as int8: its weights are frozen"):
        train(data=ROWS, model=str(where), out="whole", quiet=True, adapter="full", **QUICK)


def test_texts_of_ones_own_and_what_stays(folder: Path):
    Path("texts.jsonl").write_text(
        "".join(json.dumps({"text": f"The river is {n} miles long."}) + "\n" for n in range(12))
    )
    report = quantize(
        "pico",
        bits=4,
        data="texts.jsonl",
        keep="mlp.down_proj",
        precision="fp32",
        rows=10,
        out="deep/small",
        quiet=True,
    )
    assert report["kind"] == "nf4" and report["change"]["texts"] == 10
    assert report["measured_on"] == "10 of 12 rows: texts.jsonl"
    assert any("asked for" in kept["why"] for kept in report["kept"])
    assert "is no run" in report["scores"]["why"]
    small, whole = load("deep/small"), load("pico")
    assert torch.equal(small.net.model.layers[0].mlp.down_proj.weight, whole.net.model.layers[0].mlp.down_proj.weight)
    assert "perplexity" in report.text and "KL" in report.text and "16-bit" in report.text
    assert sorted(p.name for p in Path("deep").iterdir()) == ["small"]


def test_mistakes_are_told_and_leave_nothing(folder: Path):
    for keys, said in [
        ({"bits": 3}, "bits is 3"),
        ({"kind": "int9"}, "int9"),
        ({"kind": "nf4", "bits": 8}, "nf4, which has 4 bits"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"keep": "no_such"}, "keep=no_such"),
        ({"rows": 0}, "rows is 0"),
    ]:
        with pytest.raises(SettingError, match=said):
            quantize("pico", **keys)
    t5 = load_kind("pico-t5", kind="seq2seq")
    save(t5.net, t5.tokenizer, folder / "t5")
    with pytest.raises(ModelError, match="kind seq2seq"):
        quantize("t5")
    assert main(["quantize", "pico", "kind=fp5"]) == 2
    assert [path.name for path in folder.iterdir()] == ["t5"]


def test_stopped_before_the_end_it_asks_no_row_twice(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from tunesmith.model import save as saving

    train(data=ROWS, model="pico", out="run", quiet=True, metrics=["exact_match"], **QUICK)
    whole = saving.replace_folder

    def stop(part, place):
        if place == Path("small"):
            raise KeyboardInterrupt
        whole(part, place)

    monkeypatch.setattr(saving, "replace_folder", stop)
    with pytest.raises(KeyboardInterrupt):
        quantize("run", out="small", quiet=True)
    assert not Path("small").exists()
    monkeypatch.setattr(saving, "replace_folder", whole)
    quantize("run", out="small", quiet=True)
    for name in ("before", "test"):
        assert json.loads(Path("small/evals", f"{name}.json").read_text())["cost"]["asked_now"] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["run", "small"]


def test_a_classifier_keeps_its_labels(folder: Path):
    rows = [
        {"text": f"{word} {n}", "label": label}
        for n in range(20)
        for word, label in (("ball", "sport"), ("vote", "news"))
    ]
    keys = {**QUICK, "method": "classify", "metrics": ["accuracy"]}
    train(data=rows, model="pico", out="run", quiet=True, **keys)
    report = quantize("run", quiet=True)
    small, whole = load("run/int8"), load("run", merge=True)
    assert small.kind == "classify" and small.labels == whole.labels
    assert report["change"]["rows"] == 4 and 0 <= report["change"]["kl"] < 1e-3 and report["change"]["same_choice"] == 1
    assert [one["metric"] for one in report["scores"]["comparisons"]] == ["accuracy"]
    assert any("task" in kept["why"] for kept in report["kept"]) and "the same label" in report.text
