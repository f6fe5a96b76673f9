"""explain says what a word means, in either language."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.api.config import catalogue
from tunesmith.api.explain import in_language
from tunesmith.core.errors import SettingError
from tunesmith.core.shelf import shelves


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
