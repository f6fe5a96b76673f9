"""File, keys and defaults become one project."""

from pathlib import Path

import pytest
import yaml

from tunesmith.api.config import Project, catalogue, resolve, setting_file
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.project import parse_keys


def test_defaults_alone(folder: Path):
    project, filled, root = resolve()
    assert project.model == "mini" and project.train.batch_size == 16 and root == folder
    assert set(filled) == {field for field in catalogue() if "." not in field}
    assert [*filled["method"]] == ["sft"] and [*filled["adapter"]] == ["lora"]
    assert filled["adapter"]["lora"]["rank"] == 8


def test_the_command_line_wins_over_the_file_over_defaults(folder: Path):
    (folder / "tunesmith.yaml").write_text("data: a.jsonl\nlr: 1e-3\ntrain: {epochs: 5}\nadapter: {lora: {rank: 4}}\n")
    project, filled, _ = resolve(None, **parse_keys(["train.lr=1e-4", "data=b.jsonl", "adapter.dropout=0.1"]))
    assert (project.train.lr, project.train.epochs, project.data.path) == (1e-4, 5.0, "b.jsonl")
    assert filled["adapter"]["lora"]["rank"] == 4 and filled["adapter"]["lora"]["dropout"] == 0.1
    assert (
        resolve(lr=0.5)[0].train.lr
        == resolve(train={"lr": 0.5})[0].train.lr
        == resolve(**{"train.lr": 0.5})[0].train.lr
        == 0.5
    )


def test_the_filled_project_gives_itself_again(folder: Path):
    _, filled, _ = resolve(
        {"data": {"path": "a.csv", "prompt": "{{ q }}"}, "metrics": ["exact_match"], "train": {"betas": [0.8, 0.9]}}
    )
    Path("again.yaml").write_text(yaml.safe_dump(filled, allow_unicode=True))
    _, again, _ = resolve("again.yaml")
    assert again == filled


def test_paths_are_those_of_the_file(folder: Path):
    (folder / "sub").mkdir()
    (folder / "sub" / "x.yaml").write_text("model: pico\n")
    assert resolve("sub/x.yaml")[2] == (folder / "sub").resolve()
    with pytest.raises(ProjectError, match="no project file"):
        resolve("sub")


def test_one_seed_for_all_unless_they_have_their_own(folder: Path):
    project, filled, _ = resolve(seed=5, data={"seed": 7})
    assert (project.seed, project.data.seed, project.generate.seed) == (5, 7, 5)
    assert filled["generate"]["seed"] == 5


def test_data_may_be_handed_over_in_python(folder: Path):
    rows = [{"prompt": "a", "answer": "b"}]
    project, filled, _ = resolve(data=rows)
    assert project.data.path is rows and filled["data"]["path"] == "(in memory)"
    columns = {"prompt": ["a"], "answer": ["b"]}
    assert resolve(data=columns)[0].data.path == columns
    assert resolve(data={"path": ["a.jsonl", "b.jsonl"]})[0].data.path == ["a.jsonl", "b.jsonl"]


def test_precision_at_the_top_is_that_of_training(folder: Path):
    assert resolve(precision="bf16")[0].precision == resolve(train={"precision": "bf16"})[0].train.precision == "bf16"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"epohcs": 3}, "Did you mean: train.epochs"),
        ({"method": "stf"}, 'There is no method "stf".\nDid you mean: sft'),
        (
            {"adapter": {"lora": {"ranks": 3}}},
            'There is no setting "adapter.lora.ranks".\nDid you mean: adapter.lora.rank',
        ),
        ({"adapter": "lroa"}, "Did you mean: lora"),
        ({"metrics": ["exact_macth"]}, "Did you mean: exact_match"),
        ({"metrics": "exact_match"}, "Write a list: [exact_match]"),
        ({"data": {"steps": ["dedpu"]}}, "Did you mean: dedup"),
        ({"lr": 0}, "train.lr is 0.0.\nIt must be above 0."),
        ({"epochs": -1}, "train.epochs is -1.0."),
        ({"batch_size": 0}, "train.batch_size is 0."),
        ({"momentum": 0.5}, "train.momentum is set, but the optimizer adamw does not read it."),
        ({"betas": [0.9, 1.0]}, "train.betas is [0.9, 1.0]."),
        ({"early_stopping": 2, "eval_every": None}, "train.early_stopping is 2, but train.eval_every is null."),
        ({"temperature": -1}, "generate.temperature is -1.0."),
        ({"top_p": 0}, "generate.top_p is 0.0."),
        ({"stop": [""]}, "generate.stop has an empty text."),
        ({"eval": {"name": "../x"}}, 'eval.name is "../x".'),
        ({"data": {"path": "a", "name": "klue"}}, "both given"),
        ({"data": {"config": "ynat"}}, "data.name is missing"),
        ({"data": {"dev": 1.5}}, "data.dev is 1.5."),
        ({"data": {"test": -1}}, "data.test is -1"),
        ({"seed": -1}, "seed is -1."),
        ({"length": 1}, "length is 1."),
        ({"lang": "kr"}, "It must be one of en, ko."),
        ({"log": ["tensorbord"]}, 'log is ["tensorbord"].'),
        ({"use": ["metrics/none.py"]}, "no Python file"),
        ({"name": "x"}, "could be data.name, eval.name"),
    ],
)
def test_what_cannot_be_is_one_clear_error(folder: Path, keys: dict, said: str):
    with pytest.raises((SettingError, ProjectError)) as error:
        resolve({}, **keys)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [("faq.jsonl", "If it is the data: data=faq.jsonl"), (7, "The project is a int."), ("no.yaml", "no.yaml")],
)
def test_what_is_no_project_is_told(folder: Path, config: object, said: str):
    (folder / "faq.jsonl").write_text("{}")
    with pytest.raises(ProjectError, match=said):
        resolve(config)


def test_own_files_are_checked_but_not_run(folder: Path, mine: str):
    _, filled, _ = resolve({"use": [mine], "metrics": [{"mine": {"k": 5}}]})
    assert filled["metrics"] == [{"mine": {"k": 5}}]
    with pytest.raises(SettingError, match=r"metrics\[0\]\.mine\.kk"):
        resolve({"use": [mine], "metrics": [{"mine": {"kk": 5}}]})


def test_every_setting_has_a_sentence_and_a_place():
    for name, field in catalogue().items():
        assert field.doc.endswith((".", ".)")), f"{name}: {field.doc!r}"
        assert field.korean.endswith("."), f"{name} is not explained in Korean"
        text = setting_file(name).read_text(encoding="utf-8").splitlines()[field.line - 1]
        assert text.strip().startswith(f"{name.rpartition('.')[2]}:")
    assert Project().train.epochs is None


def test_a_section_that_may_be_left_out_stays_out_when_the_file_says_null(folder: Path):
    """A run's project.yaml says `rope: null`; read back for a resume it must mean the same."""
    from tunesmith.core.project import to_yaml

    project, filled, _ = resolve({"model": "pico"})
    (folder / "again.yaml").write_text(to_yaml(filled), encoding="utf-8")
    again, filled_again, _ = resolve("again.yaml")
    assert project.rope is None and again.rope is None and filled_again == filled
    assert resolve({"rope": None}, **{"rope.factor": 4.0})[0].rope.factor == 4.0


@pytest.mark.parametrize("rows", ["a.jsonl", Path("a.jsonl"), [{"text": "a", "label": "b"}]])
def test_data_and_a_setting_of_it_stand_side_by_side_in_either_order(folder: Path, rows):
    for keys in ({"data": rows, "data.dev": 2}, {"data.dev": 2, "data": rows}):
        data = resolve({}, **keys)[0].data
        assert (data.path, data.dev) == (rows, 2)
