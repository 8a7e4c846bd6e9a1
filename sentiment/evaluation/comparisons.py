"""The numbers of a gate's report: both models on one set, on kinds of tweets, and tweet by tweet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentiment.evaluation import behaviour
from sentiment.evaluation.gate_records import (
    BehaviourComparison,
    Bounds,
    Comparison,
    Example,
    Examples,
    GatePolicy,
    Pair,
    SliceComparison,
)
from sentiment.evaluation.pairing import CLASSES, PairedScores, Scores, holm, paired_bootstrap, sign_test
from sentiment.evaluation.prediction_files import BehaviourSet, PredictionSet
from sentiment.evaluation.slices import slice_masks
from sentiment.records import LABELS

#: Examples in the report, of each kind and set.
EXAMPLES = 10

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def score(
    champion: PredictionSet,
    candidate: PredictionSet,
    weights: FloatArray,
    policy: GatePolicy,
    seed: int,
    *,
    strata: NDArray[np.int64] | None = None,
) -> PairedScores:
    """Return both models' scores on one set, resampled in pairs."""
    return paired_bootstrap(
        champion.labels,
        champion.answers == champion.labels,
        candidate.answers == champion.labels,
        weights,
        strata=strata,
        seed=seed,
        resamples=policy.resamples,
    )


def compare(
    champion: PredictionSet, candidate: PredictionSet, scores: PairedScores, policy: GatePolicy
) -> Comparison:
    """Return `scores` of one set as the report shows them."""
    fixed, broken = changed(champion, candidate)
    support = np.bincount(champion.labels, minlength=CLASSES)
    return Comparison(
        rows=len(champion.labels),
        macro_recall=_pair(scores, "macro_recall", policy),
        accuracy=_pair(scores, "accuracy", policy),
        recalls={label: _pair(scores, index, policy) for index, label in enumerate(LABELS) if support[index]},
        support={label: int(support[index]) for index, label in enumerate(LABELS)},
        fixed=int(fixed.sum()),
        broken=int(broken.sum()),
    )


def changed(champion: PredictionSet, candidate: PredictionSet) -> tuple[BoolArray, BoolArray]:
    """Return which rows only the candidate has right, and which only the champion."""
    ours = champion.answers == champion.labels
    theirs = candidate.answers == champion.labels
    return theirs & ~ours, ours & ~theirs


def compare_slices(
    champion: PredictionSet, candidate: PredictionSet, policy: GatePolicy, seed: int
) -> dict[str, SliceComparison]:
    """Return accuracy on each kind of tweets that occurs."""
    fixed, broken = changed(champion, candidate)
    ours, theirs = champion.answers == champion.labels, candidate.answers == champion.labels
    masks = {name: mask for name, mask in slice_masks(champion.texts).items() if mask.any()}
    judged = [name for name, mask in masks.items() if mask.sum() >= policy.drop_rows]
    chances = holm(
        [sign_test(int(broken[masks[each]].sum()), int(fixed[masks[each]].sum())) for each in judged]
    )
    chance = dict(zip(judged, chances, strict=True))
    slices = {}
    for name, mask in masks.items():
        scores = paired_bootstrap(
            champion.labels[mask],
            ours[mask],
            theirs[mask],
            np.ones(int(mask.sum())),
            seed=seed,
            resamples=policy.resamples,
        )
        slices[name] = SliceComparison(
            rows=int(mask.sum()),
            accuracy=_pair(scores, "accuracy", policy),
            fixed=int(fixed[mask].sum()),
            broken=int(broken[mask].sum()),
            chance=chance.get(name),
        )
    return slices


def compare_behaviour(champion: BehaviourSet, candidate: BehaviourSet) -> dict[str, BehaviourComparison]:
    """Return how many cases of each capability of the behaviour suite both models fail."""
    ours, theirs = behaviour.failed(champion.probabilities), behaviour.failed(candidate.probabilities)
    capability = np.array([case.capability for case in behaviour.cases()])
    names = sorted(set(capability.tolist()))
    counts = {}
    for name in names:
        here = capability == name
        broken, fixed = int((theirs & ~ours & here).sum()), int((ours & ~theirs & here).sum())
        counts[name] = (int(here.sum()), int((ours & here).sum()), int((theirs & here).sum()), fixed, broken)
    chances = holm([sign_test(broken, fixed) for *_, fixed, broken in counts.values()])
    return {
        name: BehaviourComparison(
            cases=cases, champion=failed, candidate=fails, fixed=fixed, broken=broken, chance=chance
        )
        for (name, (cases, failed, fails, fixed, broken)), chance in zip(counts.items(), chances, strict=True)
    }


def examples(champion: PredictionSet, candidate: PredictionSet) -> Examples:
    """Return tweets that the candidate fixed and broke, those first of which it is surest."""
    fixed, broken = changed(champion, candidate)
    return Examples(fixed=_shown(champion, candidate, fixed), broken=_shown(champion, candidate, broken))


def _shown(champion: PredictionSet, candidate: PredictionSet, mask: BoolArray) -> tuple[Example, ...]:
    surest = candidate.probabilities.max(axis=1)
    rows = sorted(np.flatnonzero(mask).tolist(), key=lambda row: (-surest[row], champion.texts[row]))
    ours, theirs = champion.answers, candidate.answers
    return tuple(
        Example(
            text=champion.texts[row],
            label=LABELS[champion.labels[row]],
            champion=LABELS[ours[row]],
            candidate=LABELS[theirs[row]],
        )
        for row in rows[:EXAMPLES]
    )


def _pair(scores: PairedScores, measure: str | int, policy: GatePolicy) -> Pair:
    """Return a measure (or the recall of the class at that position) of both models."""
    low, high = 1.0 - policy.confidence, policy.confidence

    def bounds(values: FloatArray, draws: FloatArray) -> Bounds:
        # A resample may miss a class; its recall is then unknown, not zero.
        ends = np.nanquantile(draws, [low, high])
        return Bounds(value=float(values), low=float(ends[0]), high=float(ends[1]))

    def of(each: Scores) -> FloatArray:
        if isinstance(measure, int):
            return np.asarray(each.recalls[..., measure])
        values: FloatArray = getattr(each, measure)
        return values

    champion, candidate = of(scores.champion), of(scores.candidate)
    champion_draws, candidate_draws = of(scores.champion_draws), of(scores.candidate_draws)
    return Pair(
        champion=bounds(champion, champion_draws),
        candidate=bounds(candidate, candidate_draws),
        difference=bounds(candidate - champion, candidate_draws - champion_draws),
    )
