"""RewardModel: any prompt and answer, the same score whatever it is scored with; pairs judged by it or by likelihood."""

import json

import pytest
import torch
import transformers

from tunesmith.core.errors import DataError, ModelError
from tunesmith.evals.preference import answer_logprobs, evaluate_pairs
from tunesmith.evals.reward import RewardModel
from tunesmith.model.load import load
from tunesmith.objectives.reward import Reward
from tunesmith.text.encode import Text

ASKED = [
    {"messages": [{"role": "user", "content": "1+1?"}], "origin": "a:1", "id": "1"},
    {"messages": [{"role": "user", "content": "부산은?"}, {"role": "assistant", "content": "reference"}], "id": "2"},
]
PAIRS = [
    {"messages": [{"role": "user", "content": asked}], "chosen": [{"role": "assistant", "content": good}],
     "rejected": [{"role": "assistant", "content": bad}], "id": str(i), "origin": f"votes.jsonl:{i}"}
    for i, (asked, good, bad) in enumerate([("a?", "yes, of course", "no"), ("b?", "it is b", "never"), ("c?", "c", "no idea")])
]  # fmt: skip


@pytest.fixture(scope="module")
def judge():
    return RewardModel.of(load("pico", kind="classify", labels=Reward.labels, problem="regression", seed=3))


def test_a_score_is_transformers_at_the_last_token(judge):
    net = transformers.LlamaForSequenceClassification._from_config(judge.model.net.config, attn_implementation="eager")
    net.load_state_dict(judge.model.net.state_dict())
    (example,) = Text(judge.model.tokenizer).chat([*ASKED[0]["messages"], {"role": "assistant", "content": "2"}])
    with torch.no_grad():
        wanted = float(net.eval()(input_ids=torch.tensor(example.ids[None].tolist())).logits)
    assert judge.score(ASKED[:1], ["2"]) == pytest.approx([wanted], abs=1e-6)


def test_a_score_does_not_depend_on_what_else_is_scored(judge):
    rows = [ASKED[0], ASKED[0], ASKED[1], ASKED[0], ASKED[1], ASKED[1]]
    texts = ["2", "It is two, I think.", "", "3", "a port", "2"]
    together = judge.score(rows, texts)
    alone = [judge.score([row], [text])[0] for row, text in zip(rows, texts)]
    small = RewardModel(judge.model, judge.text, pass_tokens=1).score(rows, texts)
    assert together == pytest.approx(alone, abs=1e-6)
    assert together == pytest.approx(small, abs=1e-6)
    assert len(set(together)) == len(texts)


def test_a_reference_answer_is_not_read(judge):
    bare = {**ASKED[1], "messages": ASKED[1]["messages"][:1]}
    assert judge.score([ASKED[1]], ["a port"]) == judge.score([bare], ["a port"])
    assert judge.score([], []) == []


def test_a_model_that_scores_nothing_or_several_things_is_refused():
    with pytest.raises(ModelError, match="writes answers"):
        RewardModel.of(load("pico"))
    with pytest.raises(ModelError, match="scores yes, no"):
        RewardModel.of(load("pico", kind="classify", labels=("yes", "no")))


def test_pairs_are_judged_and_written(judge, tmp_path):
    done = evaluate_pairs(judge.score_answers, PAIRS, folder=tmp_path, name="dev", model=judge.model)
    lines = [json.loads(line) for line in (tmp_path / "dev.jsonl").read_text().splitlines()]
    scores = [judge.score([row, row], [row["chosen"][0]["content"], row["rejected"][0]["content"]]) for row in PAIRS]
    assert [(line["chosen_score"], line["rejected_score"]) for line in lines] == [
        pytest.approx(tuple(pair), abs=1e-6) for pair in scores
    ]
    assert done["metrics"]["preferred"]["value"] == pytest.approx(sum(a > b for a, b in scores) / 3)
    assert done["metrics"]["margin"]["value"] == pytest.approx(sum(a - b for a, b in scores) / 3, abs=1e-6)
    assert done["metrics"]["preferred"]["n"] == 3 and done["model"]["hash"]


def test_swapped_sides_are_the_other_share_and_a_tie_is_one_half(judge, tmp_path):
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in PAIRS]
    one, other = (
        evaluate_pairs(judge.score_answers, rows, folder=tmp_path, name="x")["metrics"]["preferred"]["value"]
        for rows in (PAIRS, swapped)
    )
    assert one == pytest.approx(1 - other)
    tie = evaluate_pairs(lambda rows, answers: [0.0] * len(rows), PAIRS, folder=tmp_path, name="tie")
    assert tie["metrics"]["preferred"]["value"] == 0.5
    with pytest.raises(DataError):
        evaluate_pairs(judge.score_answers, [], folder=tmp_path, name="none")


def test_likelihood_of_answers_is_that_of_the_language_model(tmp_path):
    model = load("pico", seed=1)
    (example,) = Text(model.tokenizer).chat([*PAIRS[0]["messages"], *PAIRS[0]["chosen"]])
    ids = torch.tensor(example.ids[None].tolist())
    with torch.no_grad():
        logp = torch.log_softmax(model.net(input_ids=ids, use_cache=False).logits[0, :-1], -1)
    wanted = logp.gather(1, ids[0, 1:, None])[:, 0][torch.tensor(example.weights[1:] > 0)]
    assert answer_logprobs(model)(PAIRS, [row["chosen"] for row in PAIRS])[0] == pytest.approx(
        float(wanted.sum()), abs=1e-4
    )
    mean = answer_logprobs(model, per_token=True)(PAIRS[:1], [PAIRS[0]["chosen"]])
    assert mean == pytest.approx([float(wanted.mean())], abs=1e-5)


def test_rows_with_several_pairs_are_clusters(judge, tmp_path):
    scored = [
        {"messages": [{"role": "user", "content": f"{i}?"}], "id": str(i),
         "answers": [{"content": f"{word} {i}", "score": number} for number, word in enumerate(("bad", "fair", "good"))]}
        for i in range(4)
    ]  # fmt: skip
    done = evaluate_pairs(judge.score_answers, scored, folder=tmp_path, name="scored")
    assert done["n"] == 12 and done["metrics"]["margin"]["extra"]["clusters"] == 4
