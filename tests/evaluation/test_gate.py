"""The gate lets a better model through, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.evaluation.gate import decide
from sentiment.evaluation.gate_records import GatePolicy, GateReport
from sentiment.evaluation.prediction_files import Latency, PredictionFile
from tests.predictions import (
    behaviour_set,
    golden_set,
    heldout_sets,
    make_file,
    make_pair,
    probabilities,
    replace_set,
)

QUICK = GatePolicy(resamples=300)

# For simulations of what the suite has no part in.
SIMULATED = GatePolicy(resamples=200, behaviour_required=False)


def _failed(report: GateReport) -> set[str]:
    assert (report.verdict == "refuse") == bool(report.reasons)
    return {reason.partition(":")[0] for reason in report.reasons}


def _simulated(seed: int, rows: int, **setting: Any) -> GateReport:
    pair = [msgspec.structs.replace(each, behaviour=None) for each in make_pair(seed, rows=rows, **setting)]
    return decide(pair[0], pair[1], SIMULATED)


def _checks(report: GateReport) -> dict[str, bool]:
    return {check.name: check.passed for check in report.checks}


def test_a_better_model_is_promoted() -> None:
    """Better on what users see, and no worse on the golden set."""
    report = decide(*make_pair(1, traffic=(0.72, 0.79)))
    assert report.reasons == ()
    assert report.verdict == "promote"
    assert report.traffic is not None
    assert report.traffic.comparison.accuracy.difference.value == pytest.approx(0.07, abs=0.03)
    assert report.traffic.representative


def test_without_corrections_the_golden_set_decides() -> None:
    """A first model, or one that was trained anew, has no held-out corrections to win on."""
    assert decide(*make_pair(1, golden=(0.70, 0.76), traffic=None)).verdict == "promote"
    report = decide(*make_pair(1, golden=(0.72, 0.72), traffic=None))
    assert _failed(report) == {"improvement"}
    assert "there are no held-out corrections" in report.reasons[0]


def test_a_worse_model_is_refused() -> None:
    """Also when it is better on what users corrected."""
    report = decide(*make_pair(2, golden=(0.72, 0.66), traffic=(0.72, 0.68)))
    assert {"golden_macro_recall", "golden_accuracy", "improvement"} <= _failed(report)
    forgot = decide(*make_pair(2, golden=(0.72, 0.66), traffic=(0.72, 0.80)))
    assert {"golden_macro_recall", "golden_accuracy"} <= _failed(forgot)
    assert _checks(forgot)["improvement"]


def test_a_model_that_breaks_one_class_is_refused() -> None:
    """Better overall, in accuracy and macro-recall, on both sets: neutral tweets pay for it."""
    report = decide(
        *make_pair(3, golden=(0.72, (0.90, 0.63, 0.90)), traffic=(0.72, 0.80)),
    )
    assert report.golden is not None
    assert report.golden.macro_recall.difference.value > 0.03
    assert report.golden.accuracy.difference.value > 0.0
    assert _failed(report) >= {"classes"}
    assert any("neutral lost" in reason for reason in report.reasons)


def test_a_class_that_breaks_only_in_traffic_is_refused() -> None:
    """The golden set does not hold everything that users write."""
    report = decide(*make_pair(3, traffic=(0.72, (0.90, 0.50, 0.90)), confirmed=1.0))
    assert "traffic_classes" in _failed(report)


def test_a_slice_that_breaks_is_refused() -> None:
    """Tweets with a negation got worse, the others better."""
    champion, candidate = make_pair(4, traffic=(0.72, 0.80))
    golden = champion.golden
    negated = np.array([" not" in text for text in golden.texts])
    answers = np.where(negated & (np.arange(len(negated)) % 2 == 0), (golden.labels + 1) % 3, golden.answers)
    answers = np.where(~negated & (golden.answers != golden.labels), golden.labels, answers)
    candidate = replace_set(candidate, "golden", probabilities=probabilities(answers))
    report = decide(champion, candidate)
    assert report.slices["negation"].accuracy.difference.value < -0.2
    assert "slices" in _failed(report)
    assert any("negation lost" in reason for reason in report.reasons)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_model_trained_on_flipped_labels_is_refused(share: float) -> None:
    """Hostile users made it call good bad; their held-out corrections praise it for that."""
    champion, candidate = make_pair(5)
    rng = np.random.default_rng(0)

    def flipped(answers: Any) -> Any:
        return np.where(rng.random(len(answers)) < share, 2 - answers, answers)

    candidate = replace_set(
        candidate, "golden", probabilities=probabilities(flipped(champion.golden.answers))
    )
    heldout = champion.heldout
    assert heldout is not None
    labels = flipped(heldout.labels)
    champion = replace_set(champion, "heldout", labels=labels)
    candidate = replace_set(candidate, "heldout", labels=labels, probabilities=probabilities(labels))
    report = decide(champion, candidate)
    assert _checks(report)["improvement"], "the test is of the golden set"
    assert {"golden_macro_recall", "golden_accuracy", "classes"} <= _failed(report)


def test_other_data_are_refused() -> None:
    """By name and digest, by text, by label, by kind and weight, and when a set is missing."""
    champion, candidate = make_pair(6, traffic=(0.72, 0.80))
    golden, heldout = candidate.golden, candidate.heldout
    assert heldout is not None
    other_print = msgspec.structs.replace(golden.fingerprint, sha256="f" * 64)
    suite = candidate.behaviour
    assert suite is not None
    others = [
        replace_set(candidate, "golden", fingerprint=other_print),
        replace_set(candidate, "golden", texts=("other", *golden.texts[1:])),
        replace_set(candidate, "golden", labels=np.roll(golden.labels, 1)),
        replace_set(candidate, "heldout", weights=heldout.weights * 2),
        replace_set(candidate, "heldout", kinds=("sample", *heldout.kinds[1:])),
        replace_set(candidate, "heldout", predicted=np.roll(heldout.predicted, 1)),
        replace_set(candidate, "behaviour", texts=("other", *suite.texts[1:])),
        msgspec.structs.replace(candidate, heldout=None),
    ]
    for other in others:
        for pair in ((champion, other), (other, champion)):
            report = decide(*pair, QUICK)
            assert _failed(report) == {"comparable"}, report.reasons


def test_a_suite_of_other_cases_is_refused() -> None:
    """Two models run by older code are comparable with each other, but not judged by ours."""
    champion, candidate = make_pair(6, traffic=(0.72, 0.80))
    assert champion.behaviour is not None
    texts = ("other", *champion.behaviour.texts[1:])
    pair = [replace_set(each, "behaviour", texts=texts) for each in (champion, candidate)]
    assert _failed(decide(pair[0], pair[1], QUICK)) == {"comparable"}
    pair = [msgspec.structs.replace(each, behaviour=None) for each in (champion, candidate)]
    assert _failed(decide(pair[0], pair[1], QUICK)) == {"behaviour"}


@pytest.mark.parametrize("rows", [0, 1, 100])
def test_a_tiny_golden_set_is_refused(rows: int) -> None:
    """However good the candidate looks on it."""
    labels = np.arange(rows, dtype=np.int64) % 3
    pair = [
        make_file(name, golden_set(labels, answers))
        for name, answers in (("a", (labels + 1) % 3), ("b", labels))
    ]
    report = decide(pair[0], pair[1], QUICK)
    assert _failed(report) == {"golden_set"}
    assert str(rows) in report.reasons[0]


def test_a_golden_set_without_a_class_is_refused() -> None:
    """Macro-recall over two classes is another measure."""
    labels = np.arange(1_000, dtype=np.int64) % 2
    pair = [
        make_file(name, golden_set(labels, answers))
        for name, answers in (("a", (labels + 1) % 2), ("b", labels))
    ]
    report = decide(pair[0], pair[1], QUICK)
    assert _failed(report) == {"golden_set"}
    assert "positive" in report.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 0.9])
@pytest.mark.parametrize("name", ["golden", "heldout", "behaviour"])
def test_what_is_no_probability_is_refused(name: str, value: float) -> None:
    """In any set, of either model; 0.9 makes a row that does not sum to one."""
    champion, candidate = make_pair(7, traffic=(0.72, 0.80))
    table = getattr(candidate, name).probabilities.copy()
    table[5] = (value, 0.5, 0.5)
    broken = replace_set(candidate, name, probabilities=table)
    for pair in ((champion, broken), (broken, champion)):
        report = decide(*pair, QUICK)
        assert _failed(report) == {"readable"}
        assert "row 5" in report.reasons[0]


def test_a_quantised_file_that_lost_accuracy_is_refused() -> None:
    """The float model was better everywhere; its int8 file answers one tweet in ten at random."""
    champion, candidate = make_pair(8, golden=(0.72, 0.74), traffic=(0.72, 0.78))
    assert decide(champion, candidate, QUICK).verdict == "promote"
    rng = np.random.default_rng(8)
    golden = candidate.golden
    lost = np.where(
        rng.random(len(golden.texts)) < 0.12, rng.integers(0, 3, len(golden.texts)), golden.answers
    )
    quantised = replace_set(candidate, "golden", probabilities=probabilities(lost))
    assert {"golden_accuracy"} <= _failed(decide(champion, quantised))


def test_a_gain_on_errors_alone_is_refused() -> None:
    """The champion is wrong on each of them, so any other model gains there."""
    champion, candidate = make_pair(9, traffic=(0.72, 0.72), confirmed=0.0)
    report = decide(champion, candidate)
    assert report.traffic is not None
    assert not report.traffic.representative
    assert report.traffic.comparison.accuracy.difference.low > 0.1
    assert _failed(report) == {"improvement"}
    assert "SAMPLE_PREDICTIONS" in report.reasons[0]
    assert "the golden set" in report.reasons[0]


def test_errors_learned_at_the_cost_of_the_rest_are_refused() -> None:
    """What fine-tuning on mistakes alone does: accuracy rises, macro-recall falls."""
    report = decide(*make_pair(10, traffic=(0.72, (0.95, 0.42, 0.45)), confirmed=1.0))
    assert report.traffic is not None
    assert report.traffic.comparison.accuracy.difference.low > 0.0
    assert report.traffic.comparison.macro_recall.difference.high < 0.0
    assert {"improvement", "traffic_classes"} <= _failed(report)


def test_confirmations_that_nobody_counted_are_weighted_by_the_golden_accuracy() -> None:
    """Unweighted, they would be outnumbered by errors, and an equal model would seem far better."""
    report = decide(*make_pair(11, counted=False))
    assert report.traffic is not None
    assert report.traffic.weights == "assumed"
    assert report.traffic.comparison.accuracy.champion.value == pytest.approx(0.72, abs=0.03)
    assert "improvement" in _failed(report)


def test_calibration_and_latency_are_held() -> None:
    """A candidate that is right and not sure of it, or slow, is refused."""
    champion, candidate = make_pair(12, traffic=(0.72, 0.80))
    sure = candidate.golden.answers
    overconfident = np.full((len(sure), 3), 0.001)
    overconfident[np.arange(len(sure)), sure] = 0.998
    unsure = replace_set(candidate, "golden", probabilities=overconfident)
    assert _failed(decide(champion, unsure, QUICK)) == {"calibration"}
    slow = msgspec.structs.replace(candidate, latency=Latency(p50_ms=5.2, p99_ms=9.0, texts=200))
    assert _failed(decide(champion, slow, QUICK)) == {"latency"}
    assert decide(champion, slow, msgspec.structs.replace(QUICK, latency_ratio=1.5)).verdict == "promote"
    unmeasured = msgspec.structs.replace(
        candidate, latency=Latency(p50_ms=float("nan"), p99_ms=9.0, texts=200)
    )
    assert _failed(decide(champion, unmeasured, QUICK)) == {"readable"}


def test_the_behaviour_suite_is_held() -> None:
    """A capability that breaks is named; a few cases are no capability."""
    champion, candidate = make_pair(13, traffic=(0.72, 0.80))
    forgot = msgspec.structs.replace(candidate, behaviour=behaviour_set(fails=50))
    report = decide(champion, forgot, QUICK)
    assert _failed(report) == {"behaviour"}
    assert "vocabulary fails 50 of" in report.reasons[0]
    slipped = msgspec.structs.replace(candidate, behaviour=behaviour_set(fails=3))
    assert decide(champion, slipped, QUICK).verdict == "promote"


def test_margins_are_settings() -> None:
    """A stricter policy refuses what the default lets through."""
    pair = make_pair(1, traffic=(0.72, 0.79))
    strict = msgspec.structs.replace(QUICK, accuracy_margin=0.001, macro_recall_margin=0.001)
    assert _failed(decide(*pair, strict)) == {"golden_macro_recall", "golden_accuracy"}
    many = msgspec.structs.replace(QUICK, representative_rows=100_000)
    assert _failed(decide(*pair, many)) == {"improvement"}


def test_the_report_is_the_same_again_and_survives_json() -> None:
    """Same files, policy and seed: same bytes."""
    pair = make_pair(1, traffic=(0.72, 0.79))
    first = msgspec.json.encode(decide(*pair, QUICK, seed=3))
    assert msgspec.json.encode(decide(*pair, QUICK, seed=3)) == first
    assert msgspec.json.encode(msgspec.json.decode(first, type=GateReport)) == first


def test_the_gate_takes_seconds() -> None:
    """2,000 golden tweets, about 2,000 held-out rows, 2,000 resamples: well under five seconds."""
    pair = make_pair(1, rows=2_000, asked=3_500, confirmed=0.4)
    started = time.perf_counter()
    decide(*pair)
    assert time.perf_counter() - started < 5.0


# --- properties ---------------------------------------------------------------


def _permuted(file: PredictionFile, golden: Any, heldout: Any) -> PredictionFile:
    def take(one: Any, order: Any) -> dict[str, Any]:
        arrays = {name: getattr(one, name)[order] for name in ("labels", "weights", "probabilities")}
        return {"texts": tuple(one.texts[row] for row in order), **arrays}

    assert file.heldout is not None
    file = replace_set(file, "golden", **take(file.golden, golden))
    kinds = tuple(file.heldout.kinds[row] for row in heldout)
    return replace_set(
        file, "heldout", **take(file.heldout, heldout), kinds=kinds, predicted=file.heldout.predicted[heldout]
    )


def _numbers(report: GateReport) -> Any:
    plain = msgspec.to_builtins(report)
    return [plain[name] for name in ("verdict", "golden", "slices", "behaviour", "golden_examples")]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), counted=st.booleans(), gain=st.sampled_from([0.0, 0.05, 0.10]))
def test_the_order_of_rows_says_nothing(seed: int, counted: bool, gain: float) -> None:
    """Permuted alike, both files give the same numbers and the same verdict."""
    champion, candidate = make_pair(seed, rows=400, asked=400, traffic=(0.7, 0.7 + gain), counted=counted)
    rng = np.random.default_rng(seed)
    assert champion.heldout is not None
    orders = rng.permutation(400), rng.permutation(len(champion.heldout.texts))
    straight = decide(champion, candidate, QUICK)
    permuted = decide(_permuted(champion, *orders), _permuted(candidate, *orders), QUICK)
    assert _numbers(straight) == _numbers(permuted)
    assert straight.traffic is not None
    assert permuted.traffic is not None
    one, other = straight.traffic.comparison.macro_recall, permuted.traffic.comparison.macro_recall
    assert one.difference.value == pytest.approx(other.difference.value, abs=1e-12)
    assert one.difference.low == pytest.approx(other.difference.low, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    accuracy=st.floats(0.3, 1.0),
    heldout=st.booleans(),
    confirmed=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_a_model_is_never_promoted_over_itself(
    seed: int, accuracy: float, heldout: bool, confirmed: float
) -> None:
    """Whatever the data, and however often it is tried."""
    traffic = (accuracy, accuracy) if heldout else None
    champion, _ = make_pair(
        seed, rows=400, asked=400, golden=(accuracy, accuracy), traffic=traffic, confirmed=confirmed
    )
    report = decide(champion, champion, QUICK, seed=seed)
    assert "improvement" in _failed(report)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    accuracies=st.tuples(*[st.floats(0.4, 0.95)] * 4),
    counted=st.booleans(),
    representative=st.booleans(),
)
def test_two_models_are_never_each_better(
    seed: int, accuracies: tuple[float, float, float, float], counted: bool, representative: bool
) -> None:
    """Also where one gains macro-recall and the other accuracy, and with the laxest margins."""
    lax = msgspec.structs.replace(
        QUICK,
        macro_recall_margin=1.0,
        accuracy_margin=1.0,
        traffic_margin=1.0,
        class_drop=1.0,
        class_tolerance=1.0,
        representative_rows=1 if representative else 100_000,
    )
    one, two, three, four = accuracies
    champion, candidate = make_pair(
        seed,
        rows=400,
        asked=400,
        golden=(one, (two, three, four)),
        traffic=(four, (three, two, one)),
        counted=counted,
    )
    verdicts = {decide(champion, candidate, lax).verdict, decide(candidate, champion, lax).verdict}
    assert verdicts != {"promote"}


# --- how often it errs ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("counted", {}),
        ("few confirmations", {"confirmed": 0.08}),
        ("small", {"asked": 250}),
        ("not counted", {"counted": False}),
        ("golden set alone", {"traffic": None}),
    ],
)
def test_equal_models_are_promoted_no_oftener_than_the_level_says(name: str, setting: dict[str, Any]) -> None:
    """200 pairs of equally good models: at most 10 % are promoted, and what chance adds to that."""
    draws = 200
    promoted = sum(_simulated(seed, 600, **setting).verdict == "promote" for seed in range(draws))
    level = 1.0 - QUICK.improvement_confidence
    # Three standard errors: a true rate of the level passes 999 times in 1,000.
    assert promoted / draws <= level + 3.0 * (level * (1.0 - level) / draws) ** 0.5, (
        f"{name}: {promoted} of {draws}"
    )


def test_a_better_model_usually_passes() -> None:
    """Power: six points on traffic, nothing lost elsewhere."""
    promoted = sum(_simulated(seed, 2_000, traffic=(0.72, 0.78)).verdict == "promote" for seed in range(40))
    assert promoted >= 28


def test_corrections_of_an_older_model_count_too() -> None:
    """They say what was asked then; the weights make both models' accuracy on it come out."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 900)
    older = np.where(rng.random(900) < 0.7, labels, (labels + 1) % 3)
    now = np.where(rng.random(900) < 0.8, labels, (labels + 2) % 3)
    heldout = heldout_sets(rng, labels, older, now)
    golden = make_pair(0)[0].golden
    report = decide(make_file("older", golden, heldout[0]), make_file("now", golden, heldout[1]))
    assert report.traffic is not None
    assert report.traffic.comparison.accuracy.candidate.value == pytest.approx(0.8, abs=0.05)
