"""The behaviour suite: what any tweet classifier has to get right, as small tests.

After CheckList (Ribeiro et al., 2020). Texts are generated, always the same, from
templates of ours, so no data set and no licence is needed, and no model can have
been trained on the answers unless somebody trains it on this suite.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.evaluation.behaviour.cases import Case, TestKind
from sentiment.evaluation.behaviour.changes import direction, invariance
from sentiment.evaluation.behaviour.minimum import minimum_functionality
from sentiment.records import LABELS, DataFingerprint

#: How far a probability may move the wrong way in a directional test (CheckList's value).
TOLERANCE = 0.1


class Failures(Struct, frozen=True, kw_only=True):
    """How a model fares in one capability with one kind of test; `failed` are cases, in order."""

    capability: str
    kind: TestKind
    cases: int
    failed: tuple[Case, ...]

    @property
    def rate(self) -> float:
        """The share of cases that failed, 0 to 1."""
        return len(self.failed) / self.cases


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases, always the same and in the same order."""
    return (*minimum_functionality(), *invariance(), *direction())


@cache
def texts() -> tuple[str, ...]:
    """Return the texts of all cases, one after the other: what a model is asked."""
    return tuple(text for case in cases() for text in case.texts)


@cache
def fingerprint() -> DataFingerprint:
    """Return which suite this is: its digest changes with any text."""
    kinds: dict[str, int] = {}
    for case in cases():
        kinds[case.kind] = kinds.get(case.kind, 0) + 1
    digest = hashlib.sha256("\n".join(texts()).encode()).hexdigest()
    return DataFingerprint(name="behaviour", sha256=digest, rows=kinds)


def failed(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which cases a model fails, shape (cases,).

    `probabilities`, shape (texts, 3), are its answers to `texts()`.

    Raises:
        ValueError: there are not as many rows as texts.
    """
    if probabilities.shape != (len(texts()), len(LABELS)):
        raise ValueError(
            f"probabilities must have shape ({len(texts())}, {len(LABELS)}), got {probabilities.shape}"
        )
    verdicts, start = [], 0
    for case in cases():
        verdicts.append(not _holds(case, probabilities[start : start + len(case.texts)]))
        start += len(case.texts)
    return np.array(verdicts, dtype=np.bool_)


def failures(probabilities: NDArray[np.floating[Any]]) -> list[Failures]:
    """Return how the model of `probabilities` (as for `failed`) fares, by capability and kind of test."""
    fails = failed(probabilities)
    groups: dict[tuple[str, TestKind], list[int]] = {}
    for index, case in enumerate(cases()):
        groups.setdefault((case.capability, case.kind), []).append(index)
    return [
        Failures(
            capability=capability,
            kind=kind,
            cases=len(members),
            failed=tuple(cases()[index] for index in members if fails[index]),
        )
        for (capability, kind), members in sorted(groups.items())
    ]


def _holds(case: Case, rows: NDArray[np.floating[Any]]) -> bool:
    labels = [LABELS[index] for index in rows.argmax(axis=1)]
    if case.kind == "MFT":
        return labels[0] in case.allowed
    if case.kind == "INV":
        return len(set(labels)) == 1
    if case.rises is not None:
        column = rows[:, LABELS.index(case.rises)]
        return bool((column[1:] >= column[0] - TOLERANCE).all())
    assert case.falls is not None
    column = rows[:, LABELS.index(case.falls)]
    return bool((column[1:] <= column[0] + TOLERANCE).all())
