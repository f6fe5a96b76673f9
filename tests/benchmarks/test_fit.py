"""The trial of --fit: the same rows as planned, the proposal as settings, and a verdict that can be no."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import fit

from tunesmith.core.project import parse_value
from tunesmith.model.save import save
from tunesmith.plan.setup import Setup
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import Tokenizer


def folder_of(path: Path) -> Path:
    from tunesmith.model.load import load

    model = load("pico")
    save(model.net, model.tokenizer, path)
    return path


def test_rows_have_the_length_that_is_planned(tmp_path: Path) -> None:
    model = folder_of(tmp_path / "m")
    fit.write_rows(tmp_path / "rows.jsonl", model, 96, 5)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    text = Text(Tokenizer(model), length=4096)
    assert [len(example) for row in rows for example in text.chat(row["messages"])] == [96] * 5
    assert len({row["messages"][0]["content"] for row in rows}) == 5


def test_a_proposal_becomes_settings_and_leaves_the_rest_of_the_wish(tmp_path: Path) -> None:
    wish = fit.PAIRS[0].wish(tmp_path)
    setup = Setup(adapter="lora", precision="bf16", checkpointing=True, length=64, pass_tokens=512, batch_size=64)
    given = fit.settings(wish, asdict(setup))
    changed = {name for name in wish if given[name] != wish[name]}
    assert changed == {"train.precision", "train.checkpointing", "length", "train.pass_tokens"}
    assert given["train.pass_tokens"] == 512 and given.keys() == wish.keys()
    more = fit.settings(wish, asdict(replace(setup, base="int8", states="8bit")))
    assert {name: more[name] for name in more.keys() - wish.keys()} == {"base": "int8", "train.states": "8bit"}


def test_what_is_typed_is_read_back() -> None:
    for value in (True, 4096, "fp32", {"lora": {"rank": 8, "targets": None}}):
        assert parse_value(fit.typed(value)) == value


def test_only_a_kill_for_memory_counts_as_one() -> None:
    assert fit.ended(0, "") == "runs"
    assert fit.ended(-9, "") == "out of memory"
    assert fit.ended(1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory") == "out of memory"
    assert fit.ended(2, "faq.json is not there") == "faq.json is not there"


def test_the_verdict_wants_both() -> None:
    said = {"changes": ["train.pass_tokens=64"], "device": 600 << 20}
    line = {"name": "a", "said": said, "proposal": {"ended": "runs"}, "notch": {"ended": "out of memory"}}
    assert fit.held(line)
    assert not fit.held({**line, "notch": {"ended": "runs"}}) and not fit.held(
        {k: v for k, v in line.items() if k != "notch"}
    )
    assert not fit.held({**line, "proposal": {"ended": "out of memory"}})
    assert fit.show({"lines": [line, {**line, "notch": {"ended": "runs"}}]}).endswith("1 of 2 hold")


def test_ten_pairs_of_their_own() -> None:
    assert len({pair.name for pair in fit.PAIRS}) == len(fit.PAIRS) == 10
