"""Figures are computed and held against their targets as the tables say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import DOOR, LIMIT, OURS, PIPELINE, Samples, agreement, compare, percentile, summarise


def _samples(milliseconds: float, per_second: float, cold: float, memory: float) -> Samples:
    return Samples(
        singles=[milliseconds] * 5,
        batches=[per_second, per_second, 1.0],
        cold_starts=[cold, 99.0, cold],
        labels={0: "neutral", 1: "positive"},
        peak_memory_mb=memory,
    )


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 99))
def test_percentile_is_numpys(values: list[float], share: int) -> None:
    """Linear interpolation between neighbours, as everybody's percentile."""
    assert percentile(values, share) == pytest.approx(np.percentile(values, share), abs=1e-6)


def test_medians_stand_for_a_contender() -> None:
    """One slow batch or cold start does not move the figure."""
    figures = summarise({OURS: _samples(4.0, 300.0, 0.4, 120.0)})[OURS]
    assert (figures.single_p50_ms, figures.batch_tweets_per_second) == (4.0, 300.0)
    assert (figures.cold_start_seconds, figures.cold_starts, figures.agreement) == (0.4, 3, 1.0)


def test_agreement_counts_common_tweets() -> None:
    """Tweets that only one of the two labelled say nothing about the other."""
    assert agreement({0: "neutral", 1: "positive", 7: "negative"}, {0: "neutral", 1: "neutral"}) == 0.5
    assert agreement({}, {0: "neutral"}) == 0.0


def test_targets_are_held_against_the_right_figures() -> None:
    """Each ratio has the direction its name says."""
    figures = summarise(
        {
            OURS: _samples(4.0, 300.0, 0.5, 100.0),
            PIPELINE: _samples(20.0, 100.0, 6.0, 400.0),
            LIMIT: _samples(3.2, 330.0, 0.4, 90.0),
            DOOR: _samples(7.5, 250.0, 8.0, 150.0),
        }
    )
    targets = compare(figures, 0.4)
    assert [target.value for target in targets] == pytest.approx([5.0, 3.0, 1.25, 1.1, 3.5, 12.0, 25.0, 0.4])
    assert [target.met for target in targets] == [True, True, False, True, True, True, True, True]


def test_a_target_on_its_limit_is_met() -> None:
    """'At least 4.5' holds for 4.5, 'at most 2' for 2."""
    figures = summarise({OURS: _samples(2.0, 1.0, 1.0, 1.0), PIPELINE: _samples(9.0, 1.0, 1.0, 1.0)})
    targets = compare(figures, 2.0)
    for target, limit in ((targets[0], 4.5), (targets[-1], 2.0)):
        assert target.value == limit
        assert target.met
    assert not compare(figures, math.nextafter(2.0, 3.0))[-1].met


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """Without torch there is nothing to compare with, and the table says so."""
    targets = compare(summarise({OURS: _samples(4.0, 300.0, 0.5, 100.0)}), None)
    assert all(target.value is None and target.met is None for target in targets)
