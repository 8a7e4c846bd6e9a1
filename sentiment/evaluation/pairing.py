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

    @property
    def both(self) -> FloatArray:
        """The mean of macro-recall and accuracy: better at rare classes or at frequent ones."""
        return np.asarray((self.macro_recall + self.accuracy) / 2.0)


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
    strata: NDArray[np.integer[Any]] | None = None,
    seed: int,
    resamples: int,
) -> PairedScores:
    """Resample rows with replacement and score both models on each resample.

    The paired bootstrap of Koehn (2004), "Statistical Significance Tests for Machine
    Translation Evaluation", with the percentiles of Efron and Tibshirani (1993),
    chapter 13. Plain, not stratified by class: which classes people write is part of
    what is sampled, and accuracy depends on it.

    Rows may come from `strata` (numbers from 0, shape (n,)) whose shares are known
    from more than these rows: from as many as the weights add up to. That is double
    sampling for stratification (Neyman, 1938; Cochran, 1977, chapter 12). Each
    resample then draws the strata's shares from that many, and from each stratum as
    many rows as it has.

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
    if strata is None:
        strata = np.zeros(len(labels), dtype=np.int64)
    kinds, counts = _kinds(strata, labels, champion_right, candidate_right, weights)
    mirrored, mirrored_counts = _kinds(strata, labels, candidate_right, champion_right, weights)
    exchanged = (mirrored.tolist(), mirrored_counts.tolist()) < (kinds.tolist(), counts.tolist())
    if exchanged:
        kinds, counts = mirrored, mirrored_counts
    drawn_from = np.concatenate([kinds, _unseen(kinds)])
    chances = np.concatenate([counts, np.full(len(drawn_from) - len(kinds), UNSEEN)])
    drawn = _draw(drawn_from, chances, counts, np.random.default_rng(seed), resamples)
    first, second = (
        (_scores(counts.astype(np.float64), kinds, column), _scores(drawn, drawn_from, column))
        for column in (_FIRST, _SECOND)
    )
    if exchanged:
        first, second = second, first
    return PairedScores(first[0], second[0], first[1], second[1])


# The columns of a kind of row.
_STRATUM, _LABEL, _FIRST, _SECOND, _WEIGHT = range(5)


def _kinds(
    strata: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    first: BoolArray,
    second: BoolArray,
    weights: FloatArray,
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the distinct (stratum, label, first right, second right, weight) and how often each occurs."""
    rows = np.column_stack([strata, labels, first, second, weights]).astype(np.float64)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    return kinds, counts.astype(np.int64)


def _unseen(kinds: FloatArray) -> FloatArray:
    """Return the heaviest row of each class that only the one and only the other model has right."""
    unseen = []
    for label in np.unique(kinds[:, _LABEL]):
        of_class = kinds[kinds[:, _LABEL] == label]
        heaviest = of_class[of_class[:, _WEIGHT].argmax()]
        stratum, weight = heaviest[_STRATUM], heaviest[_WEIGHT]
        unseen += [[stratum, label, right, 1.0 - right, weight] for right in (0.0, 1.0)]
    return np.array(unseen)


def _draw(
    kinds: FloatArray,
    chances: FloatArray,
    counts: NDArray[np.int64],
    rng: np.random.Generator,
    resamples: int,
) -> FloatArray:
    """Return how often each kind is drawn, shape (resamples, kinds); `counts` has the rows of the first."""
    numbers = np.unique(kinds[:, _STRATUM])
    stratum_of_counts, weights = kinds[: len(counts), _STRATUM], kinds[: len(counts), _WEIGHT]
    stands_for = np.array(
        [(counts * weights)[stratum_of_counts == number].sum() for number in numbers], dtype=np.float64
    )
    shares = rng.multinomial(
        max(1, round(stands_for.sum())), stands_for / stands_for.sum(), size=resamples
    ).astype(np.float64)
    drawn = np.zeros((resamples, len(kinds)))
    for position, number in enumerate(numbers):
        here = kinds[:, _STRATUM] == number
        rows = int(counts[stratum_of_counts == number].sum())
        taken = rng.multinomial(rows, chances[here] / chances[here].sum(), size=resamples)
        weighed = taken @ kinds[here, _WEIGHT]
        drawn[:, here] = taken * (shares[:, position] / weighed)[:, None]
    return drawn


def _scores(counts: FloatArray, kinds: FloatArray, column: int) -> Scores:
    """Return the scores of `counts`, shape (..., kinds), of the model whose hits are in `column`."""
    classes = np.eye(CLASSES)[kinds[:, _LABEL].astype(np.int64)] * kinds[:, _WEIGHT:]
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
