"""The table and the plot of the loop's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.training


def test_every_cycle_is_in_the_table_and_the_plot_is_the_same_every_time(tmp_path: Path) -> None:
    """A refused candidate shows with its own figures; the model that serves keeps its."""
    from benchmarks.loop import Point, Scores
    from benchmarks.plots import draw, render

    seed = Scores(0.75, 0.72)
    start = Point(
        scenario="30 % confirmed",
        cycle=0,
        seen=0,
        errors=0,
        confirmations=0,
        verdict="start",
        reasons=[],
        candidate_new=None,
        candidate_old=None,
        serving="seed",
        serving_new=seed,
        serving_old=seed,
        seconds=0.0,
    )
    refused = Point(
        scenario="30 % confirmed",
        cycle=1,
        seen=700,
        errors=200,
        confirmations=150,
        verdict="refuse",
        reasons=["classes: neutral"],
        candidate_new=Scores(0.70, 0.75),
        candidate_old=Scores(0.71, 0.70),
        serving="seed",
        serving_new=seed,
        serving_old=seed,
        seconds=200.0,
    )
    lines = render([[start, refused]]).splitlines()
    assert lines[-1] == (
        "| 30 % confirmed | 700 | 200 | 150 | refuse "
        "| 75.0 (+0.0) | 72.0 (+0.0) | 75.0 (+0.0) | 70.0 | 71.0 |"
    )
    for name in ("one.svg", "two.svg"):
        draw([[start, refused]], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
