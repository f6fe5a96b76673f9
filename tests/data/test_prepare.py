import gc
import json
import random
import tracemalloc

import pytest

from tunesmith.core.errors import DataError, ProjectError
from tunesmith.core.runs import RunFolder
from tunesmith.data.card import Card, told
from tunesmith.data.prepare import hash_sources, open_test, prepare, reopen
from tunesmith.data.rows import RowFile


def put(tmp_path, name, rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def qa(*numbers):
    return [{"question": f"질문 {n}?", "answer": f"답 {n}"} for n in numbers]


def origins(rows):
    return {row["origin"] for row in rows}


def test_into_a_run_folder(tmp_path):
    put(tmp_path, "faq.jsonl", [*qa(*range(40)), {"question": "q", "answer": 3}, *qa(5, 6)])
    run = RunFolder.create(tmp_path / "run", project={"seed": 0}, verb="train")
    prepared = prepare(
        run.path,
        path="faq.jsonl",
        root=tmp_path,
        bad_rows="drop",
        dev=5,
        test=0.2,
        seed=7,
        steps=["dedup", {"filter": {"most": 11}}],
    )
    # 43 in: 1 of a wrong type, 2 duplicates, 30 of "질문 nn?" + "답 nn" with 11 characters stay
    assert prepared.counts["by_origin"]["faq.jsonl"] == {
        "rows_in": 43, "rows_out": 40, "rows_dropped": 3, "reasons": {"wrong type": 1, "duplicate": 2},
    }  # fmt: skip
    assert (len(prepared.train), len(prepared.dev), prepared.num_test) == (27, 5, 8)
    assert prepared.kind == "chat" and not prepared.reused
    test = open_test(run.path, by="eval")
    parts = [origins(prepared.train), origins(prepared.dev), origins(test)]
    assert len(set.union(*parts)) == 40 == sum(map(len, parts))
    dropped = list(RowFile(run.file("data/dropped.jsonl")))
    assert {(row["origin"], row["reason"]) for row in dropped} == {
        ("faq.jsonl:41", "wrong type"), ("faq.jsonl:42", "duplicate"), ("faq.jsonl:43", "duplicate"),
    }  # fmt: skip
    manifest = run.manifest()
    assert [read["by"] for read in manifest["test_reads"]] == ["eval"]
    assert set(manifest["data_hashes"]) == {"train", "dev", "test", "sources"}
    assert sorted(path.name for path in run.file("data").iterdir()) == [
        "card.json", "dev.jsonl", "dropped.jsonl", "test.jsonl", "train.jsonl",
    ]  # fmt: skip
    text = told(prepared.card)
    assert "shape question_answer (question -> answer)" in text and "duplicate 2" in text


def test_choosing_verbs_cannot_open_the_test_rows(tmp_path):
    put(tmp_path, "faq.jsonl", qa(*range(20)))
    run = RunFolder.create(tmp_path / "run", project={}, verb="train")
    with pytest.raises(ProjectError, match="no data/test.jsonl"):
        open_test(run.path, by="eval")
    prepare(run.path, path=tmp_path / "faq.jsonl")
    with pytest.raises(ProjectError, match="train asked for the test rows"):
        open_test(run.path, by="train")
    assert run.manifest()["test_reads"] == []
    prepare(run.path, path=tmp_path / "faq.jsonl", test=0)
    with pytest.raises(ProjectError, match="has no test rows"):
        open_test(run.path, by="eval")


def test_what_was_prepared_is_reused_until_something_changes(tmp_path):
    path = put(tmp_path, "faq.jsonl", qa(*range(30)))

    def again(**settings):
        return prepare(tmp_path / "run", path=path, **{"seed": 1, "dev": 3, **settings})

    first = again()
    assert not first.reused and again().reused
    assert again().card == first.card
    assert not again(seed=2).reused
    assert not again(dev=4).reused
    assert not again(steps=["dedup"]).reused and again(steps=["dedup"]).reused
    assert not again(steps=[{"dedup": {"part": "prompt"}}]).reused
    put(tmp_path, "faq.jsonl", qa(*range(31)))
    assert not again().reused and again().reused
    train = tmp_path / "run" / "data" / "train.jsonl"
    train.write_bytes(train.read_bytes() + b"{}\n")
    assert not again().reused and again().reused


def test_the_same_rows_in_another_order_give_the_same_split(tmp_path):
    rows = qa(*range(50))
    one = prepare(tmp_path / "a", path=rows, seed=4, dev=5, test=5)
    two = prepare(tmp_path / "b", path=random.Random(1).sample(rows, 50), seed=4, dev=5, test=5)
    for part in ("train", "dev", "test"):
        a, b = (RowFile(tmp_path / name / "data" / f"{part}.jsonl") for name in "ab")
        assert {row["id"] for row in a} == {row["id"] for row in b}
    assert len(one.train) == len(two.train) == 40


def test_files_of_their_own_for_dev_and_test(tmp_path):
    put(tmp_path, "train.jsonl", qa(*range(20)))
    put(tmp_path, "dev.jsonl", qa(30, 31, 3))
    put(tmp_path, "test.jsonl", qa(3, 4, 40))
    prepared = prepare(tmp_path / "run", path="train.jsonl", dev="dev.jsonl", test="test.jsonl", root=tmp_path)
    assert (len(prepared.train), len(prepared.dev), prepared.num_test) == (18, 2, 3)
    by_origin = prepared.counts["by_origin"]
    assert by_origin["train.jsonl"]["reasons"] == {"also in test": 2}
    assert by_origin["dev.jsonl"]["reasons"] == {"also in test": 1}
    assert by_origin["test.jsonl"]["rows_out"] == 3
    counts = prepared.counts
    assert (counts["rows_in"], counts["rows_out"], counts["rows_dropped"]) == (26, 23, 3)
    # a file for test alone leaves dev to be drawn
    prepared = prepare(tmp_path / "run", path="train.jsonl", test="test.jsonl", dev=4, root=tmp_path)
    assert (len(prepared.train), len(prepared.dev), prepared.num_test) == (14, 4, 3)
    with pytest.raises(DataError, match="train.jsonl is given twice"):
        prepare(tmp_path / "run", path="train.jsonl", test="train.jsonl", root=tmp_path)


def test_stratified_by_a_label_under_its_own_name(tmp_path):
    rows = [{"text": f"t{i}", "category": "ab"[i % 4 == 0]} for i in range(80)]
    prepared = prepare(tmp_path / "run", path=rows, dev=8, test=0, stratify="category")
    assert sorted(row["label"] for row in prepared.dev) == ["a"] * 6 + ["b"] * 2
    made = {"prompt": "{{ text }}", "answer": "{{ category }}"}
    prepared = prepare(tmp_path / "run", path=rows, dev=8, test=0, stratify="category", **made)
    assert sorted(row["columns"]["category"] for row in prepared.dev) == ["a"] * 6 + ["b"] * 2


def test_prompts_on_both_sides_are_counted(tmp_path):
    rows = [{"question": f"q{i // 2}", "answer": f"a{i}"} for i in range(60)]
    prepared = prepare(tmp_path / "run", path=rows, dev=0, test=20)
    train = {row["messages"][0]["content"] for row in prepared.train}
    test = [row["messages"][0]["content"] for row in RowFile(tmp_path / "run" / "data" / "test.jsonl")]
    both = sum(prompt in train for prompt in test)
    assert prepared.card["prompts_in_train_and_test"] == both > 0
    assert f"{both:,} test rows have a prompt that is also in train" in told(prepared.card)


def test_no_hash_of_a_row_outlives_the_preparation(tmp_path):
    put(tmp_path, "a.jsonl", qa(*range(50)))
    gc.collect()
    gc.disable()  # a circle would keep the card, 8 bytes a row, until the collector comes: seldom, beside torch's objects
    try:
        prepare(tmp_path / "run", path="a.jsonl", root=tmp_path)
        assert not [found for found in gc.get_objects() if isinstance(found, Card)]
    finally:
        gc.enable()


def test_an_error_leaves_what_was_there(tmp_path):
    path = put(tmp_path, "faq.jsonl", qa(*range(30)))
    prepare(tmp_path / "run", path=path)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run" / "data").iterdir()}
    put(tmp_path, "faq.jsonl", [*qa(*range(30)), {"question": "x"}])
    with pytest.raises(DataError, match='faq.jsonl:31  has no "answer"'):
        prepare(tmp_path / "run", path=path)
    with pytest.raises(DataError, match="No row is left to train on.\n.*\nDropped: too short"):
        prepare(tmp_path / "run", path=qa(1, 2), steps=[{"filter": {"least": 99}}])
    assert {file.name: file.read_bytes() for file in (tmp_path / "run" / "data").iterdir()} == before


def test_rows_that_a_step_changed_have_a_new_id(tmp_path):
    plain = prepare(tmp_path / "a", path=[{"text": "x y"}])
    tidied = prepare(tmp_path / "b", path=[{"text": "x   y"}], steps=[{"normalize": {"spaces": True}}])
    assert plain.train[0]["id"] == tidied.train[0]["id"]


def test_memory_stays_flat(tmp_path):
    def peak(number):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(
            "".join(f'{{"question": "why is {i} so?", "answer": "because of {i}"}}\n' for i in range(number))
        )
        tracemalloc.start()
        prepare(tmp_path / f"run{number}", path=path, steps=["dedup"])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    # 16 bytes a row for the card and the index of rows, up to twice that while arrays grow; the newest hashes of dedup
    assert peak(1_200) - peak(200) < 1_000 * (32 + 100) + 200_000


def test_a_hub_data_set_brings_its_own_splits(hub, tmp_path):
    settings = {"name": hub, "config": "ynat", "columns": {"text": "title"}, "test": 0}
    prepared = prepare(tmp_path / "run", **settings)
    assert [row["text"] for row in prepared.train] == ["train 하나", "train 둘"]
    assert [row["text"] for row in prepared.dev] == ["validation 하나", "validation 둘"]
    assert set(prepared.counts["by_origin"]) == {"some/topics/ynat/train", "some/topics/ynat/validation"}
    assert prepare(tmp_path / "run", **settings).reused
    prepared = prepare(tmp_path / "other", **{**settings, "dev": 1})  # asked for: drawn from train
    assert (len(prepared.train), len(prepared.dev)) == (1, 1)


def test_a_prompt_of_pairs_is_never_on_two_sides(tmp_path):
    rows = [{"prompt": f"q{i % 40}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(160)]
    prepared = prepare(tmp_path / "run", path=rows, dev=0.2, test=0.2)
    prompts = {
        part: {row["messages"][0]["content"] for row in RowFile(tmp_path / "run" / "data" / f"{part}.jsonl")}
        for part in ("train", "dev", "test")
    }
    assert all(prompts.values()) and sum(map(len, prompts.values())) == 40 == len(set.union(*prompts.values()))
    card = prepared.card
    assert card["kind"] == "preference" and card["prompts_in_train_and_test"] == 0 and card["duplicates"] == 0
    assert card["splits"]["train"]["prompts"] == len(prompts["train"])
    assert set(card["splits"]["train"]["characters"]) == {"prompt", "chosen", "rejected"}
    assert "a prompt is never on two sides" in told(card)
    # rows of a prompt that a file of its own holds out are taken from what is trained on
    held = [{"prompt": "q1", "chosen": "other", "rejected": "worse"}]
    (tmp_path / "test.jsonl").write_text(json.dumps(held[0]), "utf-8")
    card = prepare(tmp_path / "own", path=rows, dev=0, test=str(tmp_path / "test.jsonl")).card
    assert {"prompt also in test": 4} in [part["reasons"] for part in card["counts"]["by_origin"].values()]


def test_groups_are_counted(tmp_path):
    rows = [{"text": f"t{i}", "id": i // 3} for i in range(60)]
    card = prepare(tmp_path / "run", path=rows, group="id", dev=0.1, test=0.1).card
    assert card["kind"] == "group" and card["counts"]["rows_joined"] == 40
    assert card["splits"]["train"]["texts_per_row"] == 3 and card["splits"]["train"]["rows"] == 16
    assert "40 rows joined" in told(card)


def test_rows_are_read_as_the_method_wants_them_and_kept_for_verbs_that_want_nothing(tmp_path):
    rows = [{"instruction": f"q{i}", "output": f"a{i}", "chosen": f"b{i}", "rejected": f"c{i}"} for i in range(40)]
    path = put(tmp_path, "pairs.jsonl", rows)
    assert prepare(tmp_path / "run", path=path).kind == "preference"
    again = prepare(tmp_path / "run", path=path, kinds="chat")
    assert again.kind == "chat" and not again.reused
    assert prepare(tmp_path / "run", path=path).reused and prepare(tmp_path / "run", path=path, kinds="prompt").reused
    assert prepare(tmp_path / "run", path=path, kinds=("preference", "scored")).kind == "preference"


def test_rows_of_a_run_that_goes_on_are_the_same_or_refused(tmp_path):
    path = put(tmp_path, "faq.jsonl", qa(*range(30)))
    given = {"path": path, "dev": 3, "test": 3}
    before = dict(prepare(tmp_path / "run", **given).hashes)
    assert hash_sources(name=None, config=None, split=None, **given) == before["sources"]
    assert prepare(tmp_path / "run", before=before, **given).reused
    path.write_text(path.read_text() + "\n")  # other bytes, the same rows
    assert hash_sources(name=None, config=None, split=None, **given) != before["sources"]
    assert prepare(tmp_path / "run", before=before, **given).hashes["train"] == before["train"]
    kept = {file.name: file.read_bytes() for file in (tmp_path / "run" / "data").iterdir()}
    put(tmp_path, "faq.jsonl", qa(*range(31)))
    with pytest.raises(DataError, match="no longer what the run was started on"):
        prepare(tmp_path / "run", before=before, **given)
    assert {file.name: file.read_bytes() for file in (tmp_path / "run" / "data").iterdir()} == kept
    # rows prepared there in the meantime are no excuse
    other = prepare(tmp_path / "run", **given)
    with pytest.raises(DataError, match="other rows in"):
        prepare(tmp_path / "run", before=before, **given)
    assert prepare(tmp_path / "run", before=dict(other.hashes), **given).reused


def test_a_torn_card_is_named(tmp_path):
    path = put(tmp_path, "faq.jsonl", qa(*range(30)))
    prepare(tmp_path / "run", path=path)
    (tmp_path / "run" / "data" / "card.json").write_text('{"format"')
    for again in (lambda: prepare(tmp_path / "run", path=path), lambda: reopen(tmp_path / "run")):
        with pytest.raises(DataError, match=r"card\.json is not JSON"):
            again()
