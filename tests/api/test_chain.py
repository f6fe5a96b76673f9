"""tunesmith chain: stages from one another, killed and gone on with, in one table."""

import json
from pathlib import Path

import pytest

from tunesmith.api.chain import chain
from tunesmith.api.runs import runs
from tunesmith.core.errors import ProjectError, UserError

SHARED = "model: pico\nadapter: lora\nlength: 96\ntrain: {steps: 2, batch_size: 4, sample: 0}\n"


@pytest.fixture
def here(folder: Path) -> Path:
    rows = [{"question": f"What is {i} plus {j}?", "answer": f"It is {i + j}."} for i in range(6) for j in range(6)]
    votes = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "Go away."} for row in rows]
    texts = [{"text": f"The law number {i} says that {i} apples are {3 * i} coins."} for i in range(30)]
    for name, lines in (("faq", rows), ("votes", votes), ("raw", texts)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def write(here: Path, stages: str, more: str = "") -> str:
    (here / "chain.yaml").write_text(
        f"{SHARED}stages:\n{stages}compare: {{rows: 4, max_tokens: 4}}\n{more}", encoding="utf-8"
    )
    return "chain.yaml"


ROAD = (
    "  pretrain: {method: pretrain, data: raw.jsonl, adapter: full}\n"
    "  infill: {method: infill, data: raw.jsonl}\n"
    "  sft: {method: sft, data: faq.jsonl, metrics: [token_f1]}\n"
    "  reward: {method: reward, data: votes.jsonl}\n"
    "  dpo: {method: dpo, data: votes.jsonl}\n"
    '  ppo: {from: sft, method: {ppo: {reward: {model: "@reward"}, max_tokens: 4}}, data: faq.jsonl}\n'
)


def hashes(out: str) -> dict[str, str]:
    found = {path.parent.name: json.loads(path.read_text()) for path in Path(out).glob("*/manifest.json")}
    return {name: manifest["outcome"]["result_hash"] for name, manifest in found.items() if "outcome" in manifest}


def test_the_whole_road_in_one_command(here: Path):
    found = chain(write(here, ROAD), quiet=True)
    assert found["status"] == "finished" and found["run"] == "runs/chain"
    names = [variant["name"] for variant in found["variants"]]
    assert names == ["base", "pretrain", "infill", "sft", "reward", "dpo", "ppo"]
    by_name = {variant["name"]: variant for variant in found["variants"]}
    assert (
        by_name["ppo"]["from"] == "sft" and by_name["dpo"]["from"] == "sft" and by_name["infill"]["from"] == "pretrain"
    )
    # every language model on every stage's test rows; the reward model on pairs alone
    shared = {
        "pretrain: bits/byte", "pretrain: perplexity", "infill: bits/token of blanks", "sft: bits/byte of answers",
        "reward: pairs right", "sft: token_f1",
    }  # fmt: skip
    assert set(found["measures"]) == shared
    assert all(set(by_name[name]["measures"]) == shared for name in names if name != "reward")
    assert set(by_name["reward"]["measures"]) == {"reward: pairs right"}
    assert all(one["n"] for variant in found["variants"] for one in variant["measures"].values())
    assert (
        by_name["base"]["measures"]["pretrain: bits/byte"]["value"]
        > by_name["pretrain"]["measures"]["pretrain: bits/byte"]["value"]
    )
    assert Path("runs/chain/comparison.md").read_text().count("\n| ") == 8
    # the votes are about questions that sft trained on, and the table says so; a stage has not seen its own test rows
    assert any(one["stage"] == "sft" and one["rows"] == "reward: pairs right" for one in found["seen"])
    assert all(one["stage"] != one["rows"].partition(":")[0] for one in found["seen"]) and "not unseen" in found.text
    # lineage: an adapter's run became the base of the next, merged, and the registry knows
    assert Path(by_name["dpo"]["merged_base"]).name == "sft" and by_name["infill"]["merged_base"] is None
    assert [Path(path).name for path in runs("chain/ppo")["lineage"]] == ["sft", "infill", "pretrain"]
    # again: nothing is trained or measured again, no test row read again
    reads = [len(json.loads(path.read_text())["test_reads"]) for path in Path("runs/chain").glob("*/manifest.json")]
    assert chain("chain.yaml", quiet=True)["variants"] == found["variants"]
    assert reads == [
        len(json.loads(path.read_text())["test_reads"]) for path in Path("runs/chain").glob("*/manifest.json")
    ]
    # a stage with other settings is refused
    with pytest.raises(ProjectError, match="sft is there already, made with other settings: train.steps 2 -> 3"):
        chain("chain.yaml", quiet=True, stages={"sft": {"train": {"steps": 3}}})


SHORT = "  sft: {method: sft, data: faq.jsonl}\n  dpo: {method: dpo, data: votes.jsonl}\n"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("deaths", [(1, 2, 3, 4, 5, 6)])
def test_killed_anywhere_the_same_command_ends_with_the_same_weights(here: Path, monkeypatch, deaths):
    from tunesmith.train import checkpoint

    path = write(here, SHORT)
    chain(path, quiet=True, out="whole")
    save, count = checkpoint.save, 0

    def dying(*args, **keys):
        nonlocal count
        count += 1
        if count in deaths and count % 2:
            raise Killed
        made = save(*args, **keys)
        if count in deaths:
            raise Killed
        return made

    monkeypatch.setattr(checkpoint, "save", dying)
    died = 0
    for _ in range(20):
        try:
            chain(path, quiet=True, out="torn")
            break
        except Killed:
            died += 1
    assert died == len(deaths) and hashes("torn") == hashes("whole") and set(hashes("torn")) == {"sft", "dpo"}


def test_a_stage_may_start_from_the_base_and_keys_reach_all_or_one(here: Path):
    stages = "  one: {data: faq.jsonl}\n  two: {from: base, data: {path: faq.jsonl, seed: 0}, seed: 1}\n"
    found = chain(write(here, stages), quiet=True, train={"steps": 1}, stages={"two": {"train": {"steps": 3}}})
    assert [(v["from"], v["steps"]) for v in found["variants"][1:]] == [("base", 1), ("base", 3)]
    assert found["measures"] == ["one: bits/byte of answers"]  # equal test rows are one column
    assert json.loads(Path("runs/chain/two/manifest.json").read_text())["parent"] is None


def test_what_cannot_be_chained_leaves_nothing_behind(here: Path):
    with pytest.raises(ProjectError, match="has no stages"):
        chain("chain.yaml") if (here / "chain.yaml").write_text("model: pico\n") else None
    with pytest.raises(ProjectError, match="no earlier stage"):
        chain(write(here, "  sft: {from: later, data: faq.jsonl}\n"))
    with pytest.raises(Exception, match="Did you mean: sft"):
        chain(write(here, "  sft: {method: stf, data: faq.jsonl}\n"))
    with pytest.raises(Exception, match="compare.rosw"):
        chain(write(here, SHORT), compare={"rosw": 3})
    assert not Path("runs").exists()


def test_stages_that_left_the_file_are_told(here: Path):
    chain(write(here, "  one: {data: faq.jsonl}\n"), quiet=True)
    with pytest.raises(ProjectError, match="no longer has: one"):
        chain(write(here, "  two: {data: faq.jsonl}\n"), quiet=True)


def test_other_verbs_say_what_runs_stages(here: Path):
    from tunesmith.api.train import train

    with pytest.raises(ProjectError, match="Run them all: tunesmith chain chain.yaml"):
        train(write(here, SHORT))


REWARDED = (
    SHORT + "  reward: {method: reward, data: votes.jsonl}\n  text: {from: base, method: pretrain, data: raw.jsonl}\n"
)
WRONG = [
    (REWARDED, {"judge": "rewrd"}, "compare.judge is rewrd, which is no stage.*Did you mean: reward"),
    (REWARDED, {"judge": "sft"}, "compare.judge is sft, a stage of method=sft.*There is: reward"),
    (REWARDED, {"reference": "reward"}, "compare.reference is reward, a stage of method=reward"),
    (REWARDED, {"answer": "text"}, "compare.answer is text, a stage of method=pretrain"),
    (REWARDED, {"metrics": ["token_f2"]}, "Did you mean: token_f1"),
    ("  text: {method: pretrain, data: raw.jsonl}\n", {"metrics": ["token_f1"]}, "no stage has questions to answer"),
    (SHORT + "  last: {data: faq.jsonl, train: {stesp: 3}}\n", {}, "stages.last: .*Did you mean: train.steps"),
    (SHORT + "  last: {data: fqa.jsonl}\n", {}, "stages.last: data.path: there is no fqa.jsonl"),
    (SHORT + "  last: {method: {dpo: {beta: -1}}, data: votes.jsonl}\n", {}, "stages.last: beta is -1"),
    (SHORT + "  last: {data: faq.jsonl, metrics: [{sql: {}}]}\n", {}, "stages.last: "),
    (
        SHORT + "  last: {method: features, data: faq.jsonl, adapter: qlora}\n",
        {},
        "stages.last: adapter is set, but method=features",
    ),
    (
        "  one: {data: faq.jsonl, adapter: prompt}\n  two: {data: faq.jsonl}\n",
        {},
        "stages.two starts from one, whose adapter prompt",
    ),
]


@pytest.mark.parametrize(("stages", "compare", "says"), WRONG)
def test_what_is_wrong_anywhere_is_told_before_the_first_stage_trains(
    here: Path, stages: str, compare: dict, says: str
):
    from tunesmith.api.check import check

    path = write(here, stages)
    for verb in (chain, check):
        with pytest.raises(UserError, match=f"(?s){says}"):
            verb(path, compare=compare)
    assert not Path("runs").exists()


def test_check_reads_a_chain(here: Path):
    from tunesmith.api.check import check

    found = check(write(here, ROAD), compare={"judge": "reward", "reference": "sft"})
    assert [*found["stages"]] == ["pretrain", "infill", "sft", "reward", "dpo", "ppo"] and found["base"] == "embedded"
    assert "ppo       from sft: ppo" in found.text and "right" in found.text and not Path("runs").exists()


def test_from_python_with_rows_in_memory(folder: Path):
    rows = [{"question": f"What is {i}?", "answer": f"{i}."} for i in range(20)]
    stages = {
        "one": {"data": rows},
        "two": {"method": "pretrain", "data": [{"text": f"It is {i}."} for i in range(20)]},
    }
    found = chain(
        {"model": "pico", "train": {"steps": 1, "sample": 0}, "stages": stages, "compare": {"rows": 2}}, quiet=True
    )
    assert found["run"] == "runs/chain" and [one["from"] for one in found["variants"][1:]] == ["base", "one"]


def test_a_stage_over_data_that_was_edited_is_refused(here: Path):
    path = write(here, SHORT)
    found = chain(path, quiet=True, train={"steps": 1})
    votes = here / "votes.jsonl"
    kept = votes.read_text(encoding="utf-8")
    votes.write_text(kept.replace("Go away.", "Go on."), encoding="utf-8")
    before = hashes("runs/chain")
    with pytest.raises(ProjectError, match=r"dpo is there already.*: content of the data \w+ -> \w+"):
        chain(path, quiet=True, train={"steps": 1})
    assert hashes("runs/chain") == before
    votes.write_text(kept, encoding="utf-8")
    assert chain(path, quiet=True, train={"steps": 1})["variants"] == found["variants"]
    # a chain of an earlier version did not note what its data were
    record = json.loads(Path("runs/chain/chain.json").read_text())
    for stage in record["stages"].values():
        assert stage["asked"].pop("content of the data")
    Path("runs/chain/chain.json").write_text(json.dumps(record))
    assert chain(path, quiet=True, train={"steps": 1})["variants"] == found["variants"]


def cells(found, name: str) -> set[str]:
    return set(next(variant["measures"] for variant in found["variants"] if variant["name"] == name))


def test_a_chain_of_soft_prompts_ends_in_its_table(here: Path):
    """A soft prompt cannot be merged: its run is measured with it in front, and its places are taken from the context."""
    stages = "  sft: {data: faq.jsonl, adapter: {prompt: {virtual: 4}}}\n"
    found = chain(write(here, stages), quiet=True)
    assert cells(found, "sft") == cells(found, "base") == {"sft: bits/byte of answers"}
    base, tuned = (one["measures"]["sft: bits/byte of answers"]["value"] for one in found["variants"])
    assert base != tuned and found["blank"] == []


def test_networks_of_other_kinds_end_in_a_table_that_says_why_cells_are_blank(here: Path):
    titles = [{"title": f"{'goal' if i % 2 else 'law'} number {i}", "label": "ab"[i % 2]} for i in range(40)]
    (here / "titles.jsonl").write_text("\n".join(map(json.dumps, titles)))
    rows = "data: {path: titles.jsonl, columns: {text: title}}"
    stages = (
        "  masked: {method: masked, data: raw.jsonl}\n"
        f"  classify: {{method: classify, {rows}}}\n"
        f"  features: {{from: masked, method: features, {rows}}}\n"
    )
    found = chain(write(here, stages), quiet=True, model="pico-encoder")
    hidden, labels = "masked: bits/token of hidden tokens", "classify: accuracy"
    assert cells(found, "base") == cells(found, "masked") == {hidden}
    assert cells(found, "classify") == cells(found, "features") == {labels}
    by_name = {variant["name"]: variant["measures"] for variant in found["variants"]}
    assert by_name["masked"][hidden]["value"] < by_name["base"][hidden]["value"]
    assert "base has no classify: accuracy: it is a masked language model, which has no labels." in found.text
    assert "classify has no masked: bits/token of hidden tokens: it is a classifier." in found.text


def test_an_encoder_decoder_is_measured_on_what_it_writes(here: Path):
    pairs = [{"text": f"item {i}", "text2": f"thing {i}"} for i in range(24)]
    (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    stages = "  one: {method: seq2seq, data: pairs.jsonl}\n  two: {method: seq2seq, data: pairs.jsonl, seed: 1}\n"
    found = chain(write(here, stages), quiet=True, model="pico-t5", train={"lr": 0.05, "steps": 8})
    name = "one: bits/token of what is written"
    assert [cells(found, variant) for variant in ("base", "one", "two")] == [{*found["measures"]}] * 3
    values = [variant["measures"][name]["value"] for variant in found["variants"]]
    assert values[1] < values[0] and values[2] < values[0]


def test_scored_and_rated_answers_are_measured(here: Path):
    asked = [f"What is {i}?" for i in range(30)]
    scored = [{"prompt": one, "answers": [f"It is {one}", "No.", "Go."], "scores": [3, 1, 2]} for one in asked]
    rated = [
        {"prompt": one, "completion": "Good." if i % 2 else "zzzzz", "label": bool(i % 2)}
        for i, one in enumerate(asked)
    ]
    for name, lines in (("scored", scored), ("rated", rated)):
        (here / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    stages = (
        "  dpo: {method: dpo, data: scored.jsonl}\n  kto: {method: kto, data: rated.jsonl}\n"
        "  reward: {method: reward, data: scored.jsonl}\n"
    )
    found = chain(write(here, stages), quiet=True, compare={"rows": None})
    both = {"dpo: pairs right", "kto: good answers above bad"}
    assert all(cells(found, name) == both for name in ("base", "dpo", "kto", "reward"))
    pairs = found["variants"][0]["measures"]["dpo: pairs right"]
    lines = Path("runs/chain/evals/base/dpo.jsonl").read_text().splitlines()
    assert len(lines) % 3 == 0 and pairs["extra"]["clusters"] == len(lines) // 3  # three scores a row are three pairs


def test_several_labels_and_numbers_have_measures_of_their_own(folder: Path):
    several = [{"text": f"x {i}", "label": (["a"], ["a", "b"], ["b"])[i % 3]} for i in range(40)]
    numbers = [{"text": f"x {i}", "label": i / 10} for i in range(40)]
    stages = {
        "m": {"method": {"classify": {"problem": "multi"}}, "data": several},
        "r": {"from": "base", "method": {"classify": {"problem": "regression"}}, "data": numbers},
    }
    found = chain({"model": "pico", "train": {"steps": 2, "sample": 0}, "stages": stages}, quiet=True)
    assert (
        cells(found, "m") == {"m: label_f1"} and cells(found, "r") == {"r: number_error"} and not cells(found, "base")
    )
    assert "r has no m: label_f1: it tells other labels apart." in found.text
