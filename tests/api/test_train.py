"""The verb train, end to end with pico: shapes of rows, settings, what it leaves in the run folder, and going on."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.train import effective_batch, train
from tunesmith.core.errors import DataError, ProjectError, SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.report.labels import speaker

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
]


LIKES_E = (
    '"""likes_e: the share of letters e."""\n\nfrom dataclasses import dataclass\nfrom tunesmith.metrics import mean_summary\n\n\n'
    "@dataclass(frozen=True)\nclass LikesE:\n    def score(self, prediction, row):\n"
    "        return (prediction.count('e') + 1) / (len(prediction) + 1)\n\n"
    "    def summary(self, values):\n        return mean_summary(values)\n"
)


def small(**keys: Any) -> dict[str, Any]:
    return {
        "model": "pico",
        "quiet": True,
        "train.steps": 2,
        "train.sample": 2,
        "adapter": {"lora": {"rank": 2}},
        **keys,
    }


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def events(run: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in RunFolder.open(run).journal("events.jsonl") if event["kind"] == kind]


def called(number: int) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": number}}}
    return {
        "tools": TOOLS,
        "messages": [
            {"role": "user", "content": f"add {number}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": str(number), "tool_call_id": "1"},
            {"role": "assistant", "content": f"It is {number}."},
        ],
    }


@pytest.mark.parametrize(
    "keys",
    [
        {"precision": "bf16"},
        {"precision": "bf16", "adapter": "full"},
        {"train.order": "file", "train.checkpointing": True},
        {"train.steps": None, "train.minutes": 0.002, "train.batch_size": 4},
        {"data": {"path": "rows.jsonl", "dev": 0, "test": 0}},
    ],
    ids=lambda keys: " ".join(keys),
)  # fmt: skip
def test_settings_that_train(folder: Path, keys: dict[str, Any]):
    write("rows.jsonl", ROWS)
    result = train(out="run", **small(**{"data": "rows.jsonl", **keys}))
    assert result["status"] == "finished"
    assert result["steps"] >= 1
    assert result["last_loss"] > 0
    assert (result["best_dev_loss"] is None) == ("data" in keys)
    parts = json.loads(Path("run/parameters.json").read_text())
    assert (parts["frozen"] == 0) == (keys.get("adapter") == "full")


@pytest.mark.parametrize("base", ["int8", "nf4", "streamed"])
def test_weights_that_are_no_parameters_of_torch_are_counted(folder: Path, base: str):
    write("rows.jsonl", ROWS)
    made = load("pico")
    save(made.net, made.tokenizer, Path("pico-here"), dtype="fp32")  # what is streamed is read from its file
    counts = []
    for name, keys in (("plain", {}), ("packed", {"base": base})):
        train(out=name, **small(model="pico-here", data="rows.jsonl", adapter="lora", **keys))
        counts.append(json.loads(Path(f"{name}/parameters.json").read_text()))
    plain, packed = counts
    assert packed["trainable"] == plain["trainable"] > 0
    assert packed["frozen"] == plain["frozen"] > plain["trainable"]
    assert sum(each["frozen"] for each in packed["modules"].values()) == plain["frozen"]


def test_shapes_that_train(folder: Path):
    Path("rows.csv").write_text("text,category\n" + "".join(f"hello {i},c{i % 3}\n" for i in range(14)))
    template = {"prompt": "{{ text }}", "answer": '{"intent": "{{ category }}"}'}
    for name, data in {
        "csv": {"path": "rows.csv", **template},
        "tools": write("tools.jsonl", [called(i) for i in range(12)]),
    }.items():
        assert train(data=data, out=name, **small())["status"] == "finished"
    row = RunFolder.open("csv").path / "data" / "train.jsonl"
    assert '{\\"intent\\": \\"c' in row.read_text()


def test_pretrain_on_a_folder_of_texts(folder: Path):
    Path("texts").mkdir()
    for i in range(6):
        Path(f"texts/{i}.txt").write_text(f"Once there were {i} cats. " * 60)
    result = train(data="texts", method="pretrain", out="run", **small(adapter="full"))
    assert result["status"] == "finished"
    card = RunFolder.open("run").read_json("data/card.json")
    assert card["kind"] == "text" and card["counts"]["rows_in"] == 6


def test_early_stopping_says_why(folder: Path):
    keys = small(**{"train.early_stopping": 1, "train.eval_every": 1, "train.steps": 9, "train.lr": 1e-12})
    result = train(data=write("rows.jsonl", ROWS), out="run", **keys)
    assert result["steps"] < 9
    assert events("run", "early_stop")[0]["best_step"] == result["best_step"]


def test_rows_that_begin_with_an_answer_have_no_sample(folder: Path):
    rows = [{"messages": [{"role": "assistant", "content": f"Hello {i}."}]} for i in range(12)]
    train(data=write("rows.jsonl", rows), out="run", **small())
    assert all("samples" not in event for event in events("run", "eval"))


def test_rows_left_out_are_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    write("rows.jsonl", [*ROWS, *({"question": "long " * 200 + str(i), "answer": "yes"} for i in range(5))])
    train(
        data={"path": "rows.jsonl", "dev": 0, "test": 0}, out="run", **small(length=300, too_long="drop", quiet=False)
    )
    assert "left out  5 train rows" in capsys.readouterr().err
    dropped = [drop for drop in RunFolder.open("run").journal("data/dropped.jsonl") if drop["by"] == "tokenise"]
    assert len(dropped) == 5 and dropped[0]["reason"] == "too long"


def test_rows_lost_while_tokenising_are_in_the_counts(folder: Path):
    """rows_out are what is trained, evaluated and tested on, and every count adds up, by source as in all."""
    write("rows.jsonl", [*ROWS, *({"question": "long " * 200 + str(i), "answer": "yes"} for i in range(5))])
    data = {"path": "rows.jsonl", "dev": 4, "test": 3}
    result = train(data=data, out="run", **small(length=300, too_long="drop"))
    lost = [drop for drop in RunFolder.open("run").journal("data/dropped.jsonl") if drop["by"] == "tokenise"]
    counts, source = result["counts"], result["counts"]["by_origin"]["rows.jsonl"]
    assert lost and counts["rows_in"] == 19 and counts["rows_out"] == 19 - len(lost)
    assert (source["rows_out"], source["rows_dropped"]) == (counts["rows_out"], counts["rows_dropped"])
    assert source["reasons"] == {"too long": len(lost)} and counts["rows_trimmed"] == 0
    again = train(resume="run", quiet=True)
    assert again["counts"] == counts


def test_prompts_that_were_cut_are_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    write("rows.jsonl", [*ROWS, *({"question": "long " * 200 + str(i), "answer": "yes"} for i in range(5))])
    data = {"path": "rows.jsonl", "dev": 0, "test": 0}
    result = train(data=data, out="run", **small(length=300, too_long="trim_prompt", quiet=False))
    assert "cut  5 train rows lost the beginning of their prompt (too_long=trim_prompt)" in capsys.readouterr().err
    assert result["counts"]["rows_trimmed"] == 5 and result["counts"]["rows_dropped"] == 0
    assert json.loads(Path("run/data/train_too_long.json").read_text())["trimmed"] == 5


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_pairs_that_were_cut_are_counted_as_rows(folder: Path, method: str):
    rows = [{"prompt": f"{'very ' * 80 * (i % 2)}long {i}?", "chosen": "Yes.", "rejected": "No!"} for i in range(10)]
    data = {"path": write("rows.jsonl", rows), "dev": 0, "test": 0}
    result = train(data=data, method=method, out="run", **small(length=200, too_long="trim_prompt"))
    assert result["counts"]["rows_trimmed"] == 5


def test_warnings_stand_in_the_summary_and_in_the_result(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A KL limit that the first steps are beyond: the sign reaches who trained, --json, `runs RUN` and the page."""
    from tunesmith.api.report import report
    from tunesmith.api.runs import runs

    rows = [{"prompt": f"Say {i}.", "answer": str(i)} for i in range(8)]
    method = {"ppo": {"reward": "exact_match", "max_tokens": 4, "kl_limit": 1e-9, "n": 1}}
    keys = {"train.steps": 12, "train.lr": 0.05, "train.batch_size": 4, "train.sample": 0}
    result = train(data=write("rows.jsonl", rows), method=method, out="runs/one", **small(**keys))
    (sign,) = [event for event in events("runs/one", "warning") if event["name"] == "kl"]
    assert [{name: sign[name] for name in ("step", "name", "message", "fix")}] == [
        told for told in result["warnings"] if told["name"] == "kl"
    ]
    told = f"Warning at step {sign['step']}: {sign['message']}"
    assert told in result.text and sign["fix"] in result.text
    shown = " ".join(runs("one", lang="en").text.split())
    assert "Warning: is the reward being gamed?" in shown
    assert f"Step {sign['step']}: the KL divergence to the starting model reached" in shown
    page = Path(report("one", lang="ko")["report"]).read_text("utf-8")
    assert "경고: 보상만 노리고 있나?" in page and "처음 모델과의 KL이" in page


@pytest.mark.parametrize(
    ("batch", "devices", "tokens", "told"),
    [(16, 1, 99, "16 = about 16 per pass x 1 accumulated x 1 "), (16, 2, 99, "16 = about 8 per pass x 1 accumulated x 2 "),
     (16, 2, 20, "16 = about 4 per pass x 2 accumulated x 2 "), (16, 4, 10, "16 = about 2 per pass x 2 accumulated x 4 "),
     (16, 1, 1, "16 = about 1 per pass x 16 accumulated x 1 "), (6, 4, 99, "6 = about 1.5 per pass x 1 accumulated x 4 ")],
)  # fmt: skip
def test_the_effective_batch_is_a_product_that_is_right(
    batch: int, devices: int, tokens: int, told: str, monkeypatch: pytest.MonkeyPatch
):
    """Rows of 4 tokens: per pass x accumulated x devices is the batch, also where ranks share it."""
    monkeypatch.setattr("tunesmith.step.ranks.ranks", lambda: devices)
    units = type("Units", (list,), {"total_tokens": 40})(range(10))
    assert told in effective_batch(batch, units, tokens, speaker("en"))


@pytest.mark.parametrize(
    ("method", "quiet"),
    [({"grpo": {"kl_limit": 1e-9, "n": 2}}, {"grpo": {"kl_limit": None, "n": 2}}), ({"ppo": {}}, None)],
)
def test_a_limit_of_the_kl_that_only_warns(
    folder: Path, method: dict[str, Any], quiet: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
):
    """The same weights with and without the warning."""
    from tunesmith.objectives.ppo import Ppo

    (name,) = method
    rows = [{"prompt": f"Say {i}.", "answer": str(i)} for i in range(8)]
    keys = small(data=write("rows.jsonl", rows), **{"train.steps": 8, "train.lr": 0.05, "train.batch_size": 4})
    given = {name: {"reward": "likes_e", "max_tokens": 4, **method[name]}}
    Path("metrics").mkdir()
    Path("metrics/likes_e.py").write_text(LIKES_E, encoding="utf-8")
    assert Ppo.kl_warn == 10
    plain = {name: {**given[name], **(quiet[name] if quiet else {})}}
    without = train(method=plain, out="without", use=["metrics/likes_e.py"], **keys)
    monkeypatch.setattr(Ppo, "kl_warn", 1e-9)
    warned = train(method=given, out="warned", use=["metrics/likes_e.py"], **keys)
    assert [sign["name"] for sign in warned["warnings"]].count("kl") == 1
    assert not [sign for sign in without["warnings"] if sign["name"] == "kl"]
    assert warned["result_hash"] == without["result_hash"] and warned["last_loss"] == without["last_loss"]


def test_every_value_chosen_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Also those that nobody gave: what is told is what the run has."""
    train(data=write("rows.jsonl", ROWS), model="pico", out="run", steps=1, **{"data.dev": 2, "train.keep": 2})
    told = capsys.readouterr().err
    config = json.loads(Path("run/adapter/adapter_config.json").read_text())
    for line in (
        "betas=[0.9, 0.999]", "min_lr=0.0", "keep=2", "seed=0", "too_long=error", "early_stopping=None", "eval_every=epoch",
        f"'alpha': {config['lora_alpha']}", f"'rank': {config['r']}", f"length={load('pico').context}", "warmup=0.05", "weight_decay=0.0", "clip=1.0",
    ):  # fmt: skip
        assert line in told, line
    assert config["lora_alpha"] == 2 * config["r"]


@pytest.mark.parametrize(("adapter", "alpha"), [("pissa", 8), ("dora", 16), ({"lora": {"rank": 4, "alpha": 3}}, 3)])
def test_the_alpha_that_null_means(folder: Path, adapter: Any, alpha: float, capsys: pytest.CaptureFixture[str]):
    train(data=write("rows.jsonl", ROWS), model="pico", out="run", steps=1, adapter=adapter, **{"data.dev": 2})
    assert re.search(rf"'alpha': {alpha}(\.0)?,", capsys.readouterr().err)


def test_samples_are_of_dev_rows(folder: Path):
    train(data=write("rows.jsonl", ROWS), out="run", **small())
    event = events("run", "eval")[-1]
    assert {sample["expected"] for sample in event["samples"]} <= {row["answer"] for row in ROWS}


def test_relative_paths_resume_from_elsewhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    write("rows.jsonl", ROWS)
    first = train(data="rows.jsonl", out="run", **small())
    whole = Path(shutil.copytree("run", "again"))
    shutil.rmtree(whole / "checkpoints")
    (whole / "events.jsonl").unlink()
    shutil.rmtree(
        whole / "data"
    )  # killed before the data was prepared: paths are taken from the project's folder again
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    again = train(resume=str(folder / "again"), quiet=True)
    assert again["result_hash"] == first["result_hash"]


def test_rows_from_python_resume_and_are_never_taken_from_elsewhere(folder: Path):
    first = train(data=ROWS, out="run", **small())
    shutil.rmtree("run/checkpoints")
    assert train(resume="run", quiet=True)["result_hash"] == first["result_hash"]
    Path("run/data/train.jsonl").write_text("")
    with pytest.raises(DataError, match="handed over in Python"):
        train(resume="run", quiet=True)


def test_a_whole_run_can_be_trained_upon(folder: Path):
    write("rows.jsonl", ROWS)
    train(data="rows.jsonl", out="base", **small(adapter="full"))
    assert train(data="rows.jsonl", out="upon", **small(model="base"))["status"] == "finished"
    config = json.loads(Path("upon/adapter/adapter_config.json").read_text())
    assert Path(config["base_model_name_or_path"]) == folder / "base" / "model"


def test_an_adapter_is_merged_into_what_is_trained_upon_it(folder: Path):
    write("rows.jsonl", ROWS)
    train(data="rows.jsonl", out="base", **small())
    assert train(data="rows.jsonl", out="upon", **small(model="base"))["status"] == "finished"
    manifest = json.loads(Path("upon/manifest.json").read_text())
    assert Path(manifest["parent"]).name == "base" and manifest["base"]["merged"] == "upon/base"
    assert Path("upon/base/model.safetensors").exists() and not Path("base/merged").exists()
    assert not json.loads(Path("base/manifest.json").read_text()).get("base")


def test_a_folder_in_use_is_left_alone(folder: Path):
    write("rows.jsonl", ROWS)
    Path("mine/data").mkdir(parents=True)
    Path("mine/data/train.jsonl").write_text("mine")
    with pytest.raises(ProjectError, match="would write over"):
        train(data="rows.jsonl", out="mine", **small())
    assert Path("mine/data/train.jsonl").read_text() == "mine"
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("mine")
    with pytest.raises(DataError):  # nothing was trained: only what was made is taken away
        train(data="none.jsonl", out="notes", **small())
    assert [path.name for path in Path("notes").iterdir()] == ["a.txt"]


def test_a_base_in_four_bits_is_frozen(folder: Path):
    write("rows.jsonl", ROWS)
    with pytest.raises(SettingError, match="base is nf4, but adapter is full"):
        train(data="rows.jsonl", out="whole", base="nf4", **small(adapter="full"))
    assert not Path("whole").exists()
    train(data="rows.jsonl", out="beside", base="nf4", **small(adapter="lora"))
    from tunesmith.adapters.store import open_run
    from tunesmith.model.packed import weight_bytes

    assert weight_bytes(open_run("beside").net)["nf4"] > 0


def test_a_run_is_planned_before_its_first_step_and_compared_after_its_last(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """planned -> plan.json -> compared: in the run's files, on the way, in the summary, and in what later plans may be off by."""
    from tunesmith.plan import calibrate

    monkeypatch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
    rows = [{"question": f"what is {n}?", "answer": str(n)} for n in range(12)]
    keys = small(data=write("faq.jsonl", rows))
    out = train(**{**keys, "quiet": False}, plan=True, out="runs/planned")
    run = Path(out["run"])
    plan, memory = (json.loads((run / name).read_text()) for name in ("plan.json", "memory.json"))
    forecast, measured = plan["forecast"], plan["measured"]
    assert (
        forecast["setup"]["pass_tokens"] == out["chosen"]["pass_tokens"] and forecast["device"] > forecast["live"] > 0
    )
    assert measured["device"] == memory["process_peak"] >= max(e["memory_bytes"] for e in events(str(run), "step"))
    assert measured["error"] == pytest.approx(forecast["device"] / measured["device"] - 1)
    assert "      plan  " in capsys.readouterr().err
    assert "planned, " in out.text and f"{100 * measured['error']:+.1f} %" in out.text
    noted = json.loads(calibrate.place().read_text())["runs"]
    assert [(one["predicted"], one["measured"]) for one in noted] == [(forecast["device"], measured["device"])]
    assert not (Path(train(**keys)["run"]) / "plan.json").exists()
    with pytest.raises(ProjectError, match="resume"):
        train(resume=str(run), plan=True)


def test_korean_words(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"질문 {i}?", "completion": f"답 {i}."} for i in range(8)]
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = train(None, data="faq.jsonl", model="pico", method="sft", steps=2, lang="ko", out="run").text
    told = capsys.readouterr().err
    assert (
        "2단계를 " in done
        and "훈련했습니다. 마지막 손실" in done
        and "결과: run" in done
        and "다음:   tunesmith eval run" in done
    )
    for words in ("파라미터 ", "메모리의 4분의 1", "한 번에 약", "1/2단계  에폭"):
        assert words in told, told


def test_runs_on_equal_data_store_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tunesmith.core.shared.share.__kwdefaults__", {"least": 1})
    rows = [{"prompt": f"Q {i}?", "completion": f"A {i}."} for i in range(40)]
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("one", "two"):
        train(None, data="faq.jsonl", model="pico", steps=1, quiet=True, out=f"runs/{name}")
    for name in ("train.jsonl", "dev.jsonl", "cache/train/ids"):
        assert Path("runs/one/data", name).samefile(Path("runs/two/data", name)), name
    assert not Path("runs/one/data/dropped.jsonl").samefile("runs/two/data/dropped.jsonl")
    from tunesmith.api.runs import runs

    runs("runs/one", delete=True, yes=True)
    assert Path("runs/two/data/train.jsonl").exists()
    runs("runs/two", delete=True, yes=True)
    assert not Path("runs/.tunesmith-data").exists()
