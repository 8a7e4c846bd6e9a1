"""The simulated users behave as the figures say they do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.users import Users, count_predictions, hear

RIGHT = np.zeros(4000, dtype=np.int64)


def _answers(predicted: int, rows: int = 4000) -> np.ndarray:
    answers = np.full((rows, 3), 0.1, dtype=np.float32)
    answers[:, predicted] = 0.8
    return answers


def test_every_wrong_answer_is_corrected_with_the_true_label() -> None:
    """Nobody confirms unless asked to."""
    said = hear(Users(), RIGHT, _answers(2), first=10)
    assert [one.row for one in said] == list(range(10, 4010))
    assert {(one.predicted, one.corrected) for one in said} == {(2, 0)}
    assert hear(Users(), RIGHT, _answers(0), first=0) == []


def test_a_share_of_right_answers_is_confirmed() -> None:
    """About as many as asked for, and the same ones every time."""
    users = Users(confirming=0.3)
    said = hear(users, RIGHT, _answers(0), first=0)
    assert len(said) == pytest.approx(1200, abs=120)
    assert not any(one.is_error for one in said)
    assert said == hear(users, RIGHT, _answers(0), first=0)


def test_hostile_users_always_give_another_label_than_the_true_one() -> None:
    """A fifth of the people, and so of the answers; half of their lies confirm a wrong answer."""
    said = hear(Users(hostile=0.2), RIGHT, _answers(2), first=0)
    lies = [one for one in said if one.corrected != 0]
    assert len(lies) == pytest.approx(800, abs=250)
    assert {one.corrected for one in lies} == {1, 2}
    honest = {one.user for one in said if one.corrected == 0}
    assert honest.isdisjoint(one.user for one in lies)


def test_predictions_are_counted_by_class() -> None:
    """Classes that were never predicted count zero."""
    assert count_predictions([2, 2, 0]) == {"negative": 1, "neutral": 0, "positive": 2}
