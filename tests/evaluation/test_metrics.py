"""The metrics agree with scikit-learn, with worked examples, and refuse what they cannot judge."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from sentiment.evaluation.metrics import (
    Metrics,
    brier_score,
    confusion_matrix,
    evaluate,
    expected_calibration_error,
    fit_temperature,
    macro_recall,
    macro_recall_interval,
    negative_log_likelihood,
)
from sentiment.records import LABELS

Array = NDArray[Any]


def _softmax(logits: Array) -> Array:
    weights: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast(Array, weights / weights.sum(axis=1, keepdims=True))


def _sample(rows: int, seed: int, sharpness: float = 2.0) -> tuple[Array, Array]:
    """Return logits and labels drawn from exactly softmax(logits): perfectly calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * sharpness
    cumulative = _softmax(logits).cumsum(axis=1)
    return logits, (rng.random((rows, 1)) > cumulative).sum(axis=1).clip(0, 2)


def _one_hot(predicted: list[int]) -> Array:
    return np.eye(3)[predicted]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(30, 200), float32=st.booleans())
def test_agrees_with_scikit_learn(seed: int, rows: int, float32: bool) -> None:
    """Every figure that scikit-learn knows is the same here."""
    logits, labels = _sample(rows, seed)
    probabilities = _softmax(logits)
    if float32:
        probabilities = probabilities.astype(np.float32)
    predicted = probabilities.argmax(axis=1)
    found = evaluate(probabilities, labels, resamples=10)
    present = np.unique(labels)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=[0, 1, 2], zero_division=0.0
    )
    assert found.rows == rows
    assert found.macro_recall == pytest.approx(recall[present].mean())
    assert found.macro_f1 == pytest.approx(f1[present].mean())
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    for index, label in enumerate(LABELS):
        one = found.classes[label]
        assert one.support == support[index]
        assert one.recall == (pytest.approx(recall[index]) if support[index] else None)
        assert one.f1 == (pytest.approx(f1[index]) if support[index] else None)
        assert one.precision == (pytest.approx(precision[index]) if (predicted == index).any() else None)
    assert (
        np.array(found.confusion).tolist()
        == sklearn_metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2]).tolist()
    )
    double = probabilities.astype(np.float64)
    double /= double.sum(axis=1, keepdims=True)
    assert found.negative_log_likelihood == pytest.approx(
        sklearn_metrics.log_loss(labels, double, labels=[0, 1, 2]), rel=1e-5
    )
    by_class = [
        sklearn_metrics.brier_score_loss(labels == c, double[:, c], labels=[False, True]) for c in range(3)
    ]
    assert found.brier_score == pytest.approx(sum(by_class), rel=1e-5)


@given(
    labels=numpy_strategies.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 2)),
    seed=st.integers(0, 2**32 - 1),
)
def test_bounds_and_order(labels: Array, seed: int) -> None:
    """Every figure lies in its range, and the order of the rows does not matter."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], size=len(labels))
    found = evaluate(probabilities, labels, resamples=50)
    shares = [found.macro_recall, found.macro_f1, found.accuracy, found.expected_calibration_error]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert 0.0 <= found.brier_score <= 2.0
    assert found.negative_log_likelihood >= 0.0
    interval = found.macro_recall_interval
    assert 0.0 <= interval.low <= interval.high <= 1.0
    order = rng.permutation(len(labels))
    again = evaluate(probabilities[order], labels[order], resamples=50)
    assert (again.confusion, again.classes, again.macro_recall_interval) == (
        found.confusion,
        found.classes,
        found.macro_recall_interval,
    )
    assert again.expected_calibration_error == pytest.approx(found.expected_calibration_error)
    assert again.brier_score == pytest.approx(found.brier_score)


def test_perfect_and_worst() -> None:
    """All right is 1 with no doubt left; all wrong is 0."""
    labels = np.array([0, 1, 2, 1])
    perfect = evaluate(_one_hot([0, 1, 2, 1]), labels)
    assert perfect.macro_recall == perfect.macro_f1 == perfect.accuracy == 1.0
    assert perfect.expected_calibration_error == perfect.brier_score == 0.0
    assert (perfect.macro_recall_interval.low, perfect.macro_recall_interval.high) == (1.0, 1.0)
    worst = evaluate(_one_hot([1, 2, 0, 0]), labels)
    assert (worst.macro_recall, worst.accuracy, worst.brier_score) == (0.0, 0.0, 2.0)
    assert worst.expected_calibration_error == 1.0
    assert np.isfinite(worst.negative_log_likelihood), "a probability of zero makes no mean infinite"


def test_every_class_counts_alike() -> None:
    """Macro-recall of a classifier that always says the common class is a third, whatever its accuracy."""
    labels = np.array([1] * 98 + [0, 2])
    always_neutral = np.full(100, 1)
    assert macro_recall(always_neutral, labels) == pytest.approx(1 / 3)
    found = evaluate(_one_hot(always_neutral.tolist()), labels)
    assert found.accuracy == 0.98
    assert found.classes["negative"].precision is None, "never predicted: precision is unknown, not zero"
    assert found.classes["negative"].f1 == 0.0


def test_absent_classes_are_left_out_and_named() -> None:
    """Without rows of a class its recall is unknown, and the average is over the others and says so."""
    found = evaluate(_one_hot([1, 0, 2]), np.array([1, 0, 0]))
    assert found.macro_over == ("negative", "neutral")
    assert found.macro_recall == pytest.approx((0.5 + 1.0) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1.0) / 2)
    positive = found.classes["positive"]
    assert (positive.recall, positive.f1, positive.precision, positive.support) == (None, None, 0.0, 0)


def test_expected_calibration_error_by_hand() -> None:
    """Two rows at 0.8 with one right, two at 0.5 with both right: (|1 - 1.6| + |2 - 1.0|) / 4."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25]])
    assert expected_calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx(0.4)


def test_expected_calibration_error_follows_its_definition() -> None:
    """Against a loop over bins as Guo et al. write them: open below, closed above."""
    logits, labels = _sample(500, seed=3)
    probabilities = _softmax(logits * 1.7)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for below, above in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (confidence > below) & (confidence <= above)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_calibrated_probabilities_have_a_small_calibration_error() -> None:
    """Labels drawn from the very probabilities leave only sampling noise; overconfidence shows."""
    logits, labels = _sample(20_000, seed=5)
    assert expected_calibration_error(_softmax(logits), labels) < 0.015
    assert expected_calibration_error(_softmax(logits * 3.0), labels) > 0.1


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_temperature_recovers_a_known_scale(scale: float) -> None:
    """Calibrated logits times s ask for the temperature s."""
    logits, labels = _sample(20_000, seed=7)
    assert fit_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.03)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.3, 5.0))
def test_no_other_temperature_is_better(seed: int, scale: float) -> None:
    """At the fitted temperature the negative log likelihood has its minimum."""
    logits, labels = _sample(200, seed)
    logits = logits * scale
    best = fit_temperature(logits, labels)
    least = negative_log_likelihood(_softmax(logits / best), labels)
    for other in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        temperature = min(max(best * other, 0.05), 20.0)
        assert negative_log_likelihood(_softmax(logits / temperature), labels) >= least - 1e-9


def test_temperature_at_its_limits() -> None:
    """Logits that are always right, always wrong, huge or all alike give a bounded temperature."""
    logits = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(0.05)
    assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(20.0)
    assert fit_temperature(np.ones((4, 3)), np.array([0, 1, 2, 1])) == 1.0
    huge = np.array([[1e30, 0.0, 0.0], [0.0, 1e30, 0.0]])
    assert fit_temperature(huge, np.array([0, 1])) == 1.0, "right at any temperature"
    assert fit_temperature(huge, np.array([1, 0])) == pytest.approx(20.0)


def test_interval_covers_the_truth() -> None:
    """Of 95 % intervals, about 95 % hold the macro-recall of the population they were drawn from."""
    recalls, shares = np.array([0.8, 0.6, 0.75]), np.array([0.16, 0.43, 0.41])
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        labels = rng.choice(3, size=400, p=shares)
        predicted = np.where(rng.random(400) < recalls[labels], labels, (labels + 1) % 3)
        interval = macro_recall_interval(confusion_matrix(predicted, labels), seed=trial, resamples=1_000)
        covered += interval.low <= recalls.mean() <= interval.high
    assert 0.91 <= covered / 300 <= 0.985, f"{covered} of 300 intervals cover the truth"


def test_interval_is_that_of_resampled_rows() -> None:
    """Drawing kinds of rows has the same distribution as drawing rows one by one."""
    logits, labels = _sample(300, seed=13)
    predicted = logits.argmax(axis=1)
    found = macro_recall_interval(confusion_matrix(predicted, labels), seed=1, resamples=4_000)
    rng = np.random.default_rng(2)
    drawn = rng.integers(0, 300, size=(1_500, 300))
    scores = [macro_recall(predicted[rows], labels[rows]) for rows in drawn]
    low, high = np.quantile(scores, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_interval_is_repeatable_and_quick() -> None:
    """The same seed gives the same interval, another seed about the same; 2,000 rows take no time."""
    logits, labels = _sample(2_000, seed=17)
    confusion = confusion_matrix(logits.argmax(axis=1), labels)
    first, again, other = (macro_recall_interval(confusion, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert other.low == pytest.approx(first.low, abs=0.005)
    started = time.perf_counter()
    evaluate(_softmax(logits), labels)
    assert time.perf_counter() - started < 1.0


def test_interval_when_a_class_has_one_row() -> None:
    """A resample without any row of a class averages over the others; no warning, no NaN."""
    interval = macro_recall_interval(confusion_matrix(np.array([0, 1, 2]), np.array([0, 1, 1])), seed=0)
    assert 0.0 <= interval.low <= interval.high <= 1.0


GOOD = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        (np.array([[0.2, np.nan, 0.3], [0.1, 0.1, 0.8]]), np.array([0, 1]), r"row 0 .* \(1 such rows\)"),
        (np.array([[0.2, 0.5, 0.3], [0.1, np.inf, 0.8]]), np.array([0, 1]), "must be finite: row 1"),
        (np.array([[0.2, 0.5, 0.3], [2.0, -1.0, 0.0]]), np.array([0, 1]), "between 0 and 1: row 1"),
        (np.array([[0.2, 0.5, 0.3], [0.2, 0.2, 0.2]]), np.array([0, 1]), "row 1 sums to 0.6"),
        (GOOD[:, :2], np.array([0, 1]), r"shape \(2, 3\).* got float64 of shape \(2, 2\)"),
        (GOOD[:1], np.array([0, 1]), r"there are 2 labels; got float64 of shape \(1, 3\)"),
        (GOOD.astype(int), np.array([0, 1]), "got int64"),
        (GOOD, np.array([0.0, 1.0]), "labels must be integers"),
        (GOOD, np.array([[0], [1]]), r"of shape \(2, 1\)"),
        (GOOD, np.array([0, 3]), "from 0 to 2: row 1 is 3"),
        (GOOD, np.array([-1, 0]), "row 0 is -1"),
        (np.empty((0, 3)), np.empty(0, dtype=int), "nothing to evaluate"),
    ],
)
def test_what_cannot_be_judged_is_refused(probabilities: Array, labels: Array, said: str) -> None:
    """Each metric on probabilities refuses the same input with the same words."""
    for judge in (evaluate, expected_calibration_error, negative_log_likelihood, brier_score):
        with pytest.raises(ValueError, match=said):
            judge(probabilities, labels)


def test_other_refusals() -> None:
    """Lengths that differ, logits that are not finite, intervals of nothing."""
    with pytest.raises(ValueError, match="2 predictions for 3 labels"):
        macro_recall(np.array([0, 1]), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="logits must be finite"):
        fit_temperature(np.array([[np.nan, 0.0, 0.0]]), np.array([0]))
    with pytest.raises(ValueError, match="bins must be at least 1"):
        expected_calibration_error(GOOD, np.array([0, 1]), bins=0)
    with pytest.raises(ValueError, match="an interval needs rows"):
        macro_recall_interval(np.zeros((3, 3), dtype=np.int64), seed=0)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        evaluate(GOOD, np.array([0, 1]), confidence=95)


def test_unsigned_and_narrow_labels() -> None:
    """Labels of any integer type count alike."""
    for kind in (np.uint8, np.int16, np.uint64):
        assert macro_recall(np.array([2, 1], dtype=kind), np.array([2, 2], dtype=kind)) == 0.5


def test_json_round_trip() -> None:
    """What is written as JSON is read back the same."""
    found = evaluate(GOOD, np.array([1, 2]))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Metrics) == found
