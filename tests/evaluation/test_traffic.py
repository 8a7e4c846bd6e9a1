"""Corrections, weighted, say what all predictions would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.evaluation.traffic import assumed_weights, confirmation_weights, heldout_weights
from sentiment.records import LABELS, Label

PREDICTED = np.array([0, 0, 0, 1, 1, 2])
ERRORS = np.array([True, False, False, True, False, False])


def test_a_confirmation_stands_for_what_was_right_of_its_class() -> None:
    """11 called negative, one of them wrongly: two confirmations stand for 5 each."""
    counts: dict[Label, int] = {"negative": 11, "neutral": 9, "positive": 4}
    assert confirmation_weights(PREDICTED, ERRORS, counts).tolist() == [5.0, 8.0, 4.0]


def test_weights_are_capped_and_never_below_one() -> None:
    """Counts that are wrong or huge do not make one row speak for all, nor for nothing."""
    counts: dict[Label, int] = {"negative": 100_000, "neutral": 0}
    assert confirmation_weights(PREDICTED, ERRORS, counts, cap=7.0).tolist() == [7.0, 1.0, 1.0]


def test_without_counts_or_confirmations_a_row_weighs_one() -> None:
    """Unknown is not zero."""
    assert confirmation_weights(PREDICTED, ERRORS, {}).tolist() == [1.0] * 3
    assert confirmation_weights(PREDICTED[:0], ERRORS[:0], {"negative": 5}).tolist() == [1.0] * 3
    assert confirmation_weights(PREDICTED[:1], ERRORS[:1], {"negative": 5}).tolist() == [1.0] * 3


def test_what_cannot_be_is_refused() -> None:
    """Shapes, classes, counts and caps."""
    for arguments in (
        (PREDICTED, ERRORS[:2], {}),
        (PREDICTED + 1, ERRORS, {}),
        (PREDICTED, ERRORS, {"negative": -1}),
    ):
        with pytest.raises(ValueError):
            confirmation_weights(*arguments)
    with pytest.raises(ValueError):
        confirmation_weights(PREDICTED, ERRORS, {}, cap=0.5)


@given(
    wrong=st.lists(st.integers(0, 50), min_size=3, max_size=3),
    confirmed=st.lists(st.integers(1, 50), min_size=3, max_size=3),
    unseen=st.lists(st.integers(0, 500), min_size=3, max_size=3),
)
def test_the_weights_add_up_to_all_predictions(
    wrong: list[int], confirmed: list[int], unseen: list[int]
) -> None:
    """Where each class has a confirmation and nothing is capped."""
    predicted = np.repeat(np.arange(3), [a + b for a, b in zip(wrong, confirmed, strict=True)])
    errors = np.concatenate([np.arange(a + b) < a for a, b in zip(wrong, confirmed, strict=True)])
    counts = {label: wrong[i] + confirmed[i] + unseen[i] for i, label in enumerate(LABELS)}
    per_class = confirmation_weights(predicted, errors, counts, cap=np.inf)
    assert errors.sum() + per_class[predicted[~errors]].sum() == pytest.approx(sum(counts.values()))


@pytest.mark.parametrize("accuracy", [0.6, 0.72, 0.95])
def test_assumed_weights_make_the_accuracy_come_out(accuracy: float) -> None:
    """Of 100 errors and 40 confirmations, whatever the accuracy."""
    errors = np.arange(140) < 100
    weights = assumed_weights(errors, accuracy)
    assert weights[~errors].sum() / weights.sum() == pytest.approx(accuracy)
    assert (weights[errors] == 1.0).all()


def test_assumed_weights_are_finite_and_at_least_one() -> None:
    """A perfect model, a model that is never right, and rows of one kind only."""
    errors = np.arange(20) < 10
    assert np.isfinite(assumed_weights(errors, 1.0)).all()
    assert assumed_weights(errors, 0.0).tolist() == [1.0] * 20
    assert assumed_weights(errors[:5], 0.7).tolist() == [1.0] * 5
    assert assumed_weights(errors[15:], 0.7).tolist() == [1.0] * 5


def test_held_out_rows_stand_for_all_that_was_said() -> None:
    """Two of ten errors are held out, and one of four confirmations that stand for twenty each."""
    errors = np.array([True, True, False])
    others = np.array([True] * 8 + [False] * 3)
    weights = heldout_weights(
        np.array([0, 1, 0]), errors, np.zeros(11, dtype=np.int64), others, np.array([20.0, 1.0, 1.0])
    )
    assert weights.tolist() == [5.0, 5.0, 80.0]


def test_without_held_out_rows_of_a_kind_the_others_stand_for_themselves() -> None:
    """Nobody confirmed anything: errors share errors."""
    none = np.array([], dtype=np.int64)
    weights = heldout_weights(np.array([0]), np.array([True]), none, none == 0, np.ones(3))
    assert weights.tolist() == [1.0]
