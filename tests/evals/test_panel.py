"""The panel: what it holds, what it measures, and what it says of a model that was damaged."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError
from tunesmith.evals.likelihood import likelihoods
from tunesmith.evals.panel import CHOICE_MARGIN, FOLDER, TEXT_MARGIN, compare_panels, items, run_panel
from tunesmith.evals.perplexity import perplexity
from tunesmith.metrics._korean import levels
from tunesmith.model.load import load


@pytest.fixture(scope="module")
def before(pico, tmp_path_factory):
    return run_panel(pico, tmp_path_factory.mktemp("before"))


def test_what_it_holds():
    texts, choices = items("text"), items("choices")
    assert Counter(row["language"] for row in texts) == {"en": 20, "ko": 20}
    assert Counter(row["language"] for row in choices) == {"en": 56, "ko": 56}
    everything = [*texts, *choices]
    assert len({row["id"] for row in everything}) == len(everything)
    assert len({row["context"] + row["right"] for row in choices}) == 112
    for row in texts:
        assert 80 <= len(row["text"]) <= 500 and bool(re.search("[가-힣]", row["text"])) == (row["language"] == "ko")
        if row["language"] == "ko":
            assert levels(row["text"])
    for row in choices:
        assert (
            row["right"] != row["wrong"]
            and row["right"][0] == row["wrong"][0] == " "
            and not row["context"].endswith(" ")
        )
        assert abs(len(row["right"]) - len(row["wrong"])) <= 6, row  # length alone must not decide


def test_a_fixed_panel_changes_only_on_purpose():
    # A changed item makes every earlier panel incomparable (compare_panels refuses): change this hash only when you mean to.
    digest = hashlib.sha256(
        b"".join((FOLDER / f"{name}.jsonl").read_bytes() for name in ("text", "choices"))
    ).hexdigest()
    assert digest == "8ceaac1fa1c74b661f9be1d6680456c5490c404cc6885d759dcde4c1610e2e47"


def test_measures_bits_per_byte_and_the_likelier_continuation(pico, before):
    english = [row["text"] for row in items("text") if row["language"] == "en"]
    assert before.summary["metrics"]["English text"]["value"] == pytest.approx(
        perplexity(pico, english).bits_per_byte, rel=1e-6
    )
    row = items("choices")[0]
    context, right, wrong = (pico.tokenizer.encode(row[key]) for key in ("context", "right", "wrong"))
    good, bad = likelihoods(pico, [context], [right, wrong]).sums[0]  # bytes: no token straddles the border
    line = next(line for line in before.rows if line["id"] == row["id"])
    assert line["margin"] == pytest.approx(good - bad, abs=1e-4) and line["right"] == float(good > bad)
    shares = before.summary["metrics"]["Korean pairs"]
    rights = [line["right"] for line in before.rows if line["task"] == "choice ko"]
    assert shares["value"] == np.mean(rights) and shares["low"] < shares["value"] < shares["high"] and shares["n"] == 56


def test_the_same_model_is_shown_to_be_no_worse(before, tmp_path):
    changes = compare_panels(before, before, folder=tmp_path)
    assert [change["outcome"] for change in changes] == ["not_told_apart"] * 4 and all(
        abs(change["difference"]) < 1e-12 for change in changes
    )
    assert changes[0]["kept"] and changes[0]["verdict"].startswith("after is not worse than before by more than")
    assert changes[0]["margin"] == pytest.approx(TEXT_MARGIN * before.summary["metrics"]["English text"]["value"])
    assert changes[2]["margin"] == CHOICE_MARGIN
    told = json.loads((tmp_path / "panel.json").read_text())["panel"]
    assert told[0]["before"]["value"] == told[0]["after"]["value"] and told[2]["unit"] == "share"


def test_a_damaged_model_is_found_and_a_trained_one_too(before, tmp_path):
    damaged = load("pico", seed=0)
    with torch.no_grad():
        damaged.net.get_input_embeddings().weight.mul_(40)
    changes = compare_panels(before, run_panel(damaged))
    for change in changes[:2]:
        assert change["outcome"] == "worse" and not change["kept"] and change["p"] < 0.001
        assert change["low"] > 0 and "after is worse than before by more than" in change["verdict"]

    trained = load("pico", seed=0)
    words = [torch.tensor([trained.tokenizer.encode(row["text"])]) for row in items("text") if row["language"] == "ko"]
    optimizer = torch.optim.Adam(trained.net.parameters(), lr=0.01)
    for ids in words * 2:
        optimizer.zero_grad()
        trained.net(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    korean = compare_panels(before, run_panel(trained), lang="ko")[1]
    assert (
        korean["outcome"] == "better"
        and korean["kept"]
        and korean["task"] == "한국어 글"
        and "좋음" in korean["told_apart"]
    )


def test_other_versions_and_other_evaluations_are_refused(before, tmp_path):
    from dataclasses import replace

    with pytest.raises(DataError, match="different versions"):
        compare_panels(before, replace(before, summary={**before.summary, "panel_hash": "x"}))
    with pytest.raises(DataError, match="no panel"):
        compare_panels(before, replace(before, summary={}))
