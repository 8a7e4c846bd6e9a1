"""Two models that nobody trained: what they say of tweets, drawn with the accuracies a test asks for."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentiment.evaluation import behaviour
from sentiment.evaluation.prediction_files import (
    BehaviourSet,
    HeldoutSet,
    Latency,
    ModelIdentity,
    PredictionFile,
    PredictionSet,
)
from sentiment.evaluation.traffic import confirmation_weights
from sentiment.records import LABELS, DataFingerprint, Label

Array = NDArray[Any]

GOLDEN_SHARES = (0.16, 0.44, 0.40)
TRAFFIC_SHARES = (0.60, 0.22, 0.18)

# Of all tweets, those that two models find equally hard.
_ALIKE = 0.75
_SURE = 0.75


def draw(
    rng: np.random.Generator,
    rows: int,
    champion: float | tuple[float, float, float],
    candidate: float | tuple[float, float, float],
    shares: tuple[float, float, float],
) -> tuple[Array, Array, Array]:
    """Return labels and both models' answers; an accuracy may be given for each class."""
    labels = rng.choice(3, rows, p=shares)
    difficulty = rng.random(rows)
    other = np.where(rng.random(rows) < _ALIKE, difficulty, rng.random(rows))
    wrong = (labels + 1 + rng.integers(0, 2, rows)) % 3
    return (
        labels,
        np.where(difficulty < np.broadcast_to(champion, 3)[labels], labels, wrong),
        np.where(other < np.broadcast_to(candidate, 3)[labels], labels, wrong),
    )


def probabilities(answers: Array) -> Array:
    """Return probabilities of which `answers` are the largest."""
    table = np.full((len(answers), 3), (1.0 - _SURE) / 2.0)
    table[np.arange(len(answers)), answers] = _SURE
    return table


def fingerprint(name: str, labels: Array) -> DataFingerprint:
    counts = {label: int((labels == index).sum()) for index, label in enumerate(LABELS)}
    return DataFingerprint(name=name, sha256="0" * 64, rows=counts)


def golden_set(labels: Array, answers: Array) -> PredictionSet:
    # As varied as tweets are, so that they fall into several slices.
    texts = tuple(
        f"tweet {row}{' not' * (row % 3 == 0)}{' but @you' * (row % 4 == 0)}{'?!' * (row % 5 == 0)}"
        for row in range(len(labels))
    )
    return PredictionSet(
        fingerprint=fingerprint("golden.tsv", labels),
        texts=texts,
        labels=labels,
        weights=np.ones(len(labels)),
        probabilities=probabilities(answers),
    )


def heldout_sets(
    rng: np.random.Generator,
    labels: Array,
    champion: Array,
    candidate: Array,
    *,
    confirmed: float = 0.3,
    counted: bool = True,
) -> tuple[HeldoutSet, HeldoutSet]:
    """Return what users say of `champion`'s answers: every error, and a share of what is right."""
    kept = (champion != labels) | (rng.random(len(labels)) < confirmed)
    errors = (champion != labels)[kept]
    counts: dict[Label, int] = {label: int((champion == index).sum()) for index, label in enumerate(LABELS)}
    per_class = confirmation_weights(champion[kept], errors, counts if counted else {}, cap=np.inf)
    sets = [
        HeldoutSet(
            fingerprint=fingerprint("heldout.jsonl", labels[kept]),
            texts=tuple(f"correction {row}" for row in range(int(kept.sum()))),
            labels=labels[kept],
            weights=np.where(errors, 1.0, per_class[champion[kept]]),
            probabilities=probabilities(answers[kept]),
            kinds=tuple("error" if error else "confirmation" for error in errors),
            predicted=champion[kept],
            counted=counted,
        )
        for answers in (champion, candidate)
    ]
    return sets[0], sets[1]


@cache
def behaviour_set(fails: int = 0) -> BehaviourSet:
    """Return a model that passes the suite, but for the first `fails` cases of minimum functionality."""
    answers = []
    for case in behaviour.cases():
        label = LABELS.index(case.allowed[0]) if case.allowed else 1
        if case.kind == "MFT" and fails:
            label, fails = next(i for i in range(3) if LABELS[i] not in case.allowed), fails - 1
        answers += [label] * len(case.texts)
    return BehaviourSet(
        fingerprint=behaviour.fingerprint(),
        texts=behaviour.texts(),
        probabilities=probabilities(np.array(answers)),
    )


def make_file(name: str, golden: PredictionSet, heldout: HeldoutSet | None = None) -> PredictionFile:
    return PredictionFile(
        model=ModelIdentity(name, "a" * 64),
        golden=golden,
        heldout=heldout,
        behaviour=behaviour_set(),
        latency=Latency(p50_ms=4.0, p99_ms=9.0, texts=200),
    )


def make_pair(
    seed: int = 0,
    *,
    rows: int = 1_500,
    golden: tuple[Any, Any] = (0.72, 0.72),
    traffic: tuple[Any, Any] | None = (0.72, 0.72),
    asked: int = 1_500,
    confirmed: float = 0.3,
    counted: bool = True,
) -> tuple[PredictionFile, PredictionFile]:
    """Return champion and candidate with (champion's, candidate's) accuracies on each set."""
    rng = np.random.default_rng(seed)
    labels, ours, theirs = draw(rng, rows, *golden, GOLDEN_SHARES)
    heldout: tuple[HeldoutSet | None, HeldoutSet | None] = (None, None)
    if traffic is not None:
        heldout = heldout_sets(
            rng, *draw(rng, asked, *traffic, TRAFFIC_SHARES), confirmed=confirmed, counted=counted
        )
    return (
        make_file("champion", golden_set(labels, ours), heldout[0]),
        make_file("candidate", golden_set(labels, theirs), heldout[1]),
    )


def replace_set(file: PredictionFile, name: str, **changes: Any) -> PredictionFile:
    """Return `file` with members of one of its sets replaced."""
    return msgspec.structs.replace(file, **{name: msgspec.structs.replace(getattr(file, name), **changes)})
