"""Nearest, groups and outliers on vectors whose answer is known; recall and reciprocal rank by hand."""

import numpy as np
import pytest

from tunesmith.core.errors import SettingError
from tunesmith.retrieve.vectors import cluster, nearest, outliers, recall_at, reciprocal_rank


@pytest.fixture
def topics():
    """Thirty vectors around three directions, 15, 10 and 5 of them, shuffled; and whose is whose."""
    rng = np.random.default_rng(0)
    topic = rng.permutation([0] * 15 + [1] * 10 + [2] * 5)
    return np.eye(8)[topic] * 3 + rng.normal(scale=0.3, size=(30, 8)), topic


def test_nearest_are_those_of_ones_own_topic(topics):
    vectors, topic = topics
    places, cosines = nearest(vectors, vectors, 4)
    assert (places[:, 0] == np.arange(30)).all() and np.allclose(cosines[:, 0], 1)
    assert (topic[places[:, 1:]] == topic[:, None]).all() and (np.diff(cosines, axis=1) <= 0).all()
    assert (nearest(vectors * 7, vectors, 4)[0] == places).all()  # length does not count
    assert nearest(vectors[0], vectors[:2], 10)[0].shape == (1, 2)


@pytest.mark.parametrize("number", [3, None])
def test_groups_are_the_topics_largest_first(topics, number):
    vectors, topic = topics
    assert (cluster(vectors, number) == topic).all()


def test_what_fits_nowhere_is_named_strangest_first(topics):
    vectors, _ = topics
    strange = np.zeros((2, 8))
    strange[0, 5], strange[1, 6], strange[1, 0] = 3.0, 3.0, 2.0
    found, far = outliers(np.vstack([vectors, strange]), neighbours=3)  # the smallest topic has five
    assert found[:2].tolist() == [30, 31] and len(found) <= 4 and far[30] > far[31] > far[:30].max()
    assert outliers(np.vstack([vectors, strange]), share=1 / 32, neighbours=3)[0].tolist() == [30]
    assert not len(outliers(np.ones((9, 3)))[0])


def test_recall_and_reciprocal_rank_by_hand():
    places = np.array([[3, 1, 2], [0, 5, 4], [9, 8, 7]])
    right = [{1, 2}, {4}, {6}]
    assert recall_at(places, right, 2).tolist() == [0.5, 0.0, 0.0]
    assert recall_at(places, right, 3).tolist() == [1.0, 1.0, 0.0]
    assert recall_at(places, [{1, 2, 3}] * 3, 1).tolist() == [1.0, 0.0, 0.0]
    assert reciprocal_rank(places, right).tolist() == pytest.approx([0.5, 1 / 3, 0.0])


def test_impossible_numbers_are_refused(topics):
    vectors, _ = topics
    for wrong in (lambda: nearest(vectors, vectors, 0), lambda: cluster(vectors, 31), lambda: outliers(vectors[:2])):
        with pytest.raises(SettingError):
            wrong()
