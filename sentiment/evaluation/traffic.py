"""What corrections say about all that the service was asked.

People correct what is wrong and rarely confirm what is right, so corrections alone
show a model that is always wrong. Counting how often each class was predicted,
which needs no text, says how many right answers every confirmation stands for:
inverse-probability weighting (Horvitz and Thompson, 1952).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentiment.records import LABELS, Label

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


def confirmation_weights(
    predicted: IntArray,
    errors: BoolArray,
    predictions: Mapping[Label, int] | Mapping[Label, float],
    *,
    cap: float = math.inf,
) -> FloatArray:
    """Return how many predictions a confirmed or sampled row stands for, by predicted class, shape (3,).

    `predicted` has what the model said, as positions in `LABELS`, shape (n,), and
    `errors` whether it was wrong; the others were confirmed or sampled.
    `predictions` counts, per predicted class, all predictions that the rows were
    drawn from (empty: unknown). An error stands for itself. What is right of a
    class is shared out evenly among the confirmed and sampled rows of that class,
    at least 1 and at most `cap` each; 1 for a class without counts or without such
    rows.

    An error that nobody reported is counted as right, so the weights make the
    model look better than it is: they err on the side of what serves now.

    Raises:
        ValueError: shapes differ, or a value is out of range.
    """
    if predicted.shape != errors.shape or predicted.ndim != 1:
        raise ValueError(
            f"predicted and errors must have one shape (n,), got {predicted.shape} and {errors.shape}"
        )
    if len(predicted) and not 0 <= predicted.min() <= predicted.max() < len(LABELS):
        raise ValueError(f"predicted must be from 0 to {len(LABELS) - 1}")
    if cap < 1.0 or any(count < 0 for count in predictions.values()):
        raise ValueError("cap must be at least 1 and no count below 0")
    wrong = np.bincount(predicted[errors], minlength=len(LABELS))
    confirmed = np.bincount(predicted[~errors], minlength=len(LABELS))
    weights = np.ones(len(LABELS))
    for index, label in enumerate(LABELS):
        if label in predictions and confirmed[index]:
            right = predictions[label] - wrong[index]
            weights[index] = min(max(1.0, right / confirmed[index]), cap)
    return weights


def heldout_weights(
    predicted: IntArray,
    errors: BoolArray,
    others_predicted: IntArray,
    others_errors: BoolArray,
    per_class: FloatArray,
) -> FloatArray:
    """Return how many predictions each held-out row stands for, shape (n,), of all that was said.

    `predicted` and `errors` are of the held-out rows, shape (n,); the others, shape
    (m,), were said of the same traffic and are not held out. `per_class` is what
    `confirmation_weights` says of both together. Held-out errors share among them
    all errors, and held-out confirmations all that the confirmations stand for: how
    frequent errors are is known from everything that was said, not only from the part
    that chance has held out (double sampling for stratification, Cochran, 1977,
    chapter 12).
    """
    weights = np.where(errors, 1.0, per_class[predicted])
    others = np.where(others_errors, 1.0, per_class[others_predicted])
    for here, there in ((errors, others_errors), (~errors, ~others_errors)):
        if here.any():
            weights[here] *= 1.0 + others[there].sum() / weights[here].sum()
    return weights


def assumed_weights(errors: BoolArray, accuracy: float) -> FloatArray:
    """Return weights for rows whose predictions nobody counted, shape (n,).

    Confirmed and sampled rows weigh as much as it takes for the rows together to
    have been answered with `accuracy` (at least 1 each, so that the rows never
    flatter a challenger more than unweighted ones do). With an accuracy that is
    known from elsewhere this is post-stratification (Holt and Smith, 1979).
    """
    wrong, confirmed = int(errors.sum()), int((~errors).sum())
    if not confirmed:
        return np.ones(len(errors))
    right = wrong * accuracy / (1.0 - accuracy) if accuracy < 1.0 else math.inf
    # All right and all wrong are both unheard of: a bound keeps the weights finite.
    return np.where(errors, 1.0, min(max(1.0, right / confirmed), float(max(wrong, 1)) * 100.0))
