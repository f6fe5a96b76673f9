"""How Units lie in memory: packed or padded, positions, targets shifted once, columns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.model.batch import pack, pad
from tunesmith.text.example import Example, Unit

A = Example.of([5, 6, 7], [0, 0, 1])
B = Example.of([8, 9], [0, 0.5])
UNITS = [Unit((A,)), Unit((B, A))]


def test_packed_documents_lie_end_to_end_and_positions_restart():
    batch = pack(UNITS)
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 5, 6, 7]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert tuple(batch.segments) == (0, 3, 5, 8)
    assert batch.mask is None
    assert (batch.num_units, batch.num_examples, batch.num_tokens) == (2, 3, 8)


def test_padding_is_told_by_length_whatever_its_id():
    for pad_id in (0, 7):
        batch = pad(UNITS, pad_id)
        assert batch.ids.tolist() == [[5, 6, 7], [8, 9, pad_id], [5, 6, 7]]
        assert batch.mask.tolist() == [[True, True, True], [True, True, False], [True, True, True]]
        assert batch.segments is None


@pytest.mark.parametrize("lay", [pack, pad])
def test_each_trained_token_is_predicted_by_the_one_before_it(lay):
    batch = lay(UNITS)
    flat = batch.ids.flatten()
    assert batch.target.tolist() == [7, 9, 7]
    assert flat[batch.predictor].tolist() == [6, 8, 6]
    assert flat[batch.predictor + 1].tolist() == batch.target.tolist()
    assert batch.weight.tolist() == [1.0, 0.5, 1.0]
    assert batch.example.tolist() == [0, 1, 2]
    assert batch.unit.tolist() == [0, 1, 1]


@pytest.mark.parametrize("lay", [pack, pad])
def test_the_first_token_of_a_document_is_never_predicted_from_the_one_before(lay):
    first = Example(np.array([3, 4], dtype=np.int32), np.array([1.0, 1.0], dtype=np.float32))
    with pytest.raises(ValueError, match="predicted from nothing"):
        lay([Unit((A,)), Unit((first,))])
    assert Example.of([3, 4], [1, 1]).weights.tolist() == [0, 1]


def test_columns_go_along_by_example_or_by_trained_token():
    one = Example.of([5, 6, 7], [0, 1, 1], old=np.array([0.0, -1.0, -2.0]), advantage=0.5)
    two = Example.of([5, 6], [0, 1], old=np.array([0.0, -3.0]), advantage=-0.5)
    batch = pack([Unit((one, two))])
    assert batch.columns["old"].tolist() == [-1, -2, -3]
    assert batch.columns["advantage"].tolist() == [0.5, -0.5]


def test_a_batch_moves_whole():
    batch = pack(UNITS)
    assert batch.to("cpu") is batch
    assert all(
        getattr(batch.to("meta"), name).device.type == "meta" for name in ("ids", "positions", "target", "weight")
    )


lengths = st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_packed_and_padded_list_the_same_targets_in_the_same_order(documents):
    units = [
        Unit((Example.of([100 * number + i for i in range(len(trained))], [float(t) for t in trained]),))
        for number, trained in enumerate(documents)
    ]
    packed, padded = pack(units), pad(units)
    for name in ("target", "weight", "example", "unit"):
        assert torch.equal(getattr(packed, name), getattr(padded, name))
    assert torch.equal(packed.ids.flatten()[packed.predictor], padded.ids.flatten()[padded.predictor])
    assert len(packed.target) == sum(unit.examples[0].num_trained for unit in units)
