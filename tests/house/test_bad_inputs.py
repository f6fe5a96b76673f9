"""Bad input gets one clear error: exit code 2, no traceback, what was found and what to do, and nothing half-made left behind.

Each case writes its bad files into an empty folder and says the words after `tunesmith`, and what the error must name.
"""

import gzip
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tunesmith.cli import main
from tunesmith.core.shelf import USE

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(12)]
PICO = {"model": "pico", "steps": "1", "train.sample": "0"}

Case = Callable[[Path], list[str]]
CASES: dict[str, tuple[Case, tuple[str, ...]]] = {}


def case(*said: str) -> Callable[[Case], Case]:
    """The function below makes the bad input and returns the words; `said` must stand in the error."""

    def note(function: Case) -> Case:
        CASES[function.__name__] = (function, said)
        return function

    return note


def lines(path: Path, rows: list[Any], encoding: str = "utf-8") -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))
    return path


def train(folder: Path, rows: list[Any], *more: str) -> list[str]:
    lines(folder / "rows.jsonl", rows)
    return words("rows.jsonl", *more)


def words(data: str, *more: str) -> list[str]:
    """Train pico for a step on `data`, the smallest run there is; `more` overrides."""
    given = {word.partition("=")[0] for word in more}
    return ["train", f"data={data}", *(f"{key}={value}" for key, value in PICO.items() if key not in given), *more]


def good(folder: Path, *more: str) -> list[str]:
    return train(folder, ROWS, *more)


def project(folder: Path, text: str) -> list[str]:
    lines(folder / "rows.jsonl", ROWS)
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return ["train", "p.yaml"]


def saved_pico(folder: Path, name: str = "base") -> Path:
    from tunesmith.model.load import load
    from tunesmith.model.save import save

    model = load("pico")
    return save(model.net, model.tokenizer, folder / name, dtype="fp32")


# Files of data


@case("rows.json", "JSON")
def truncated_json(folder: Path) -> list[str]:
    (folder / "rows.json").write_text(json.dumps(ROWS)[:-40])
    return words("rows.json")


@case("rows.jsonl", "JSON", ":12")
def truncated_jsonl(folder: Path) -> list[str]:
    said = good(folder)
    text = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(text[:-20])
    return said


@case("rows.jsonl.gz")
def truncated_gzip(folder: Path) -> list[str]:
    whole = gzip.compress(json.dumps(ROWS).encode())
    (folder / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    return words("rows.jsonl.gz")


@case("rows.parquet")
def parquet_that_is_none(folder: Path) -> list[str]:
    (folder / "rows.parquet").write_bytes(b"PAR1 nothing of the kind")
    return words("rows.parquet")


@case("rows.xlsx")
def xlsx_that_is_none(folder: Path) -> list[str]:
    (folder / "rows.xlsx").write_bytes(b"PK\x03\x04 nothing of the kind")
    return words("rows.xlsx")


KOREAN = [{"question": "카드를 잃어버렸어요.", "answer": "바로 정지해 드리겠습니다."}] * 4


@case("CP949", "encoding")
def cp949(folder: Path) -> list[str]:
    lines(folder / "rows.jsonl", KOREAN, "cp949")
    return words("rows.jsonl")


@case("utf-16", "data.encoding")
def utf_16(folder: Path) -> list[str]:
    lines(folder / "rows.jsonl", KOREAN, "utf-16")
    return words("rows.jsonl")


@case("twice")
def double_encoded(folder: Path) -> list[str]:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in KOREAN)
    (folder / "rows.jsonl").write_text(text.encode().decode("latin-1"), encoding="utf-8")
    return words("rows.jsonl")


@case("rows.jsonl")
def binary_as_text(folder: Path) -> list[str]:
    (folder / "rows.jsonl").write_bytes(bytes(range(256)) * 8)
    return words("rows.jsonl")


@case("rows.jsonl", "empty")
def empty_file(folder: Path) -> list[str]:
    return train(folder, [])


@case("rows.jsonl:13", "n: beyond 1.8e+308", "too large a number (1)")
def number_that_is_infinite(folder: Path) -> list[str]:
    said = good(folder)
    with open(folder / "rows.jsonl", "a") as file:
        file.write('{"question": "How many?", "answer": "Many.", "n": 1e999}\n')
    return said


@case("rows.jsonl:13", "an integer of more digits")
def integer_of_5000_digits(folder: Path) -> list[str]:
    said = good(folder)
    with open(folder / "rows.jsonl", "a") as file:
        file.write('{"question": "How many?", "answer": "Many.", "n": ' + "7" * 5000 + "}\n")
    return said


@case("rows.json:1", "an integer of more digits")
def integer_of_5000_digits_in_a_list(folder: Path) -> list[str]:
    (folder / "rows.json").write_text(json.dumps(ROWS)[:-1] + ', {"question": "How?", "n": ' + "7" * 5000 + "}]")
    return words("rows.json")


@case("rows.jsonl:13", "n: more than 100 lists inside one another")
def lists_600_deep(folder: Path) -> list[str]:
    said = good(folder)
    with open(folder / "rows.jsonl", "a") as file:
        file.write('{"question": "a", "answer": "b", "n": ' + "[" * 600 + "]" * 600 + "}\n")
    return said


@case("rows.json:1", "nested too deeply")
def lists_5000_deep_in_json(folder: Path) -> list[str]:
    (folder / "rows.json").write_text(json.dumps(ROWS)[:-1] + ', {"question": ' + "[" * 5000 + "]" * 5000 + "}]")
    return words("rows.json")


@case("base64", "utf-8, cp949")
def encoding_that_is_not_of_text(folder: Path) -> list[str]:
    return good(folder, "data.encoding=base64")


@case("~nosuchuser/x", "home folder")
def home_of_nobody(folder: Path) -> list[str]:
    return words("~nosuchuser/x")


@case("rows")
def empty_folder(folder: Path) -> list[str]:
    (folder / "rows").mkdir()
    return words("rows")


@case("answr")
def missing_column(folder: Path) -> list[str]:
    return train(folder, [{"question": "a", "answr": "b"}] * 4)


@case("reply", "question, answer")
def named_column_is_missing(folder: Path) -> list[str]:
    return good(folder, "data.columns.answer=reply")


@case("rows.jsonl:3", "3 of")
def some_rows_are_malformed(folder: Path) -> list[str]:
    return train(folder, [*ROWS[:2], {"question": "no answer"}, 5, ["list"], *ROWS[2:]])


@case("rows.csv")
def csv_with_ragged_rows(folder: Path) -> list[str]:
    (folder / "rows.csv").write_text("question,answer\na,b\nc,d,e,f\n" * 2)
    return words("rows.csv")


@case("qusetions.jsonl", "questions.jsonl")
def data_that_does_not_exist(folder: Path) -> list[str]:
    lines(folder / "questions.jsonl", ROWS)
    return words("qusetions.jsonl")


@case("no data")
def no_data(folder: Path) -> list[str]:
    return ["train", "model=pico"]


@case("twice", "data")
def data_given_twice(folder: Path) -> list[str]:
    return good(folder, "data=rows.jsonl")


@case("trained on")
def every_row_masked(folder: Path) -> list[str]:
    rows = [
        {
            "messages": [
                {"role": "user", "content": r["question"]},
                {"role": "assistant", "content": r["answer"], "train": False},
            ]
        }
        for r in ROWS
    ]
    return train(folder, rows)


@case("tokens", "too_long")
def rows_longer_than_the_context(folder: Path) -> list[str]:
    return train(folder, [*ROWS, *({"question": "long " * 900 + str(i), "answer": "yes"} for i in range(3))])


@case("too long", "length is 4 tokens", "rows)")
def every_row_is_dropped_as_too_long(folder: Path) -> list[str]:
    return good(folder, "length=4", "too_long=drop")


@case("image")
def image_in_a_message(folder: Path) -> list[str]:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
    rows = [
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": f"A {i}."}]}
        for i in range(4)
    ]
    return train(folder, rows)


@case("role")
def unknown_role(folder: Path) -> list[str]:
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": str(i)}]} for i in range(4)]
    return train(folder, rows)


@case("raw text", "method=pretrain")
def raw_text_for_sft(folder: Path) -> list[str]:
    return train(folder, [{"text": f"Once there were {i} cats."} for i in range(12)])


@case("method=sft")
def chat_for_pretrain(folder: Path) -> list[str]:
    return good(folder, "method=pretrain")


@case("data.prompt")
def labels_for_sft(folder: Path) -> list[str]:
    return train(folder, [{"text": f"cat {i}", "label": "animal"} for i in range(12)])


@case("nothing", "question, answer")
def template_over_a_column_that_is_not_there(folder: Path) -> list[str]:
    return good(folder, "data.prompt={{ nothing }}", "data.answer={{ answer }}")


@case("data.prompt")
def template_that_is_no_template(folder: Path) -> list[str]:
    return good(folder, "data.prompt={{ question", "data.answer={{ answer }}")


@case("test")
def everything_is_held_out(folder: Path) -> list[str]:
    return good(folder, "data.dev=0.5", "data.test=0.5")


@case("other.jsonl")
def held_out_file_that_does_not_exist(folder: Path) -> list[str]:
    return good(folder, "data.test=other.jsonl")


# The project and its keys


@case("train.epocs", "train.epochs")
def unknown_key_in_the_file(folder: Path) -> list[str]:
    return project(folder, "data: rows.jsonl\nmodel: pico\ntrain:\n  epocs: 3\n")


@case("train", "p.yaml", "line")
def duplicate_key_in_the_file(folder: Path) -> list[str]:
    return project(folder, "data: rows.jsonl\ntrain: {steps: 1}\ntrain: {steps: 2}\n")


@case("p.yaml")
def yaml_that_is_none(folder: Path) -> list[str]:
    return project(folder, "data: [rows.jsonl\nmodel: pico\n")


@case("p.yaml")
def yaml_with_a_list_at_the_top(folder: Path) -> list[str]:
    return project(folder, "- data: rows.jsonl\n")


@case("q.yaml", "p.yaml")
def project_that_does_not_exist(folder: Path) -> list[str]:
    project(folder, "data: rows.jsonl\n")
    return ["train", "q.yaml"]


@case("project file", "data=rows.jsonl")
def data_in_the_place_of_the_project(folder: Path) -> list[str]:
    lines(folder / "rows.jsonl", ROWS)
    return ["train", "rows.jsonl"]


@case("batchsize", "batch_size")
def unknown_key_on_the_command_line(folder: Path) -> list[str]:
    return good(folder, "train.batchsize=4")


@case("trian", "train")
def unknown_verb(folder: Path) -> list[str]:
    return ["trian"]


@case("pretrian", "pretrain")
def unknown_method(folder: Path) -> list[str]:
    return good(folder, "method=pretrian")


@case("lorra", "lora")
def unknown_adapter(folder: Path) -> list[str]:
    return good(folder, "adapter=lorra")


@case("acuracy", "accuracy")
def unknown_metric(folder: Path) -> list[str]:
    return good(folder, "metrics=[acuracy]")


@case("rnak", "rank")
def unknown_setting_of_an_adapter(folder: Path) -> list[str]:
    return good(folder, "adapter.lora.rnak=4")


@case("train.lr", "-1")
def negative_learning_rate(folder: Path) -> list[str]:
    return good(folder, "lr=-1")


@case("seed", "9999999999999999999999")
def seed_too_large(folder: Path) -> list[str]:
    return good(folder, "seed=9999999999999999999999")


@case("data.answer='{{ category }}'")
def labels_in_a_csv_for_sft(folder: Path) -> list[str]:
    (folder / "rows.csv").write_text("text,category\n" + "".join(f"hello {i},c{i % 3}\n" for i in range(12)))
    return words("rows.csv")


@case("train.epochs", "0")
def no_epochs(folder: Path) -> list[str]:
    return good(folder, "epochs=0")


@case("rank", "0")
def rank_0(folder: Path) -> list[str]:
    return good(folder, "adapter.lora.rank=0")


@case("train.batch_size", "0")
def batch_of_nothing(folder: Path) -> list[str]:
    return good(folder, "batch_size=0")


@case("precision", "int3", "bf16")
def unknown_precision(folder: Path) -> list[str]:
    return good(folder, "precision=int3")


@case("train.lr", "nan")
def learning_rate_that_is_no_number(folder: Path) -> list[str]:
    return good(folder, "lr=nan")


@case("train.steps", "many")
def text_for_a_number(folder: Path) -> list[str]:
    return good(folder, "steps=many")


@case("nothing_like_it", "q_proj")
def target_pattern_that_matches_nothing(folder: Path) -> list[str]:
    return good(folder, 'adapter={"lora": {"targets": ["nothing_like_it"]}}')


@case("mine.py", "project")
def use_of_a_file_outside_the_project(folder: Path) -> list[str]:
    (folder / "metrics").mkdir()
    (folder / "metrics" / "mine.py").write_text("class Mine: ...\n")
    (folder / "inner").mkdir()
    lines(folder / "inner" / "rows.jsonl", ROWS)
    (folder / "inner" / "p.yaml").write_text("data: rows.jsonl\nmodel: pico\nuse: [../metrics/mine.py]\n")
    return ["train", "inner/p.yaml"]


@case("mine.py:2")
def metric_with_a_syntax_error(folder: Path) -> list[str]:
    (folder / "metrics").mkdir()
    (folder / "metrics" / "mine.py").write_text("class Mine:\n    def score(self:\n")
    return good(folder, "use=[metrics/mine.py]", "metrics=[mine]")


@case("tensorboard", "pip install")
def logger_that_is_not_installed(folder: Path) -> list[str]:
    return good(folder, "log=[tensorboard]")


@case("reports", "file")
def out_is_a_file(folder: Path) -> list[str]:
    (folder / "reports").write_text("mine")
    return good(folder, "out=reports")


@case("mine/deep")
def out_below_a_file(folder: Path) -> list[str]:
    (folder / "mine").write_text("mine")
    return good(folder, "out=mine/deep")


# Models


@case("picco", "pico")
def missing_model(folder: Path) -> list[str]:
    return good(folder, "model=picco")


@case("config.json")
def model_folder_without_config(folder: Path) -> list[str]:
    (saved_pico(folder) / "config.json").unlink()
    return good(folder, "model=base")


@case("config.json")
def config_that_is_no_json(folder: Path) -> list[str]:
    (saved_pico(folder) / "config.json").write_text("{")
    return good(folder, "model=base")


@case("base", "damaged")
def corrupt_safetensors(folder: Path) -> list[str]:
    file = saved_pico(folder) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return good(folder, "model=base")


@case("safetensors")
def pickle_only_weights(folder: Path) -> list[str]:
    base = saved_pico(folder)
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    return good(folder, "model=base")


@case("tokenizer")
def model_without_a_tokenizer(folder: Path) -> list[str]:
    for file in saved_pico(folder).glob("tokenizer*"):
        file.unlink()
    return good(folder, "model=base")


@case("tokenizer.json")
def corrupt_tokenizer(folder: Path) -> list[str]:
    (saved_pico(folder) / "tokenizer.json").write_text('{"version"')
    return good(folder, "model=base")


@case("tokenizer", "401 ids", "288 rows")
def tokenizer_bigger_than_the_embedding(folder: Path) -> list[str]:
    base = saved_pico(folder)
    told = json.loads((base / "tokenizer.json").read_text())
    told["added_tokens"].append(
        {
            "id": 400,
            "content": "<extra>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )
    told["model"]["vocab"].update({f"xx{i}": i for i in range(288, 400)})
    (base / "tokenizer.json").write_text(json.dumps(told))
    return good(folder, "model=base")


@case("architecture")
def unknown_architecture(folder: Path) -> list[str]:
    config = saved_pico(folder) / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "model_type": "nonesuch", "architectures": ["Nonesuch"]})
    )
    return good(folder, "model=base")


# Runs that are not there


@case("nowhere")
def resume_of_nothing(folder: Path) -> list[str]:
    return ["train", "--resume", "nowhere"]


@case("manifest.json")
def resume_of_a_folder_that_is_no_run(folder: Path) -> list[str]:
    (folder / "mine").mkdir()
    return ["train", "--resume", "mine"]


@case("--resume", "keys")
def resume_with_keys(folder: Path) -> list[str]:
    return ["train", "--resume", "mine", "lr=1"]


@case("nowhere")
def report_of_nothing(folder: Path) -> list[str]:
    return ["report", "nowhere"]


@case("mine")
def report_of_an_empty_folder(folder: Path) -> list[str]:
    (folder / "mine").mkdir()
    return ["report", "mine"]


@case("nowhere")
def rerun_of_nothing(folder: Path) -> list[str]:
    return ["rerun", "nowhere"]


@case("nowhere")
def eval_of_nothing(folder: Path) -> list[str]:
    return ["eval", "nowhere"]


@case("none.jsonl")
def eval_without_its_data(folder: Path) -> list[str]:
    return ["eval", "data=none.jsonl", "model=pico"]


@case("picco", "pico")
def eval_of_a_missing_model(folder: Path) -> list[str]:
    lines(folder / "rows.jsonl", ROWS)
    return ["eval", "data=rows.jsonl", "model=picco"]


@case("nowhere")
def chat_with_nothing(folder: Path) -> list[str]:
    return ["chat", "nowhere", "--message", "hello"]


@case("context", "tokens")
def message_over_the_context(folder: Path) -> list[str]:
    return ["chat", "pico", "--message", "word " * 2000]


@case("max_tokens", "-1")
def answer_of_no_length(folder: Path) -> list[str]:
    return ["chat", "pico", "--message", "hello", "--max-tokens", "-1"]


@case("temperature", "-2")
def temperature_below_0(folder: Path) -> list[str]:
    return ["chat", "pico", "--message", "hello", "--temperature", "-2"]


@case("adapter")
def merge_of_a_model_without_an_adapter(folder: Path) -> list[str]:
    return ["merge", "pico", "out"]


@case("nowhere")
def merge_of_nothing(folder: Path) -> list[str]:
    return ["merge", "nowhere"]


@case("bankin77", "banking77")
def unknown_demo_task(folder: Path) -> list[str]:
    return ["demo", "--task", "bankin77"]


@case("nowhere")
def comparison_with_nothing(folder: Path) -> list[str]:
    return ["compare", "nowhere", "nowhere"]


@case("nowhere.txt")
def tokenizer_of_nothing(folder: Path) -> list[str]:
    return ["tokenizer", "nowhere.txt"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(USE, "{}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*words: str) -> Said:
        code = main(list(words))
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name: str, folder: Path, cli: Callable[..., Said], request: pytest.FixtureRequest):
    make, said = CASES[name]
    if name == "logger_that_is_not_installed":
        request.getfixturevalue("monkeypatch").setitem(sys.modules, "torch.utils.tensorboard", None)
    words = make(folder)
    before = files_under(folder)
    found = cli(*words, "--json")
    assert found.code == 2, found
    assert "Traceback" not in found.err
    assert found.err.count("\n") <= 25, "one error, not a flood"
    for part in said:
        assert part in found.err, f"{part!r} is not in:\n{found.err}"
    error = json.loads(found.out)["error"]
    assert error["found"] in found.err
    assert error["wanted"] or error["fix"] or ": " in error["found"], f"what to do is not said:\n{found.err}"
    assert files_under(folder) == before, "something half-made was left behind"


# What needs a run that is there


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pico, with an evaluation."""
    place = tmp_path_factory.mktemp("finished")
    here = os.getcwd()
    os.chdir(place)
    try:
        words = [*good(place, "adapter.lora.rank=2", "out=run", "data.dev=3", "data.test=3"), "--quiet"]
        assert main(words) == 0
        assert main(["eval", "run", "--quiet", "generate.max_tokens=2"]) == 0
    finally:
        os.chdir(here)
    return place / "run"


@pytest.fixture
def run(run_folder: Path, folder: Path) -> Path:
    """A copy of it to break."""
    shutil.copytree(run_folder, folder / "run")
    shutil.copy(run_folder.parent / "rows.jsonl", folder / "rows.jsonl")
    return folder / "run"


def refused(found: Said, *said: str) -> None:
    assert found.code == 2, found
    assert "Traceback" not in found.err
    for part in said:
        assert part in found.err, f"{part!r} is not in:\n{found.err}"


def test_out_holds_a_run(run: Path, folder: Path, cli: Callable[..., Said]):
    before = (run / "manifest.json").read_bytes()
    refused(cli(*good(folder, "out=run")), "already holds a run", "--resume")
    assert (run / "manifest.json").read_bytes() == before


def test_resume_of_an_evaluation(run: Path, cli: Callable[..., Said]):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "verb": "eval"}))
    refused(cli("train", "--resume", "run"), "run", "eval")


def test_a_run_of_a_newer_format(run: Path, cli: Callable[..., Said]):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    for words in (["train", "--resume", "run"], ["eval", "run"], ["rerun", "run"]):
        refused(cli(*words), "99")


def test_a_torn_manifest(run: Path, cli: Callable[..., Said]):
    (run / "manifest.json").write_text('{"format": 1')
    for words in (["train", "--resume", "run"], ["eval", "run"], ["rerun", "run"]):
        refused(cli(*words), "manifest.json")


def test_unfinished_run(run: Path, cli: Callable[..., Said]):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["outcome"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(run / "adapter")
    refused(cli("eval", "run", "--quiet"), "run", "--resume")
    refused(cli("rerun", "run"), "run", "--resume")
    refused(cli("merge", "run"), "run", "--resume")
    refused(cli("chat", "run", "--message", "hello"), "run", "--resume")


def test_an_adapter_cut_short(run: Path, cli: Callable[..., Said]):
    file = run / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    refused(cli("chat", "run", "--message", "hello"), "adapter")


def test_an_adapter_whose_base_has_gone(run: Path, cli: Callable[..., Said]):
    file = run / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "/nowhere/at/all"}))
    refused(cli("chat", "run", "--message", "hello"), "/nowhere/at/all")


def test_resume_without_its_data(run: Path, folder: Path, cli: Callable[..., Said]):
    (folder / "rows.jsonl").unlink()
    shutil.rmtree(run / "data")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "root": str(folder)}))
    refused(cli("train", "--resume", "run"), "rows.jsonl")


def test_prompt_and_answer_over_the_context(run: Path, cli: Callable[..., Said]):
    refused(cli("eval", "run", "--quiet", "generate.max_tokens=5000"), "max_tokens", "context")


def test_compared_on_different_rows(run: Path, folder: Path, cli: Callable[..., Said]):
    shutil.copytree(run, folder / "other")
    file = folder / "other" / "evals" / "test.jsonl"
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    lines(file, [{**row, "id": f"x{i}"} for i, row in enumerate(kept)])
    summary = file.with_suffix(".json")
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "rows_hash": "other"}))
    refused(cli("compare", "run", "other"), "rows")


@pytest.mark.parametrize("torn", ['{"format": 1, "na', ""])
def test_compared_with_a_torn_summary(run: Path, folder: Path, cli: Callable[..., Said], torn: str):
    shutil.copytree(run, folder / "other")
    (folder / "other" / "evals" / "test.json").write_text(torn)
    refused(cli("compare", "run", "other"), "test.json is not JSON", "Evaluate again")


def test_compared_by_a_metric_that_is_not_there(run: Path, folder: Path, cli: Callable[..., Said]):
    shutil.copytree(run, folder / "other")
    refused(cli("compare", "run", "other", "--metric", "exact_mtch"), "exact_mtch", "exact_match")


def test_an_unknown_split(run: Path, cli: Callable[..., Said]):
    refused(cli("eval", "run", "eval.split=tets"), "tets", "test")


def test_merge_into_a_model(run: Path, folder: Path, cli: Callable[..., Said]):
    saved_pico(folder)
    refused(cli("merge", "run", "base"), "already holds")


@pytest.mark.parametrize("deep", [150, 900, 100_000])
def test_bad_rows_can_be_dropped_however_deep(folder: Path, cli: Callable[..., Said], deep: int):
    said = good(folder, "data.bad_rows=drop", "out=run", "--quiet")
    with open(folder / "rows.jsonl", "a") as file:
        file.write('{"question": "a", "answer": "b", "n": ' + "[" * deep + "]" * deep + "}\n")
        file.write('{"question": "a", "answer": "b", "n": [1, -1e999]}\n')
    assert cli(*said).code == 0
    dropped = [json.loads(line) for line in (folder / "run" / "data" / "dropped.jsonl").read_text().splitlines()]
    assert [drop["origin"] for drop in dropped] == ["rows.jsonl:13", "rows.jsonl:14"]


# A full disk


def test_the_forecast_sees_a_full_disk(folder: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch):
    words = good(folder)
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(cli(*words, "--quiet"), "disk", "free")
    assert not (folder / "runs").exists()


def test_the_disk_gets_full_on_the_way(folder: Path):
    """In a process that may not write files above 60 kB: the first checkpoint does not fit."""
    words = good(folder, "adapter=full", "--quiet")

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", *words], cwd=folder, preexec_fn=limit, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", USE: "{}"},
    )  # fmt: skip
    refused(Said(done.returncode, done.stdout, done.stderr), "step-000001 grew over the file size limit")


@pytest.mark.parametrize("name", ["truncated_json", "missing_model", "unknown_verb"])
def test_the_real_program_ends_with_2(name: str, folder: Path):
    make, said = CASES[name]
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", *make(folder)], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", USE: "{}", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    refused(Said(done.returncode, done.stdout, done.stderr), *said)
    assert done.stdout == ""
