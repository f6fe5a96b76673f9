"""device: where a project computes. No GPU here: what torch says of one is put in its mouth, and what load receives is looked at."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tunesmith
from tunesmith.api import build
from tunesmith.api import device as devices
from tunesmith.api.build import packed_as, read_as
from tunesmith.api.config import resolve
from tunesmith.api.device import machine, memory, place, take
from tunesmith.api.planner import Planner
from tunesmith.cli import main
from tunesmith.core.errors import DataError, SettingError
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.plan.devices import GPUS
from tunesmith.train import defaults

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
PAIRS = [{"prompt": f"Say {i}", "chosen": f"{i}", "rejected": "no"} for i in range(14)]
SMALL = {"model": "pico", "quiet": True, "train.steps": 1, "train.sample": 0, "data.test": 4}


class Here(str):
    """The processor, under a word that can be told from every other "cpu"."""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """torch finds so many GPUs; this process is alone."""

    def put(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    for name in ("WORLD_SIZE", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return put


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch):
    """Every model that is loaded from here on, as (its name, the device it was given); all of them on what `device` chose."""
    from tunesmith.adapters import store
    from tunesmith.model import load as module

    seen: list[tuple[str, object]] = []
    here = Here("cpu")
    monkeypatch.setattr(devices, "take", lambda wanted: here)
    true = module.load

    def load(name, **settings):
        seen.append((str(name), settings.get("device")))
        return true(name, **settings)

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(store, "load", load)
    yield seen
    assert seen and all(given is here for _, given in seen), seen


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert place("auto") == place("cpu") == "cpu"
    gpus(2)
    assert place("auto") == place("cuda") == "cuda" and place("cuda:1") == "cuda:1" and place("cpu") == "cpu"
    assert resolve({})[0].device == "auto" and resolve({}, device="cuda:1")[1]["device"] == "cuda:1"


def test_each_of_several_processes_has_its_own_card(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert place("auto") == place("cuda") == "cuda:1" and place("cpu") == "cpu"
    with pytest.raises(SettingError, match="several processes train together"):
        place("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(SettingError, match="finds only 2 GPUs"):
        place("auto")
    monkeypatch.delenv("WORLD_SIZE")
    assert place("auto", process=1) == "cuda:1"
    with pytest.raises(SettingError, match="Start 2 processes"):
        place("auto", process=3)


def test_a_card_that_is_taken_is_torchs_current_one(gpus, monkeypatch):
    gpus(3)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert [take("cuda:2"), take("auto"), take("cpu")] == ["cuda:2", "cuda", "cpu"]
    assert current == ["cuda:2"]


@pytest.mark.parametrize(
    ("wanted", "cards", "said"),
    [
        ("cuda", 0, "device is cuda, but torch finds no GPU on this machine"),
        ("cuda:0", 0, "device is cuda:0, but torch finds no GPU"),
        ("cuda:1", 1, "device is cuda:1, but torch finds only 1 GPU, counted from 0"),
        ("gpu", 1, "device is gpu"),
        ("cuda:x", 1, "auto, cpu, cuda, or one card"),
    ],
)
def test_what_is_not_there_is_told(gpus, wanted, cards, said):
    gpus(cards)
    with pytest.raises(SettingError, match=said):
        place(wanted)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "data=rows.jsonl", "model=pico", "device=cuda", "out=run"],
        ["train", "data=rows.jsonl", "model=pico", "device=cuda", "out=run", "--nproc", "2"],
        ["eval", "data=rows.jsonl", "model=pico", "device=cuda", "out=run"],
        ["chat", "pico", "--message", "hello", "--device", "cuda"],
        ["teach", "pico", "rows.jsonl", "device=cuda"],
        ["demo", "model=pico", "device=cuda", "out=run"],
        ["data", "rows.jsonl", "device=gpu"],
    ],
    ids=" ".join,
)
def test_the_command_line_says_so_in_one_line_and_leaves_nothing(folder: Path, gpus, words, capsys):
    gpus(0)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "device is " in said and "Traceback" not in said
    assert not Path("run").exists() and not Path("taught.jsonl").exists()


def test_training_goes_on_and_is_scored_where_device_says(folder: Path, loaded):
    run = tunesmith.train(data=ROWS, out="run", **SMALL)["run"]
    assert json.loads(Path(run, "manifest.json").read_text())["device"] == "cpu"
    tunesmith.eval(run, quiet=True, **{"eval.panel": True, "eval.rows": 2, "generate.max_tokens": 2, "device": "cpu"})
    tunesmith.chat(run, message="hello", max_tokens=2)
    Path(run, "manifest.json").write_text(Path(run, "manifest.json").read_text().replace('"finished"', '"stopped"'))
    tunesmith.train(resume=run, quiet=True)
    assert [name for name, _ in loaded].count("pico") >= 5  # train, eval, panel, chat, resume


def test_teachers_and_reward_models_are_beside_the_network(folder: Path, loaded):
    judge = tunesmith.train(data=PAIRS, method="reward", out="judge", adapter="full", **SMALL)["run"]
    tunesmith.train(
        data=ROWS, method={"ppo": {"reward": {"model": judge}, "max_tokens": 3}}, out="ppo", **SMALL, batch_size=2
    )
    tunesmith.train(data=ROWS, method={"distill": {"teacher": "pico"}}, out="taught", **SMALL)
    tunesmith.eval(
        "taught", quiet=True, metrics=[{"reward": {"model": judge}}],
        **{"eval.rows": 2, "generate.max_tokens": 2, "eval.panel": False},
    )  # fmt: skip
    assert [Path(name).name for name, _ in loaded if "judge" in name] == ["model", "model"]
    Path("prompts.jsonl").write_text('{"prompt": "Say 1"}\n{"prompt": "Say 2"}\n')
    before = len(loaded)
    with pytest.raises(DataError, match="none of the 2 answers"):  # it knows nothing worth learning
        tunesmith.teach("pico", "prompts.jsonl", max_tokens=3)
    assert len(loaded) == before + 1


def test_a_chains_table_is_measured_there(folder: Path, loaded):
    Path("chain.yaml").write_text(
        "model: pico\nadapter: full\ntrain: {steps: 1, sample: 0}\ndata: {path: rows.jsonl, test: 4}\n"
        "stages: {one: {method: sft}, two: {method: sft}}\ncompare: {rows: 2, max_tokens: 2}\n"
    )
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tunesmith.chain("chain.yaml", quiet=True, device="cpu")
    assert len(loaded) >= 5  # two trainings, then the base and both


def test_a_demo_hands_it_to_all_of_its_steps(folder: Path, loaded, monkeypatch):
    from tunesmith.api import demo, train
    from tunesmith.evals import panel

    asked = []
    monkeypatch.setattr(train, "train", lambda *a, **keys: asked.append(keys["device"]) or _stop())
    one = demo.Demo(demo.TASKS["banking77"], "en", 1.0, 4, "pico", Path("demo"), 0, "auto")
    with pytest.raises(StopIteration):
        one.tune("lora", Path("tunesmith.yaml"), 0.3)
    assert asked == ["auto"], "the run keeps the word, and finds its device anew when it goes on elsewhere"
    monkeypatch.setattr(panel, "run_panel", lambda model: model.policy.device.type)
    monkeypatch.setattr(panel, "compare_panels", lambda *a, **k: [])
    assert one.panel({}) == [] and len(loaded) == 1


def _stop():
    raise StopIteration


def test_memory_is_that_of_what_computes(monkeypatch):
    class Card:
        total_memory = 24 << 30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: {"cuda:1": Card}[device])
    assert memory("cuda:1") == 24 << 30 and memory("cpu") > 1 << 20


def test_a_run_on_a_card_is_planned_for_the_card(folder: Path, monkeypatch):
    from tunesmith.api.plan import planned

    parts = tunesmith.build({}, data=ROWS, model="pico", out="run", **{"train.steps": 1})
    parts.device = "cuda:1"
    monkeypatch.setattr(devices, "memory", lambda device: {"cuda:1": 24 << 30}[device])
    monkeypatch.setattr(devices, "card", lambda device: "H100")
    assert "of 24.0 GiB" in planned(parts)
    plan = json.loads(Path("run/plan.json").read_text())
    assert plan["forecast"]["allocated"] > 0 and plan["forecast"]["reserved"] >= plan["forecast"]["allocated"]


def test_a_plan_without_a_name_is_for_the_device_that_the_project_takes(gpus, monkeypatch):
    gpus(0)
    assert not machine(place("auto")).cuda and machine("cpu", 2).memory == machine("cpu", 1).memory // 2
    gpus(1)
    monkeypatch.setattr(devices, "card", lambda _: "Tesla T4")
    monkeypatch.setattr(devices, "memory", lambda _: 15 << 30)
    monkeypatch.setattr(defaults, "precision", lambda _: "fp32")
    planner = Planner.of(None, None, keys={"model": "pico", "length": 32})
    assert planner.device.cuda and planner.device.memory == 15 << 30 and not planner.device.bf16
    assert planner.device.flops == GPUS["t4"].flops and planner.device.name == "Tesla T4"
    assert not Planner.of(None, None, keys={"model": "pico", "length": 32, "device": "cpu"}).device.cuda


def test_a_frozen_base_is_read_on_a_card_as_it_trains():
    lora, full = (SimpleNamespace(file=file) for file in ("adapter", "model"))
    assert read_as("bf16", lora, "cuda") == "bf16" and read_as("fp16", lora, "cuda:1") == "fp16"
    assert {read_as("bf16", lora, "cpu"), read_as("fp32", lora, "cuda"), read_as("bf16", full, "cuda")} == {"fp32"}
    assert {read_as("bf16", lora, "cuda", base="nf4"), read_as("bf16", lora, "cuda", fits=True)} == {"fp32"}


def test_a_base_is_packed_on_its_way_to_a_card_where_the_adapter_would_pack_it_there(tmp_path):
    qlora, lora = SimpleNamespace(file="adapter", base="nf4"), SimpleNamespace(file="adapter")
    assert packed_as("", qlora, "pico", "cuda") == "nf4" and packed_as("", qlora, "pico", "cpu") == ""
    assert packed_as("int8", qlora, "pico", "cuda") == "int8" and packed_as("", lora, "pico", "cuda") == ""
    tunesmith.load("pico")  # a folder in eight bits stays so
    model = load("pico", base="int8")
    save(model.net, model.tokenizer, tmp_path / "int8")
    assert packed_as("", qlora, str(tmp_path / "int8"), "cuda") == ""


def test_what_is_read_in_16_bits_trains_in_fp32(monkeypatch, tmp_path):
    """As on a card, on the processor: the frozen base in bf16, adapters and heads in fp32, the result as usual."""
    monkeypatch.setattr(build, "read_as", lambda precision, *_, **__: precision)
    rows = [{"text": f"say {n}", "label": "xy"[n % 2]} for n in range(12)]
    done = tunesmith.train(
        data=rows, model="pico", method="classify", adapter="lora", out=str(tmp_path / "run"), quiet=True,
        **{"train.precision": "bf16", "train.steps": 3, "train.eval_every": 3, "data.dev": 2, "data.test": 2},
    )  # fmt: skip
    assert done["status"] == "finished" and tunesmith.eval(done["run"], quiet=True)["metrics"]
