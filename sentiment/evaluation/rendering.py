"""Metrics for people: plain text for a terminal, Markdown for model cards and READMEs."""

from __future__ import annotations

from collections.abc import Sequence

from sentiment.evaluation.metrics import ClassMetrics, Metrics
from sentiment.records import LABELS

_UNKNOWN = "-"
_CLASS_HEADER = ("class", "recall", "precision", "F1", "rows")
_TRUTH_BY_PREDICTION = "truth \\ predicted"


def render_text(metrics: Metrics) -> str:
    """Return `metrics` as aligned plain text of several lines, without a final line break."""
    summary = _summary(metrics)
    width = max(len(name) for name, _ in summary)
    lines = [f"{name:<{width}}  {value}" for name, value in summary]
    lines += ["", *align([_CLASS_HEADER, *_class_rows(metrics)])]
    lines += ["", *align([(_TRUTH_BY_PREDICTION, *LABELS), *_confusion_rows(metrics)])]
    return "\n".join(lines)


def render_markdown(metrics: Metrics) -> str:
    """Return `metrics` as three Markdown tables, without a final line break."""
    blocks = [
        markdown_table([("metric", "value"), *_summary(metrics)]),
        markdown_table([_CLASS_HEADER, *_class_rows(metrics)]),
        markdown_table([(_TRUTH_BY_PREDICTION.replace("\\", "\\\\"), *LABELS), *_confusion_rows(metrics)]),
    ]
    return "\n\n".join(blocks)


def _summary(metrics: Metrics) -> list[tuple[str, str]]:
    interval = metrics.macro_recall_interval
    absent = [label for label in LABELS if label not in metrics.macro_over]
    note = f" (no rows of {', '.join(absent)}: averaged over the others)" if absent else ""
    return [
        (
            "macro-recall",
            f"{metrics.macro_recall:.4f} ({interval.confidence:.0%} interval "
            f"{interval.low:.4f} to {interval.high:.4f}){note}",
        ),
        ("accuracy", f"{metrics.accuracy:.4f}"),
        ("macro-F1", f"{metrics.macro_f1:.4f}"),
        ("expected calibration error", f"{metrics.expected_calibration_error:.4f}"),
        ("negative log likelihood", f"{metrics.negative_log_likelihood:.4f}"),
        ("Brier score", f"{metrics.brier_score:.4f}"),
        ("rows", f"{metrics.rows:,}"),
    ]


def _class_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    return [(label, *_class_cells(metrics.classes[label])) for label in LABELS]


def _class_cells(each: ClassMetrics) -> tuple[str, ...]:
    shares = (each.recall, each.precision, each.f1)
    return (*(_UNKNOWN if share is None else f"{share:.4f}" for share in shares), f"{each.support:,}")


def _confusion_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    return [
        (label, *(f"{count:,}" for count in row))
        for label, row in zip(LABELS, metrics.confusion, strict=True)
    ]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line a row: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def markdown_table(rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Return a Markdown table of `rows`, the header first; the first `words` columns are words.

    The other columns are numbers, which are set to the right.
    """
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    rule = "|" + "|".join("---" if position < words else "---:" for position in range(len(rows[0]))) + "|"
    return "\n".join([header, rule, *body])
