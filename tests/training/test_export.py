"""The exported file, against the model it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentiment.errors import ExportError
from sentiment.evaluation.data import read_tweets
from tests.training.conftest import write_tweets

pytestmark = pytest.mark.training


def _logits(labels: np.ndarray, flipped: int) -> np.ndarray:
    """Return confident logits that are right except for the first `flipped` rows."""
    logits = np.full((len(labels), 3), -3.0, dtype=np.float32)
    chosen = labels.copy()
    chosen[:flipped] = (chosen[:flipped] + 1) % 3
    logits[np.arange(len(labels)), chosen] = 3.0
    return logits


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("flipped", "accepted"), [(0, True), (8, True), (60, False)])
def test_an_export_that_loses_too_much_is_refused(tmp_path: Path, flipped: int, accepted: bool) -> None:
    """0.3 points of 3,000 tweets are nine: eight may be lost."""
    from sentiment.training.export import check_parity

    validation = read_tweets(write_tweets(tmp_path / "validation.tsv", 3_000, 3))
    reference = _logits(validation.labels, 0)
    served = _logits(validation.labels, flipped)
    if accepted:
        report = check_parity(_softmax(served), reference, served, 1.0, validation)
        assert report.float_macro_recall == 1.0
    else:
        with pytest.raises(ExportError, match=r"macro-recall of 0\.98.* trained model 1\.0000"):
            check_parity(_softmax(served), reference, served, 1.0, validation)


def test_nan_is_no_export(tmp_path: Path) -> None:
    """A diverged model must not slip through a comparison that NaN makes false."""
    from sentiment.training.export import check_parity

    validation = read_tweets(write_tweets(tmp_path / "validation.tsv", 30, 3))
    reference = _logits(validation.labels, 0)
    with pytest.raises(ValueError, match="finite"):
        check_parity(np.full_like(reference, np.nan), reference, reference, 1.0, validation)


@pytest.mark.parametrize(
    ("broken", "fixed", "allowed"),
    [(0, 0, 2 / 50 / 3), (5, 2, 3 * 7**0.5 / 50 / 3), (30, 0, 3 * 30**0.5 / 50 / 3)],
)
def test_on_few_tweets_chance_is_allowed_for(broken: int, fixed: int, allowed: float) -> None:
    """With 50 tweets a class, 0.3 points are less than half a tweet: two may go, or what rounding moves."""
    from sentiment.training.export import allowed_loss

    labels = np.repeat(np.arange(3), 50)
    reference, served = labels.copy(), labels.copy()
    served[:broken] = 1
    reference[50 - fixed : 50] = 1
    assert allowed_loss(served, reference, labels) == pytest.approx(allowed)


def test_on_many_tweets_it_is_three_points_in_a_thousand() -> None:
    """However many answers rounding has moved."""
    from sentiment.training.export import allowed_loss

    labels = np.repeat(np.arange(3), 1_000)
    assert allowed_loss(np.zeros_like(labels), labels, labels) == 0.003
