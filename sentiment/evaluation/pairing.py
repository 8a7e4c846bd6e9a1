"""Two models on the same rows: how sure is it that one is better?

Paired, because most rows are answered alike and only those that are not say
anything: on 2,000 tweets a paired interval is about half as wide as the distance
of two separate ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.records import LABELS

CLASSES = len(LABELS)
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: How often a kind of row that has not been seen counts as seen (Jeffreys, 1946: one half).
UNSEEN = 0.5


class Scores(Struct, frozen=True, eq=False):
    """One model's scores, for one set of rows or for many resamples of it.

    `recalls` has shape (..., 3), with NaN for a class without rows; `macro_recall`
    averages over the others. `accuracy` and `macro_recall` have shape (...).
    """

    macro_recall: FloatArray
    accuracy: FloatArray
    recalls: FloatArray


class PairedScores(Struct, frozen=True, eq=False):
    """Two models' scores on all rows, and on the same resamples of them."""

    champion: Scores
    candidate: Scores
    champion_draws: Scores
    candidate_draws: Scores

    def difference(self, measure: str) -> float:
        """Return candidate less champion, `measure` being a member of `Scores` with one value."""
        return float(getattr(self.candidate, measure) - getattr(self.champion, measure))

    def bound(self, measure: str, quantile: float) -> float:
        """Return a quantile of the differences between the resamples: a one-sided bound."""
        draws = getattr(self.candidate_draws, measure) - getattr(self.champion_draws, measure)
        return float(np.quantile(draws, quantile))


def paired_bootstrap(
    labels: NDArray[np.integer[Any]],
    champion_right: BoolArray,
    candidate_right: BoolArray,
    weights: FloatArray,
    *,
    seed: int,
    resamples: int,
) -> PairedScores:
    """Resample rows with replacement and score both models on each resample.

    The paired bootstrap of Koehn (2004), "Statistical Significance Tests for Machine
    Translation Evaluation", with the percentiles of Efron and Tibshirani (1993),
    chapter 13. Plain, not stratified by class: which classes people write is part of
    what is sampled, and accuracy depends on it.

    Both measures ask four things of a row (all arrays of shape (n,)): its class, its
    weight, and whether each model is right. So n draws from the rows are one
    multinomial draw over the kinds of row that occur: the same distribution, and the
    order of the rows makes no difference. Nor does it make one which model is called
    the champion: exchanging two that differ exchanges the results to the last bit.

    What no row shows, no resample would: twenty confirmations of which none was
    broken would prove that none ever is, each standing for twenty more. So each class
    gets half a row that only the one model has right and half that only the other
    has, as heavy as its heaviest (the pseudo-counts of Jeffreys's prior). They move
    no difference; they widen what rests on few rows.

    Raises:
        ValueError: no rows, or fewer than one resample.
    """
    if not len(labels) or resamples < 1:
        raise ValueError(f"a bootstrap needs rows and resamples, got {len(labels)} and {resamples}")
    kinds, counts = _kinds(labels, champion_right, candidate_right, weights)
    mirrored, mirrored_counts = _kinds(labels, candidate_right, champion_right, weights)
    exchanged = (mirrored.tolist(), mirrored_counts.tolist()) < (kinds.tolist(), counts.tolist())
    if exchanged:
        kinds, counts = mirrored, mirrored_counts
    drawn_from = np.concatenate([kinds, _unseen(kinds)])
    chances = np.concatenate([counts, np.full(len(drawn_from) - len(kinds), UNSEEN)])
    drawn = np.random.default_rng(seed).multinomial(len(labels), chances / chances.sum(), size=resamples)
    first, second = (
        (
            _scores(counts.astype(np.float64), kinds, column),
            _scores(drawn.astype(np.float64), drawn_from, column),
        )
        for column in (1, 2)
    )
    if exchanged:
        first, second = second, first
    return PairedScores(first[0], second[0], first[1], second[1])


def _kinds(
    labels: NDArray[np.integer[Any]], first: BoolArray, second: BoolArray, weights: FloatArray
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the distinct (label, first right, second right, weight) and how often each occurs."""
    rows = np.column_stack([labels, first, second, weights]).astype(np.float64)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    return kinds, counts.astype(np.int64)


def _unseen(kinds: FloatArray) -> FloatArray:
    """Return the heaviest row of each class that only the one and only the other model has right."""
    heaviest = {label: kinds[kinds[:, 0] == label, 3].max() for label in np.unique(kinds[:, 0])}
    return np.array(
        [[label, right, 1.0 - right, weight] for label, weight in heaviest.items() for right in (0.0, 1.0)]
    )


def _scores(counts: FloatArray, kinds: FloatArray, column: int) -> Scores:
    """Return the scores of `counts`, shape (..., kinds), of the model whose hits are in `column`."""
    classes = np.eye(CLASSES)[kinds[:, 0].astype(np.int64)] * kinds[:, 3:]
    support = counts @ classes
    right = counts @ (classes * kinds[:, column : column + 1])
    present = support > 0
    recalls = np.where(present, right / np.where(present, support, 1.0), np.nan)
    return Scores(
        macro_recall=np.asarray(np.where(present, recalls, 0.0).sum(axis=-1) / present.sum(axis=-1)),
        accuracy=np.asarray(right.sum(axis=-1) / support.sum(axis=-1)),
        recalls=recalls,
    )


def sign_test(broken: int, fixed: int) -> float:
    """Return the chance of at least `broken` in as many rows if each was as likely to be fixed.

    The exact, one-sided form of McNemar's test (1947) on the rows that two models
    answer differently: small when the candidate is worse.
    """
    rows = broken + fixed
    return float(sum(math.comb(rows, count) for count in range(broken, rows + 1)) / 2**rows)


def holm(chances: Sequence[float]) -> list[float]:
    """Return `chances` adjusted so that all may be held against one level (Holm, 1979).

    Whatever the tests have to do with each other, the chance that any true
    hypothesis is rejected at that level is at most that level.
    """
    adjusted = [0.0] * len(chances)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=lambda each: chances[each])):
        running = max(running, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = running
    return adjusted
