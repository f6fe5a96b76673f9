"""features: scikit-learn's own predictions from saved numbers, vectors made once, the model untouched, better than the majority."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.evals.run import fingerprint
from tunesmith.model.load import load
from tunesmith.objectives._fitted import Fitted
from tunesmith.objectives.features import Features
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text

WORDS = {"sport": "ball", "law": "vote", "food": "soup"}
ROWS = [
    {"text": f"{word} {i} {word}", "label": label, "origin": f"a:{i}"}
    for i in range(12)
    for label, word in WORDS.items()
]


def ready(name="pico", rows=ROWS, **settings):
    model, objective = load(name, kind="embed", seed=1), Features(**settings).learn_labels(rows)
    text = Text(model.tokenizer)
    return model, objective, [u for row in rows for u in objective.units(row, text, np.random.default_rng(0))]


def scaled_of(objective, policy, units):
    rows = objective.extract(policy, units).astype(np.float64)
    spread = rows.std(0)
    return (rows - rows.mean(0)) / np.where(spread > 1e-6, spread, 1.0)


def test_is_an_item_of_the_shelf():
    check_item(Features())


@pytest.mark.parametrize("rows", [ROWS, [row for row in ROWS if row["label"] != "food"]], ids=["three", "two"])
@pytest.mark.parametrize("head", ["logistic", "knn", "mlp"])
def test_saved_numbers_predict_what_scikit_learn_does(head, rows, tmp_path):
    model, objective, units = ready(head=head, rows=rows, hidden=8)
    before = fingerprint(model.net)
    Fitted.save(objective.fit(model.policy, units, seed=3), tmp_path)
    fitted = Fitted.read(tmp_path)
    owner = np.array([objective.labels.index(row["label"]) for row in rows])
    oracle = {
        "logistic": LogisticRegression(max_iter=2000),
        "knn": KNeighborsClassifier(5, metric="cosine"),
        "mlp": MLPClassifier((8,), max_iter=500, random_state=3),
    }[head].fit(scaled_of(objective, model.policy, units), owner)
    wanted = oracle.predict_proba(scaled_of(objective, model.policy, units))
    assert np.abs(fitted.scores(objective.extract(model.policy, units)) - wanted).max() < 1e-4
    assert fingerprint(model.net) == before  # the base is untouched
    figures = objective.figures_of(fitted, model.policy, units)
    assert figures["accuracy"] > figures["majority"] and set(figures) == set(Features.figures)


def test_vectors_are_made_once_and_again_when_weights_or_texts_change(tmp_path):
    model, objective, units = ready()
    first = objective.extract(model.policy, units, folder=tmp_path)
    (made,) = tmp_path.glob("*.npy")
    np.save(made, np.full_like(first, 7.0))
    assert (objective.extract(model.policy, units, folder=tmp_path) == 7.0).all()
    assert np.allclose(objective.extract(model.policy, units[1:], folder=tmp_path), first[1:], atol=1e-6)
    model.net.layers[0].mlp.up_proj.weight.data[0] += 1e-3
    assert not (objective.extract(model.policy, units, folder=tmp_path) == 7.0).any()
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_encoders_give_features_too_and_a_label_without_rows_is_never_chosen():
    model, objective, units = ready("pico-encoder", labels=("law", "none", "food", "sport"))
    scores = objective.fit(model.policy, units).scores(objective.extract(model.policy, units))
    assert scores.shape == (36, 4) and scores[:, 1].max() == 0.0 and np.allclose(scores.sum(1), 1)


def test_impossible_settings_and_missing_files_are_refused(tmp_path):
    for wrong in ({"strength": 0.0}, {"neighbours": 0}, {"hidden": 0}):
        with pytest.raises(SettingError):
            Features(**wrong)
    with pytest.raises(ModelError, match="cannot be read"):
        Fitted.read(tmp_path)
