"""How good predicted probabilities are: macro-recall first, then everything that explains it.

The metric that decides is macro-averaged recall, the official one of SemEval-2017
Task 4 (Rosenthal, Farra and Nakov, 2017, "SemEval-2017 Task 4: Sentiment Analysis
in Twitter", section 4.1): every class counts alike, however rare it is.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.records import LABELS, Label

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

CLASSES = len(LABELS)

#: Guo et al. (2017), "On Calibration of Modern Neural Networks", use 15 bins.
CALIBRATION_BINS = 15

#: Enough for percentile intervals: Efron and Tibshirani (1993), "An Introduction
#: to the Bootstrap", section 13.3, ask for at least 1,000.
RESAMPLES = 2_000

# Wide enough for what float16 arithmetic makes of a softmax.
_SUM_TOLERANCE = 1e-2
# What a sharper or flatter temperature would say is: these logits are not logits.
_SHARPEST, _FLATTEST = 0.05, 20.0
# Halvings of the bracket between those two: far beyond the precision of a float64.
_BISECTIONS = 64


class Interval(Struct, frozen=True):
    """A confidence interval, `confidence` being the share it is meant to cover (0 to 1)."""

    low: float
    high: float
    confidence: float


class ClassMetrics(Struct, frozen=True):
    """How one class fares.

    `support` counts its rows. `recall` and `f1` are None when it has none,
    `precision` is None when it was never predicted: these are not zero, they are unknown.
    """

    recall: float | None
    precision: float | None
    f1: float | None
    support: int


class Metrics(Struct, frozen=True, kw_only=True):
    """What `evaluate` measured.

    `macro_recall` and `macro_f1` average over `macro_over`, the classes that have
    rows. `confusion` counts rows by truth (outer) and prediction (inner), in the
    order of `sentiment.records.LABELS`. `brier_score` lies between 0 and 2,
    `negative_log_likelihood` is in nats; both are means over rows.
    """

    rows: int
    macro_recall: float
    macro_recall_interval: Interval
    macro_f1: float
    macro_over: tuple[Label, ...]
    accuracy: float
    classes: dict[Label, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]
    expected_calibration_error: float
    negative_log_likelihood: float
    brier_score: float


def evaluate(
    probabilities: Floats,
    labels: Integers,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Metrics:
    """Judge `probabilities`, shape (n, 3), against `labels`, shape (n,), as positions in `LABELS`.

    The prediction is the most probable class (the first of equals). `seed`,
    `resamples` and `confidence` are those of the interval: see `macro_recall_interval`.

    Raises:
        ValueError: wrong shapes or types, no rows, labels out of range, or rows
            that are no probabilities (not finite, outside 0 to 1, not summing to one).
    """
    probabilities = _check_probabilities(probabilities, labels)
    confusion = confusion_matrix(probabilities.argmax(axis=1), labels)
    classes = {label: _class_metrics(confusion, index) for index, label in enumerate(LABELS)}
    return Metrics(
        rows=len(labels),
        macro_recall=_macro_recall(confusion),
        macro_recall_interval=macro_recall_interval(
            confusion, seed=seed, resamples=resamples, confidence=confidence
        ),
        macro_f1=float(np.mean([each.f1 for each in classes.values() if each.f1 is not None])),
        macro_over=tuple(label for label, each in classes.items() if each.support),
        accuracy=float(confusion.trace() / len(labels)),
        classes=classes,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        expected_calibration_error=expected_calibration_error(probabilities, labels),
        negative_log_likelihood=negative_log_likelihood(probabilities, labels),
        brier_score=brier_score(probabilities, labels),
    )


def confusion_matrix(predicted: Integers, labels: Integers) -> NDArray[np.int64]:
    """Count rows by truth (first axis) and prediction (second), shape (3, 3).

    Raises:
        ValueError: wrong shapes or types, no rows, or values out of range.
    """
    _check_labels(predicted, "predicted")
    _check_labels(labels, "labels")
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} predictions for {len(labels)} labels: there must be one for each")
    cells = labels.astype(np.int64) * CLASSES + predicted.astype(np.int64)
    counts = np.bincount(cells, minlength=CLASSES**2)
    return counts.reshape(CLASSES, CLASSES).astype(np.int64)


def macro_recall(predicted: Integers, labels: Integers) -> float:
    """Return recall averaged over the classes that have rows, both arrays of shape (n,).

    Raises:
        ValueError: as for `confusion_matrix`.
    """
    return _macro_recall(confusion_matrix(predicted, labels))


def macro_recall_interval(
    confusion: NDArray[np.int64], *, seed: int, resamples: int = RESAMPLES, confidence: float = 0.95
) -> Interval:
    """Return the percentile bootstrap interval of macro-recall (Efron and Tibshirani, 1993, chapter 13).

    Rows are resampled with replacement. Macro-recall asks two things of a row:
    its class, and whether it was predicted right. So n draws from the rows are
    one multinomial draw of size n over those six kinds of row: the same
    distribution, without touching the rows. A class that a resample happens to
    miss is left out of that resample's average.

    Raises:
        ValueError: no rows, fewer than one resample, or a confidence outside 0 to 1.
    """
    rows = int(confusion.sum())
    if rows == 0 or resamples < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(
            "an interval needs rows, resamples and a confidence between 0 and 1, "
            f"got {rows}, {resamples} and {confidence}"
        )
    right = confusion.diagonal()
    kinds = np.concatenate([right, confusion.sum(axis=1) - right])
    drawn = np.random.default_rng(seed).multinomial(rows, kinds / rows, size=resamples)
    support = drawn[:, :CLASSES] + drawn[:, CLASSES:]
    # A missing class adds 0 / 1 to the sum and nothing to the number averaged over.
    recalls = drawn[:, :CLASSES] / np.maximum(support, 1)
    scores = recalls.sum(axis=1) / (support > 0).sum(axis=1)
    low, high = np.quantile(scores, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(low=float(low), high=float(high), confidence=confidence)


def expected_calibration_error(
    probabilities: Floats, labels: Integers, bins: int = CALIBRATION_BINS
) -> float:
    """Return how far confidence and accuracy are apart on average, 0 to 1 (Guo et al., 2017, equation 3).

    Rows, shape (n, 3), are put into `bins` of equal width by the probability of
    their top label, each bin open below and closed above.

    Raises:
        ValueError: as for `evaluate`, or fewer than one bin.
    """
    probabilities = _check_probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of_row = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence, side="left")
    # |accuracy - confidence| of a bin times its share of the rows: its size cancels.
    gaps = np.bincount(bin_of_row, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(probabilities: Floats, labels: Integers) -> float:
    """Return the mean of -log(probability of the true class), in nats, for rows of shape (n, 3).

    A probability of zero counts as the smallest step of a float64, as in
    scikit-learn's `log_loss`, so that one row cannot make the mean infinite.

    Raises:
        ValueError: as for `evaluate`.
    """
    probabilities = _check_probabilities(probabilities, labels)
    true_class = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true_class, np.finfo(np.float64).eps)).mean())


def brier_score(probabilities: Floats, labels: Integers) -> float:
    """Return the mean squared distance to the truth, summed over classes: 0 to 2 (Brier, 1950).

    Raises:
        ValueError: as for `evaluate`.
    """
    probabilities = _check_probabilities(probabilities, labels)
    return float(np.square(probabilities - np.eye(CLASSES)[labels]).sum(axis=1).mean())


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """Return the temperature T for which softmax(logits / T) has the least negative log likelihood.

    Temperature scaling (Guo et al., 2017, section 4.2), for `logits` of shape
    (n, 3). In 1/T the negative log likelihood is convex, so its slope crosses zero
    once, which bisection finds. T lies between 0.05 and 20, and is 1 where it
    makes no difference.

    Raises:
        ValueError: wrong shapes or types, no rows, labels out of range, or logits
            that are not finite.
    """
    logits = _check_table(logits, labels, "logits")
    # Only differences within a row matter, and the largest at zero cannot overflow.
    logits = logits - logits.max(axis=1, keepdims=True)
    true_class = logits[np.arange(len(labels)), labels]

    def slope(sharpness: float) -> float:
        """Return d(negative log likelihood) / d(1/T): what is expected less what is true."""
        weights = np.exp(logits * sharpness)
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return float((expected - true_class).mean())

    if slope(1.0 / _FLATTEST) == 0.0:
        return 1.0
    low, high = np.log(1.0 / _FLATTEST), np.log(1.0 / _SHARPEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(np.exp(middle)) < 0.0 else (low, middle)
    return float(np.exp(-(low + high) / 2.0))


def _macro_recall(confusion: NDArray[np.int64]) -> float:
    support = confusion.sum(axis=1)
    present = support > 0
    return float((confusion.diagonal()[present] / support[present]).mean())


def _class_metrics(confusion: NDArray[np.int64], index: int) -> ClassMetrics:
    right = int(confusion[index, index])
    support = int(confusion[index].sum())
    predicted = int(confusion[:, index].sum())
    return ClassMetrics(
        recall=right / support if support else None,
        precision=right / predicted if predicted else None,
        # In counts F1 needs no precision: a class that is never predicted scores zero.
        f1=2 * right / (support + predicted) if support else None,
        support=support,
    )


def _check_probabilities(probabilities: Floats, labels: Integers) -> NDArray[np.float64]:
    table = _check_table(probabilities, labels, "probabilities")
    if table.min() < 0.0 or table.max() > 1.0:
        row = int(((table < 0.0) | (table > 1.0)).any(axis=1).argmax())
        raise ValueError(f"probabilities must lie between 0 and 1: row {row} is {table[row].tolist()}")
    sums = table.sum(axis=1)
    off = np.abs(sums - 1.0)
    if off.max() > _SUM_TOLERANCE:
        row = int(off.argmax())
        raise ValueError(f"probabilities of a row must sum to one: row {row} sums to {sums[row]:.4f}")
    return table


def _check_table(values: Floats, labels: Integers, name: str) -> NDArray[np.float64]:
    _check_labels(labels, "labels")
    if values.shape != (len(labels), CLASSES) or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"{name} must be floats of shape ({len(labels)}, {CLASSES}), as there are {len(labels)} labels; "
            f"got {values.dtype} of shape {values.shape}"
        )
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{name} must be finite: row {row} is {values[row].tolist()} ({int(bad.sum())} such rows)"
        )
    return cast(NDArray[np.float64], values.astype(np.float64))


def _check_labels(labels: Integers, name: str) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape (n,), got {labels.dtype} of shape {labels.shape}")
    if not len(labels):
        raise ValueError(f"{name} has no rows: there is nothing to evaluate")
    if labels.min() < 0 or labels.max() >= CLASSES:
        row = int(((labels < 0) | (labels >= CLASSES)).argmax())
        raise ValueError(f"{name} must be from 0 to {CLASSES - 1}: row {row} is {labels[row]}")
