"""Words in, one verb called, an exit code out."""

import errno
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from tunesmith.cli import command
from tunesmith.cli.command import API, parse, run, usage, verbs
from tunesmith.core import source
from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.result import Result

TRY = '''
def try_it(config: str | None = None, *, steps: int = 3, fast: bool = False, slow: bool = True, name: str | None = None, **keys) -> Result:
    """Try.

    Example: tunesmith try_it a.yaml
    """
'''
TWO = "def two(a: str, b: str, *, n: int = 1) -> Result:\n    ..."
MANY = "def many(*words: str) -> Result:\n    ..."


def function(folder: Path, text: str, name: str) -> source.Function:
    (folder / f"{name}.py").write_text(text)
    return source.function(folder / f"{name}.py", name)


def test_words_become_arguments(tmp_path: Path):
    verb = function(tmp_path, TRY, "try_it")
    assert parse(verb, []) == ([], {}, False)
    assert parse(verb, ["a.yaml", "lr=1e-4", "adapter.lora.rank=16", "--steps", "5", "--fast", "--no-slow", "--json"]) == (
        ["a.yaml"], {"lr": "1e-4", "adapter": {"lora": {"rank": "16"}}, "steps": "5", "fast": True, "slow": False}, True,
    )  # fmt: skip
    assert parse(verb, ["--steps=5", "name=x=y"]) == ([], {"steps": "5", "name": "x=y"}, False)
    assert parse(verb, ["config=a.yaml"]) == ([], {"config": "a.yaml"}, False)
    assert parse(verb, ["--", "--fast"]) == (["--fast"], {}, False)
    assert parse(function(tmp_path, MANY, "many"), ["a", "b", "c"]) == (["a", "b", "c"], {}, False)


@pytest.mark.parametrize(
    ("name", "text", "words", "said"),
    [
        ("try_it", TRY, ["--fsat"], "has no --fsat.\nDid you mean: --fast"),
        ("try_it", TRY, ["--lr=1"], "Settings are written without dashes: lr=1"),
        ("try_it", TRY, ["--steps"], "--steps needs a value.\nWrite --steps STEPS"),
        ("try_it", TRY, ["--steps", "--fast"], "--steps needs a value."),
        ("try_it", TRY, ["--steps", "1", "steps=2"], '"steps" is given twice.'),
        ("try_it", TRY, ["--fast", "--fast"], "--fast is given twice."),
        ("try_it", TRY, ["a.yaml", "config=b.yaml"], '"config" is given twice.'),
        ("try_it", TRY, ["a", "b"], '"b" is one word too many.'),
        ("try_it", TRY, ["-x"], "has no -x."),
        ("two", TWO, ["x"], "tunesmith two needs B."),
        ("two", TWO, ["x", "y", "m=1"], 'There is no setting "m".'),
        ("many", MANY, ["x=1"], "takes no settings"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(tmp_path: Path, name: str, text: str, words: list[str], said: str):
    with pytest.raises(SettingError) as error:
        parse(function(tmp_path, text, name), words)
    assert said in str(error.value)


def test_usage_is_made_from_the_signature(tmp_path: Path):
    wanted = "tunesmith try_it [CONFIG] [name=value ...] [--steps STEPS] [--fast] [--no-slow] [--name NAME] [--json]"
    assert usage(function(tmp_path, TRY, "try_it")) == wanted
    assert usage(function(tmp_path, TWO, "two")) == "tunesmith two A B [--n N] [--json]"


def test_the_verbs_are_the_folder(cli):
    known = verbs()
    assert {"check", "eject", "explain", "list", "new", "where"} <= set(known)
    assert not {"config", "schema", "__init__"} & set(known)
    assert all(line.endswith((".", "?")) for line in known.values()), known
    for words in ([], ["--help"], ["-h"], ["help"]):
        said = cli(*words)
        assert said.code == 0 and all(f"\n  {name} " in said.out for name in known)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_explains_itself(cli, verb: str):
    said = cli(verb, "--help")
    assert said.code == 0 and said.out == cli("help", verb).out
    function = source.function(API / f"{verb}.py", verb)
    assert f"\n  tunesmith {verb}" in said.out
    assert "Example: tunesmith " in said.out or "Examples:" in said.out
    for field in (*function.positional, *function.keyword):
        assert field.name in function.doc, f"{verb}: the docstring says nothing about {field.name}"


def test_the_version(cli):
    from tunesmith import __version__

    assert cli("--version").out == f"tunesmith {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lsit"], 'There is no verb "lsit".\nDid you mean: list'),
        (["a.yaml"], "Say what to do with it: tunesmith train a.yaml"),
        (["--jsn"], "tunesmith has no --jsn.\nSee: tunesmith --help"),
        (["list", "metrcs"], "Did you mean: metrics"),
        (["new", "--force=maybe", "x.yaml"], 'force is "maybe".\nIt must be true or false.'),
    ],
)
def test_a_users_mistake_is_exit_2_without_traceback(cli, words: list[str], said: str):
    found = cli(*words)
    assert (found.code, found.out) == (2, "")
    assert said in found.err and "Traceback" not in found.err


def test_with_json_an_error_is_json_too(cli):
    found = cli("list", "metrcs", "--json")
    assert found.code == 2
    assert found.json == {
        "error": {
            "kind": "SettingError",
            "found": 'There is no shelf "metrcs".',
            "wanted": "",
            "fix": "Did you mean: metrics",
        }
    }


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """A verb of our own in place of `list`: verb(function)."""

    def put(call: Any) -> None:
        import tunesmith.api.list  # noqa: F401

        monkeypatch.setattr(sys.modules["tunesmith.api.list"], "list", call)

    return put


def raising(error: BaseException) -> Any:
    def list(what: str | None = None, *, project: str | None = None) -> Result:
        raise error

    return list


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Stopped."),
        (DataError("found", wanted="wanted", fix="fix"), 2, "found\nwanted\nfix"),
        (MemoryError(), 2, "Out of memory: nothing left to allocate"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            2,
            "pass_tokens",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "The disk is full: /x/y"),
    ],
)
def test_exit_codes(cli, verb, error: BaseException, code: int, said: str):
    verb(raising(error))
    found = cli("list")
    assert found.code == code and said in found.err and "Traceback" not in found.err


@pytest.mark.parametrize("error", [ZeroDivisionError(), FileNotFoundError(2, "x"), RuntimeError("shapes differ")])
def test_our_bugs_are_not_hidden(verb, cli, error: Exception):
    verb(raising(error))
    with pytest.raises(type(error)):
        cli("list")


def test_annotations_are_enforced_and_convert(verb, cli):
    got = []

    def put(what: str | None = None, *, project: Literal["a", "b"] | None = None) -> Result:
        got.append((what, project))
        return Result(what=what, text="done")

    verb(put)
    assert cli("list", "7", "--project", "a").out == "done\n"
    assert got == [("7", "a")]
    found = cli("list", "--project", "c")
    assert found.code == 2 and "It must be one of a, b" in found.err
    assert cli("list", "x", "--json").json == {"what": "x"}


def test_a_result_without_text_prints_nothing(verb, cli):
    verb(lambda what=None, project=None: Result(a=1))
    assert cli("list").out == ""


def test_run_without_a_known_verb_names_the_nearest():
    with pytest.raises(SettingError, match="explain"):
        run(["explian", "lora"])
    assert command.API.name == "api"
