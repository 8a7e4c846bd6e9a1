"""The gate: may the candidate take the champion's place?

A pure function of what both models said of the same tweets. It fails closed: what
cannot be judged is refused. Three questions, and a candidate has to pass all:

- is it no worse on the golden set, in no class, on no kind of tweet, and in no
  capability of the behaviour suite?
- is it better where it has to be: on what users corrected and confirmed, or, when
  that stands for nothing, on the golden set?
- is it as well calibrated, and as fast?

Corrections alone stand for nothing: the champion is wrong on every one of them, by
construction, and any other model will be right on some. Only with confirmations
(or sampled predictions), weighted to what they stand for, do held-out corrections
say what users would see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentiment.evaluation import behaviour
from sentiment.evaluation.comparisons import (
    changed,
    compare,
    compare_behaviour,
    compare_slices,
    examples,
    score,
)
from sentiment.evaluation.gate_records import (
    BehaviourComparison,
    Check,
    Comparison,
    GatePolicy,
    GateReport,
    SliceComparison,
    Traffic,
)
from sentiment.evaluation.metrics import expected_calibration_error
from sentiment.evaluation.pairing import PairedScores, holm, sign_test
from sentiment.evaluation.prediction_files import HeldoutSet, Latency, PredictionFile, PredictionSet, check
from sentiment.evaluation.traffic import assumed_weights
from sentiment.records import LABELS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Sums of the same weights in another order may differ by so much.
_ROUNDING = 1e-9
_WORDS = {"macro_recall": "macro-recall", "accuracy": "accuracy"}


def decide(
    champion: PredictionFile, candidate: PredictionFile, policy: GatePolicy | None = None, *, seed: int = 0
) -> GateReport:
    """Return whether `candidate` may replace `champion`, with the reasons and the numbers.

    The same files, policy and seed give the same report. A candidate that is no
    better is promoted with a probability of at most 1 - `improvement_confidence`;
    two models are never each promoted over the other.
    """
    policy = policy or GatePolicy()
    if trouble := _trouble(champion, candidate, policy):
        return refuse(trouble, champion, candidate, policy, seed=seed)
    golden = score(champion.golden, candidate.golden, np.ones(len(champion.golden.texts)), policy, seed)
    golden_comparison = compare(champion.golden, candidate.golden, golden, policy)
    slices = compare_slices(champion.golden, candidate.golden, policy, seed)
    calibration = (_calibration_error(champion), _calibration_error(candidate))
    checks = [
        *_not_worse(golden, policy),
        _classes(champion.golden, candidate.golden, golden_comparison, policy),
        _slices(slices, policy),
    ]
    traffic = traffic_scores = None
    if champion.heldout is not None and candidate.heldout is not None and champion.heldout.texts:
        traffic, traffic_scores = _compare_traffic(
            champion.heldout, candidate.heldout, golden_comparison, policy, seed
        )
    if traffic is not None and traffic_scores is not None and traffic.representative:
        checks.append(_traffic_classes(traffic.comparison, policy))
        checks.append(
            _improvement(
                "held-out corrections", traffic_scores, policy.traffic_margin, policy.traffic_margin, policy
            )
        )
    else:
        improvement = _improvement(
            "the golden set", golden, policy.macro_recall_margin, policy.accuracy_margin, policy
        )
        checks.append(_explained(improvement, traffic, policy))
    capabilities: dict[str, BehaviourComparison] = {}
    if champion.behaviour is not None and candidate.behaviour is not None:
        capabilities = compare_behaviour(champion.behaviour, candidate.behaviour)
        checks.append(_behaviour(capabilities, policy))
    checks += [_calibration(*calibration, policy), _latency(champion.latency, candidate.latency, policy)]
    reasons = tuple(f"{each.name}: {each.detail}" for each in checks if not each.passed)
    sets = {"golden": champion.golden, "heldout": champion.heldout, "behaviour": champion.behaviour}
    return GateReport(
        verdict="refuse" if reasons else "promote",
        reasons=reasons,
        champion=champion.model,
        candidate=candidate.model,
        policy=policy,
        seed=seed,
        interval=2.0 * policy.confidence - 1.0,
        checks=tuple(checks),
        data={name: each.fingerprint for name, each in sets.items() if each is not None},
        golden=golden_comparison,
        traffic=traffic,
        slices=slices,
        behaviour=capabilities,
        calibration=calibration,
        latency=(champion.latency, candidate.latency),
        golden_examples=examples(champion.golden, candidate.golden),
        heldout_examples=examples(champion.heldout, candidate.heldout)
        if champion.heldout is not None and candidate.heldout is not None
        else None,
    )


def refuse(
    trouble: Check,
    champion: PredictionFile | None,
    candidate: PredictionFile | None,
    policy: GatePolicy,
    *,
    seed: int = 0,
) -> GateReport:
    """Return the report on models that cannot be compared."""
    return GateReport(
        verdict="refuse",
        reasons=(f"{trouble.name}: {trouble.detail}",),
        champion=champion.model if champion else None,
        candidate=candidate.model if candidate else None,
        policy=policy,
        seed=seed,
        interval=2.0 * policy.confidence - 1.0,
        checks=(trouble,),
    )


def _trouble(champion: PredictionFile, candidate: PredictionFile, policy: GatePolicy) -> Check | None:
    """Return why the files cannot be compared, or None."""
    for name, file in (("champion", champion), ("candidate", candidate)):
        try:
            check(file)
        except ValueError as error:
            return _failed("readable", f"{name}: {error}")
    ours = {"golden": champion.golden, "heldout": champion.heldout, "behaviour": champion.behaviour}
    theirs = {"golden": candidate.golden, "heldout": candidate.heldout, "behaviour": candidate.behaviour}
    for name, one in ours.items():
        other = theirs[name]
        if one is None and other is None:
            continue
        if one is None or other is None:
            return _failed("comparable", f"only one of the models was run on {name}")
        if one.fingerprint != other.fingerprint:
            return _failed(
                "comparable",
                f"{name}: the champion was run on {one.fingerprint.name} "
                f"({one.fingerprint.sha256[:12]}), the candidate on {other.fingerprint.name} "
                f"({other.fingerprint.sha256[:12]})",
            )
        if one.texts != other.texts or not _same_truth(one, other):
            return _failed("comparable", f"{name}: texts, labels or weights are not the same rows")
    if champion.behaviour is not None and champion.behaviour.texts != behaviour.texts():
        return _failed("comparable", "the models were run on another behaviour suite than the gate's")
    if champion.behaviour is None and policy.behaviour_required:
        return _failed("behaviour", "the models were not run on the behaviour suite")
    rows = np.bincount(champion.golden.labels, minlength=len(LABELS))
    if rows.sum() < policy.golden_rows:
        return _failed(
            "golden_set", f"has {rows.sum()} rows, at least {policy.golden_rows} are needed to judge by"
        )
    if rows.min() < policy.class_rows:
        return _failed(
            "golden_set",
            f"has {rows.min()} rows of {LABELS[int(rows.argmin())]}, "
            f"at least {policy.class_rows} are needed to judge by",
        )
    return None


def _same_truth(one: object, other: object) -> bool:
    if not isinstance(one, PredictionSet) or not isinstance(other, PredictionSet):
        return True
    same = np.array_equal(one.labels, other.labels) and np.array_equal(one.weights, other.weights)
    if isinstance(one, HeldoutSet) and isinstance(other, HeldoutSet):
        return (
            same
            and one.kinds == other.kinds
            and one.counted == other.counted
            and np.array_equal(one.predicted, other.predicted)
        )
    return same


def _failed(name: str, detail: str) -> Check:
    return Check(name=name, passed=False, detail=detail)


def _not_worse(scores: PairedScores, policy: GatePolicy) -> list[Check]:
    """Non-inferiority: the loss that cannot be ruled out is smaller than the margin."""
    margins = {"macro_recall": policy.macro_recall_margin, "accuracy": policy.accuracy_margin}
    checks = []
    for measure, margin in margins.items():
        low = scores.bound(measure, 1.0 - policy.confidence)
        checks.append(
            Check(
                name=f"golden_{measure}",
                passed=low > -margin,
                detail=f"{_WORDS[measure]} {scores.difference(measure):+.4f} on the golden set, with "
                f"{policy.confidence:.0%} confidence above {low:+.4f} (has to be above {-margin:+.4f})",
            )
        )
    return checks


def _classes(
    champion: PredictionSet, candidate: PredictionSet, comparison: Comparison, policy: GatePolicy
) -> Check:
    """No class has lost much, or surely something."""
    fixed, broken = changed(champion, candidate)
    of_class = [champion.labels == index for index in range(len(LABELS))]
    chances = holm([sign_test(int(broken[each].sum()), int(fixed[each].sum())) for each in of_class])
    worse = []
    for label, chance in zip(LABELS, chances, strict=True):
        drop = -comparison.recalls[label].difference.value
        surely = chance <= 1.0 - policy.confidence and drop > policy.class_tolerance
        much = drop > policy.class_drop and comparison.support[label] >= policy.drop_rows
        if surely or much:
            worse.append(f"{label} lost {drop:.4f} of its recall (chance if it were as good: {chance:.4f})")
    return Check(
        name="classes",
        passed=not worse,
        detail="; ".join(worse) or "no class is significantly worse on the golden set",
    )


def _slices(slices: dict[str, SliceComparison], policy: GatePolicy) -> Check:
    """No kind of tweets has surely lost something, all kinds looked at together."""
    worse = [
        f"{name} lost {-each.accuracy.difference.value:.4f} of its accuracy on {each.rows} rows "
        f"(chance if it were as good: {each.chance:.4f})"
        for name, each in slices.items()
        if each.chance is not None
        and each.chance <= 1.0 - policy.confidence
        and -each.accuracy.difference.value > policy.class_tolerance
    ]
    judged = sum(each.chance is not None for each in slices.values())
    return Check(
        name="slices",
        passed=not worse,
        detail="; ".join(worse) or f"none of {judged} kinds of tweets is significantly worse",
    )


def _compare_traffic(
    champion: HeldoutSet, candidate: HeldoutSet, golden: Comparison, policy: GatePolicy, seed: int
) -> tuple[Traffic, PairedScores]:
    # How many of the predictions were errors is known from all that was said, not only from what is held out.
    weights: FloatArray = champion.weights
    strata: IntArray | None = champion.errors.astype(np.int64)
    if not champion.counted:
        # The better of the two: whoever is called the champion, the weights are the same.
        accuracy = max(golden.accuracy.champion.value, golden.accuracy.candidate.value)
        weights, strata = assumed_weights(champion.errors, accuracy), None
    scores = score(champion, candidate, weights, policy, seed, strata=strata)
    kinds = champion.kinds
    confirmations, samples = kinds.count("confirmation"), kinds.count("sample")
    traffic = Traffic(
        comparison=compare(champion, candidate, scores, policy),
        errors=kinds.count("error"),
        confirmations=confirmations,
        samples=samples,
        representative=confirmations + samples >= policy.representative_rows and "error" in kinds,
        weights="counted" if champion.counted else "assumed",
    )
    return traffic, scores


def _traffic_classes(comparison: Comparison, policy: GatePolicy) -> Check:
    """What users write about is narrower than the golden set: a class may break only there."""
    worse = [
        f"{label} lost {-pair.difference.value:.4f} of its recall"
        for label, pair in comparison.recalls.items()
        if comparison.support[label] >= policy.drop_rows
        and pair.difference.high < 0.0
        and -pair.difference.value > policy.class_drop
    ]
    return Check(
        name="traffic_classes",
        passed=not worse,
        detail="; ".join(worse) or "no class is significantly worse on held-out corrections",
    )


def _improvement(
    where: str, scores: PairedScores, macro_recall_margin: float, accuracy_margin: float, policy: GatePolicy
) -> Check:
    """Better in the mean of macro-recall and accuracy, and in neither too much worse nor surely worse.

    One test of one number: two, of which either may pass, are two chances to look
    better by luck, and each would have to be held to half the error.
    """
    low = scores.bound("both", 1.0 - policy.improvement_confidence)
    passed = scores.difference("both") > _ROUNDING and low > _ROUNDING
    margins = {"macro_recall": macro_recall_margin, "accuracy": accuracy_margin}
    worse = []
    for measure, margin in margins.items():
        least, most = (scores.bound(measure, level) for level in (1.0 - policy.confidence, policy.confidence))
        if least <= -margin or most < -_ROUNDING:
            worse.append(
                f"{_WORDS[measure]} {scores.difference(measure):+.4f}, between {least:+.4f} and {most:+.4f} "
                f"(has to stay above {-margin:+.4f} and to reach zero)"
            )
    said = (
        f"macro-recall {scores.difference('macro_recall'):+.4f} and accuracy "
        f"{scores.difference('accuracy'):+.4f}; their mean is with {policy.improvement_confidence:.0%} "
        f"confidence above {low:+.4f} (has to be above zero)"
    )
    return Check(
        name="improvement", passed=passed and not worse, detail=f"on {where}: {'; '.join([said, *worse])}"
    )


def _explained(improvement: Check, traffic: Traffic | None, policy: GatePolicy) -> Check:
    """Return the check with why it was not made on what users said."""
    if traffic is None:
        why = "there are no held-out corrections"
    else:
        why = (
            f"the held-out corrections ({traffic.errors} errors, {traffic.confirmations} confirmations, "
            f"{traffic.samples} samples) do not represent what is asked: at least "
            f"{policy.representative_rows} confirmations or samples are needed "
            "(ask users to confirm, or set SAMPLE_PREDICTIONS)"
        )
    return Check(
        name=improvement.name,
        passed=improvement.passed,
        detail=f"{improvement.detail}; judged there because {why}",
    )


def _behaviour(capabilities: dict[str, BehaviourComparison], policy: GatePolicy) -> Check:
    """No capability surely fails more often, and all together not by more than the margin."""
    worse = [
        f"{name} fails {each.candidate} of {each.cases} cases, the champion {each.champion} "
        f"(chance if it were as good: {each.chance:.4f})"
        for name, each in capabilities.items()
        if each.chance <= 1.0 - policy.confidence
        and (each.candidate - each.champion) / each.cases > policy.behaviour_tolerance
    ]
    cases = sum(each.cases for each in capabilities.values())
    rise = sum(each.candidate - each.champion for each in capabilities.values()) / cases
    if rise > policy.behaviour_margin:
        worse.append(f"fails {rise:.4f} more of all cases, at most {policy.behaviour_margin:.4f}")
    return Check(
        name="behaviour",
        passed=not worse,
        detail="; ".join(worse)
        or f"no capability is significantly worse; {rise:+.4f} of {cases} cases failed",
    )


def _calibration_error(predictions: PredictionFile) -> float:
    return expected_calibration_error(predictions.golden.probabilities, predictions.golden.labels)


def _calibration(champion: float, candidate: float, policy: GatePolicy) -> Check:
    limit = max(champion + policy.calibration_margin, policy.calibration_enough)
    return Check(
        name="calibration",
        passed=candidate <= limit,
        detail=f"expected calibration error {candidate:.4f}, at most {limit:.4f} (champion: {champion:.4f})",
    )


def _latency(champion: Latency, candidate: Latency, policy: GatePolicy) -> Check:
    limit = max(champion.p50_ms * policy.latency_ratio, champion.p50_ms + policy.latency_slack_ms)
    return Check(
        name="latency",
        passed=candidate.p50_ms <= limit,
        detail=f"median {candidate.p50_ms:.2f} ms of one core a tweet, at most {limit:.2f} ms "
        f"(champion: {champion.p50_ms:.2f} ms)",
    )
