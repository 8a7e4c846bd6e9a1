"""Metrics read well in a terminal and as Markdown."""

from __future__ import annotations

import numpy as np
import pytest

from sentiment.evaluation.metrics import Metrics, evaluate
from sentiment.evaluation.rendering import render_markdown, render_text


@pytest.fixture
def metrics() -> Metrics:
    """1,000 rows of neutral, 12 of negative, none of positive; never predicted negative."""
    labels = np.array([1] * 1_000 + [0] * 12)
    predicted = np.array([1] * 990 + [2] * 22)
    return evaluate(np.eye(3)[predicted], labels)


def test_text_is_aligned(metrics: Metrics) -> None:
    """Every line of a table ends in the same column, however large the counts."""
    summary, classes, confusion = (block.split("\n") for block in render_text(metrics).split("\n\n"))
    assert confusion == [
        "truth \\ predicted  negative  neutral  positive",
        "negative                  0        0        12",
        "neutral                   0      990        10",
        "positive                  0        0         0",
    ]
    assert len({len(line) for line in classes}) == 1
    assert summary[0].startswith("macro-recall                0.4950 (95% interval 0.")
    assert summary[-1] == "rows                        1,012"


def test_unknown_figures_are_dashes_and_said(metrics: Metrics) -> None:
    """A class without rows has no recall, and the average says whom it leaves out."""
    text = render_text(metrics)
    assert "(no rows of positive: averaged over the others)" in text
    lines = [line.split() for line in text.split("\n")]
    assert ["positive", "-", "0.0000", "-", "0"] in lines
    assert ["negative", "0.0000", "-", "0.0000", "12"] in lines


def test_markdown_tables_are_well_formed(metrics: Metrics) -> None:
    """Three tables; each has a rule under its header and the same number of cells in every row."""
    blocks = [block.split("\n") for block in render_markdown(metrics).split("\n\n")]
    assert len(blocks) == 3
    for header, rule, *body in blocks:
        assert set(rule) <= set("|-:")
        assert {row.count("|") for row in (header, rule, *body)} == {header.count("|")}
    assert "| neutral | 0 | 990 | 10 |" in blocks[2]
