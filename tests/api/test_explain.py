"""explain says what a word means, in either language."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.api.config import catalogue, chain_catalogue
from tunesmith.api.explain import find, in_language
from tunesmith.core.errors import SettingError
from tunesmith.core.shelf import shelf, shelves


def test_every_item_and_setting_can_be_explained(folder: Path):
    for one in shelves():
        for name, item in one.items().items():
            text = tunesmith.explain(f"{one.name}/{name}").text
            assert item.doc in text
            for field in item.settings():
                assert field.name in text and field.doc in text
    for name, field in catalogue().items():
        assert field.doc in tunesmith.explain(name).text
    assert set(tunesmith.explain("settings")["settings"]) == set(catalogue())


def test_a_word_of_several_meanings_gives_all(folder: Path):
    found = tunesmith.explain("seed")["found"]
    assert [*found] == ["setting seed", "setting data.seed", "setting generate.seed"]
    assert "Type:     int" in tunesmith.explain("seed").text


def test_verbs_and_the_overview(folder: Path):
    assert tunesmith.explain("check").text.startswith("tunesmith check\n\nCheck a project")
    assert "exact_match" in tunesmith.explain().text


def test_languages(folder: Path, mine: str):
    Path("tunesmith.yaml").write_text(f"use: [{mine}]\n")
    both, english, korean = (tunesmith.explain("mine", lang=lang).text for lang in (None, "en", "ko"))
    assert "For tests." in both and "나의 지표입니다." in both
    assert "For tests." in english and "나의" not in english
    assert "For tests." not in korean and "나의 지표입니다." in korean
    assert in_language("Only English.", "ko") == "Only English."
    assert (
        "학습률의 최고값" in tunesmith.explain("lr", lang="ko").text
        and "Learning rate" not in tunesmith.explain("lr", lang="ko").text
    )
    assert "학습률의 최고값" not in tunesmith.explain("settings", lang="en").text
    with pytest.raises(SettingError, match="en or ko"):
        tunesmith.explain("mine", lang="fr")


def test_the_unknown_names_the_nearest(folder: Path):
    with pytest.raises(SettingError, match="Did you mean: temperature"):
        tunesmith.explain("temprature")


def test_a_method_says_rows_figures_and_papers(folder: Path):
    text = tunesmith.explain("sft", lang="en").text
    assert "Rows:     chat: conversations" in text
    assert "Averaged: answer over tokens" in text
    assert "https://arxiv.org/abs/2203.02155" in text
    assert "accuracy: share of answer tokens" in text
    assert "Formula: loss = -sum over the answers' tokens" in text


@pytest.mark.parametrize("name", shelf("objectives").names())
def test_every_method_says_what_its_figures_mean(folder: Path, name: str):
    text = tunesmith.explain(f"objectives/{name}", lang="en").text
    assert "Figures:" in text and "Rows:" in text
    told = shelf("objectives").load(name).figures
    if isinstance(told, property):  # they depend on the settings
        assert told.__doc__.partition("\n")[0] in text
    else:
        assert all(f"  {figure}: {meaning}" in text for figure, meaning in told.items()) and told


ITEMS = [item for one in shelves() for item in one.items().values()]


@pytest.mark.parametrize("item", [item for item in ITEMS if item.shelf != "steps"], ids=lambda item: item.name)
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_formulas_are_shown_in_both_languages(folder: Path, item, lang: str):
    text = tunesmith.explain(f"{item.shelf}/{item.name}", lang=lang).text
    assert "\nFormula: " in text


def test_a_formula_alone_makes_no_language():
    assert in_language("Words.\n\nFormula: x", "ko") == "Words.\n\nFormula: x"
    assert in_language("Words.\n\nFormula: x\n\n말.", "ko") == "Formula: x\n\n말."
    assert in_language("Words.\n\nFormula: x (말)\n\n말.", "en") == "Words.\n\nFormula: x (말)"


def test_every_hyperparameter_of_an_item_is_found_by_its_name(folder: Path):
    owners: dict[str, set[str]] = {}
    for item in ITEMS:
        for field in item.settings():
            owners.setdefault(field.name, set()).add(f"setting {item.shelf}/{item.name}.{field.name}")
    for name, wanted in owners.items():
        assert wanted <= {kind for kind, _, _ in find(name, look=False)}
    text = tunesmith.explain("dpo.beta", lang="en").text
    assert text.startswith("dpo.beta: a setting of the method dpo") and "Default:  0.1" in text
    ranks = tunesmith.explain("rank")
    assert {"setting adapters/lora.rank", "setting adapters/dora.rank"} <= {
        *ranks["found"]
    } and "dora.rank: a setting" in ranks.text
    assert tunesmith.where("dpo.beta")["found"][0]["file"].endswith("objectives/dpo.py")
    with pytest.raises(SettingError, match="Did you mean: dpo.beta"):
        tunesmith.explain("dpo.btea")


def test_the_settings_of_a_chain_are_explained_in_both_languages(folder: Path):
    assert {"stages", "compare", "compare.judge", "compare.metrics"} <= {*chain_catalogue()}
    for name, field in chain_catalogue().items():
        text = tunesmith.explain(name).text
        assert f"{name}: a setting of a chain" in text and field.doc in text and field.korean in text and field.korean
    assert tunesmith.where("compare.judge")["found"][0]["file"].endswith("ladder/stages.py")
