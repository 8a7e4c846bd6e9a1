"""The paired statistics agree with worked examples, with scipy, and with resampling rows for real."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sentiment.evaluation.pairing import holm, paired_bootstrap, sign_test


def _rows(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, rows, p=(0.2, 0.5, 0.3))
    return labels, rng.random(rows) < 0.7, rng.random(rows) < 0.75, rng.choice([1.0, 3.0], rows)


def test_scores_are_those_of_the_rows() -> None:
    """Weighted by hand."""
    labels, ours, theirs, weights = _rows(0, 300)
    scores = paired_bootstrap(labels, ours, theirs, weights, seed=0, resamples=10)
    recalls = [weights[(labels == c) & theirs].sum() / weights[labels == c].sum() for c in range(3)]
    assert scores.candidate.recalls.tolist() == pytest.approx(recalls)
    assert float(scores.candidate.macro_recall) == pytest.approx(np.mean(recalls))
    assert float(scores.champion.accuracy) == pytest.approx(weights[ours].sum() / weights.sum())


def test_the_bounds_are_those_of_resampling_rows() -> None:
    """Drawing counts of kinds of rows is drawing rows, but for the pseudo-counts' width."""
    labels, ours, theirs, weights = _rows(1, 800)
    scores = paired_bootstrap(labels, ours, theirs, weights, seed=0, resamples=4_000)
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(2_000):
        rows = rng.integers(0, len(labels), len(labels))
        y, w = labels[rows], weights[rows]
        per_class = [
            (w[(y == c) & theirs[rows]].sum() - w[(y == c) & ours[rows]].sum()) / w[y == c].sum()
            for c in range(3)
        ]
        differences.append(np.mean(per_class))
    for quantile in (0.05, 0.5, 0.95):
        assert scores.bound("macro_recall", quantile) == pytest.approx(
            np.quantile(differences, quantile), abs=0.006
        )


@given(seed=st.integers(0, 1_000), rows=st.integers(1, 200))
def test_exchanging_the_models_exchanges_the_results(seed: int, rows: int) -> None:
    """To the last bit of every draw, so that no verdict depends on who is called what."""
    labels, ours, theirs, weights = _rows(seed, rows)
    strata = (weights > 1.0).astype(np.int64) if seed % 2 else None
    one = paired_bootstrap(labels, ours, theirs, weights, strata=strata, seed=3, resamples=20)
    # Models that differ in nothing but which rows of a kind they have right are one model.
    assume(one.difference("accuracy") != 0.0)
    other = paired_bootstrap(labels, theirs, ours, weights, strata=strata, seed=3, resamples=20)
    np.testing.assert_array_equal(one.candidate_draws.macro_recall, other.champion_draws.macro_recall)
    np.testing.assert_array_equal(one.champion_draws.accuracy, other.candidate_draws.accuracy)
    assert one.difference("macro_recall") == -other.difference("macro_recall")
    assert one.bound("accuracy", 0.1) == pytest.approx(-other.bound("accuracy", 0.9), abs=1e-12)


def test_shares_of_strata_that_are_known_narrow_the_bounds() -> None:
    """As resampling the known shares and, in each, rows; the more is known the narrower."""
    labels, ours, theirs, weights = _rows(2, 600)
    strata = np.where(ours, 1, 0)
    weights = np.where(ours, 4.0, 1.0)
    found = {}
    for scale in (1.0, 1_000.0):
        scores = paired_bootstrap(
            labels, ours, theirs, scale * weights, strata=strata, seed=0, resamples=4_000
        )
        rng = np.random.default_rng(1)
        known, differences = round(scale * weights.sum()), []
        for _ in range(1_000):
            right = rng.binomial(known, weights[ours].sum() / weights.sum()) / known
            drawn = [rng.choice(np.flatnonzero(strata == each), (strata == each).sum()) for each in (0, 1)]
            fixed, broken = theirs[drawn[0]].mean(), (~theirs[drawn[1]]).mean()
            differences.append((1.0 - right) * fixed - right * broken)
        for quantile in (0.05, 0.95):
            found[scale, quantile] = scores.bound("accuracy", quantile)
            assert found[scale, quantile] == pytest.approx(np.quantile(differences, quantile), abs=0.006)
    plain = paired_bootstrap(labels, ours, theirs, weights, seed=0, resamples=4_000)
    unknown = plain.bound("accuracy", 0.95) - plain.bound("accuracy", 0.05)
    few, many = (found[scale, 0.95] - found[scale, 0.05] for scale in (1.0, 1_000.0))
    assert many < few < unknown


def test_rows_that_show_no_loss_do_not_prove_that_there_is_none() -> None:
    """Twenty errors of which all were fixed, and three heavy confirmations of which none was broken."""
    labels = np.zeros(23, dtype=np.int64)
    ours, theirs = np.arange(23) >= 20, np.full(23, True)
    weights = np.where(ours, 20.0, 1.0)
    scores = paired_bootstrap(labels, ours, theirs, weights, seed=0, resamples=2_000)
    assert scores.difference("accuracy") == pytest.approx(20 / 80)
    assert scores.bound("accuracy", 0.05) < 0.0


def test_nothing_to_resample_is_refused() -> None:
    """No rows, no resamples."""
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(ValueError):
        paired_bootstrap(nothing, nothing == 0, nothing == 0, nothing * 1.0, seed=0, resamples=10)


@given(broken=st.integers(0, 60), fixed=st.integers(0, 60))
def test_the_sign_test_agrees_with_scipy(broken: int, fixed: int) -> None:
    """Exact and one-sided."""
    if broken + fixed:
        expected = stats.binomtest(broken, broken + fixed, 0.5, alternative="greater").pvalue
        assert sign_test(broken, fixed) == pytest.approx(expected)


def test_the_sign_test_holds_at_both_ends() -> None:
    """Nothing changed says nothing, and thousands of rows do not overflow."""
    assert sign_test(0, 0) == 1.0
    assert sign_test(0, 30) == 1.0
    assert sign_test(3_000, 2_000) < 1e-30


def test_holm_adjusts_as_in_the_paper() -> None:
    """The smallest is held against a third of the level, the next against a half."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
