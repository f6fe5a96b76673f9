"""Stages: which starts from which, and what cannot be a chain."""

import pytest

from tunesmith.core.errors import ProjectError
from tunesmith.ladder.stages import CompareSettings, ancestors, differences, read_stages, with_runs


def kind_of(name, settings):
    return {"reward": "classify", "classify": "classify", "embed": "embed"}.get(str(settings.get("method")), "causal")


def read(**stages):
    return read_stages(stages, kind_of=kind_of)


def test_a_stage_goes_on_from_the_last_that_made_a_model_to_go_on_from():
    stages = read(
        pretrain={"method": "pretrain"}, sft={"method": "sft"}, reward={"method": "reward"}, dpo={"method": "dpo"},
        fresh={"from": "base", "method": "sft"}, ppo={"from": "sft", "method": {"ppo": {"reward": {"model": "@reward"}}}},
    )  # fmt: skip
    assert {stage.name: stage.base for stage in stages} == {
        "pretrain": None, "sft": "pretrain", "reward": "sft", "dpo": "sft", "fresh": None, "ppo": "sft",
    }  # fmt: skip
    assert stages[-1].refs == ("reward",) and "from" not in stages[-1].settings
    assert ancestors("ppo", stages) == ["sft", "pretrain"] and ancestors("pretrain", stages) == []


def test_names_of_stages_become_their_runs_and_other_words_stay():
    value = {"ppo": {"reward": [{"model": "@reward"}, "@mail"]}, "n": 3}
    assert with_runs(value, {"reward": "runs/chain/reward"}) == {
        "ppo": {"reward": [{"model": "runs/chain/reward"}, "@mail"]},
        "n": 3,
    }


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ({}, "holds no stages"),
        (["sft"], "holds no stages"),
        ({"SFT": {}}, "cannot be the name"),
        ({"base": {}}, "cannot be the name"),
        ({"../sft": {}}, "cannot be the name"),
        ({"sft": "faq.jsonl"}, "stages.sft is 'faq.jsonl'"),
        ({"sft": {"from": "sft"}}, "stages.sft.from is sft, which is no earlier stage"),
        ({"sft": {}, "dpo": {"from": "stf"}}, "Did you mean: sft"),
        ({"ppo": {"method": {"ppo": {"reward": {"model": "@reward"}}}}, "reward": {}}, "names @reward"),
        ({"sft": {"model": "mini"}}, "stages.sft.from: base"),
        ({"sft": {"out": "here"}}, "chain's folder under its name"),
    ],
)
def test_what_cannot_be_a_chain_is_refused(stages, says):
    with pytest.raises(ProjectError, match=says):
        read_stages(stages, kind_of=kind_of)


def test_differences_name_what_changed_and_not_what_is_new():
    before = {"train": {"steps": 5, "lr": None}, "model": "mini"}
    after = {"train": {"steps": 6, "lr": None, "invented_later": 1}, "model": "mini"}
    assert differences(before, after) == ["train.steps 5 -> 6"] and differences(after, after) == []


def test_a_table_of_no_rows_is_refused():
    with pytest.raises(Exception, match="compare.rows"):
        CompareSettings(rows=0)
