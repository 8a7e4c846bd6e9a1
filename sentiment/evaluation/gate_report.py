"""The gate's report for people: one page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sentiment.evaluation.gate_records import Bounds, Comparison, Examples, GateReport, Pair
from sentiment.evaluation.rendering import markdown_table

_UNKNOWN = "-"
# Beyond this a tweet would fill the table; an example is enough to see what it was about.
_LONGEST_EXAMPLE = 200


def render_gate(report: GateReport) -> str:
    """Return `report` as Markdown, with a final line break."""
    blocks = [_verdict(report), _checks(report)]
    if report.golden is not None:
        blocks.append(_comparison("Golden set", report.golden))
    if report.traffic is not None:
        blocks.append(_traffic(report))
    if report.slices:
        blocks.append(_slices(report))
    if report.behaviour:
        blocks.append(_behaviour(report))
    if report.calibration is not None and report.latency is not None:
        blocks.append(_budget(report))
    for title, examples in (
        ("Golden set", report.golden_examples),
        ("Held-out corrections", report.heldout_examples),
    ):
        if examples is not None:
            blocks.append(_examples(title, examples))
    if report.golden is not None:
        blocks.append(
            f"Intervals cover {report.interval:.0%}: each end is a one-sided bound with "
            f"{report.policy.confidence:.0%} confidence, from {report.policy.resamples:,} paired resamples, "
            f"seed {report.seed}."
        )
    return "\n\n".join(blocks) + "\n"


def _verdict(report: GateReport) -> str:
    names = [
        "unknown" if model is None else f"`{model.version}`" for model in (report.candidate, report.champion)
    ]
    lines = [f"# Gate: {report.verdict}", f"Candidate {names[0]} against champion {names[1]}."]
    if report.reasons:
        lines.append("Refused because:\n\n" + "\n".join(f"- {_cell(reason)}" for reason in report.reasons))
    return "\n\n".join(lines)


def _checks(report: GateReport) -> str:
    rows = [("check", "holds", "numbers")]
    rows += [(each.name, "yes" if each.passed else "**no**", _cell(each.detail)) for each in report.checks]
    return "## Checks\n\n" + markdown_table(rows, words=3)


def _comparison(title: str, comparison: Comparison) -> str:
    rows: list[Sequence[str]] = [("measure", "rows", "champion", "candidate", "difference")]
    measures = [("macro-recall", comparison.rows, comparison.macro_recall)]
    measures.append(("accuracy", comparison.rows, comparison.accuracy))
    measures += [
        (f"recall of {label}", comparison.support[label], pair) for label, pair in comparison.recalls.items()
    ]
    rows += [(name, f"{count:,}", *_pair(pair)) for name, count, pair in measures]
    changed = f"{comparison.fixed:,} tweets fixed, {comparison.broken:,} broken."
    return f"## {title}\n\n{markdown_table(rows)}\n\n{changed}"


def _traffic(report: GateReport) -> str:
    traffic = report.traffic
    assert traffic is not None
    kinds = (
        f"{traffic.errors:,} errors, {traffic.confirmations:,} confirmations and {traffic.samples:,} samples"
    )
    weights = {
        "counted": "weighted by the counts of all predictions",
        "assumed": "nobody counted the predictions: weighted as if accuracy were that on the golden set",
    }[traffic.weights]
    stands = (
        "they stand for what is asked"
        if traffic.representative
        else "**they do not stand for what is asked**"
    )
    return f"{_comparison('Held-out corrections', traffic.comparison)}\n\n{kinds}; {weights}; {stands}."


def _slices(report: GateReport) -> str:
    rows: list[Sequence[str]] = [
        ("accuracy on", "rows", "champion", "candidate", "difference", "fixed", "broken", "chance")
    ]
    rows += [
        (
            name.replace("_", " "),
            f"{each.rows:,}",
            *_pair(each.accuracy),
            f"{each.fixed:,}",
            f"{each.broken:,}",
            _UNKNOWN if each.chance is None else f"{each.chance:.3f}",
        )
        for name, each in report.slices.items()
    ]
    note = (
        "Chance: of so many broken tweets if the candidate were as good, adjusted for looking at all "
        f"kinds; - where there are fewer than {report.policy.drop_rows} tweets."
    )
    return f"## Kinds of tweets\n\n{markdown_table(rows)}\n\n{note}"


def _behaviour(report: GateReport) -> str:
    rows = [("capability", "cases", "champion fails", "candidate fails", "fixed", "broken", "chance")]
    rows += [
        (
            name,
            f"{each.cases:,}",
            f"{each.champion / each.cases:.1%}",
            f"{each.candidate / each.cases:.1%}",
            f"{each.fixed:,}",
            f"{each.broken:,}",
            f"{each.chance:.3f}",
        )
        for name, each in report.behaviour.items()
    ]
    return "## Behaviour suite\n\n" + markdown_table(rows)


def _budget(report: GateReport) -> str:
    assert report.calibration is not None
    assert report.latency is not None
    champion, candidate = report.latency
    rows = [
        ("measure", "champion", "candidate"),
        ("expected calibration error", *(f"{error:.4f}" for error in report.calibration)),
        ("median milliseconds a tweet", f"{champion.p50_ms:.2f}", f"{candidate.p50_ms:.2f}"),
        ("99th percentile", f"{champion.p99_ms:.2f}", f"{candidate.p99_ms:.2f}"),
    ]
    return "## Calibration and latency\n\n" + markdown_table(rows)


def _examples(title: str, examples: Examples) -> str:
    blocks = []
    for name, some in (("fixed", examples.fixed), ("broken", examples.broken)):
        rows = [("tweet", "label", "champion", "candidate")]
        rows += [(_cell(each.text), each.label, each.champion, each.candidate) for each in some]
        blocks.append(f"## {title}: {name}\n\n" + (markdown_table(rows, words=4) if some else "None."))
    return "\n\n".join(blocks)


def _pair(pair: Pair) -> Sequence[str]:
    return _bounds(pair.champion), _bounds(pair.candidate), _bounds(pair.difference, "+")


def _bounds(bounds: Bounds, sign: str = "") -> str:
    return f"{bounds.value:{sign}.4f} ({bounds.low:{sign}.4f} to {bounds.high:{sign}.4f})"


def _cell(text: str) -> str:
    """Return what somebody else wrote as one line of a table: no markup, no link, no mention."""
    short = text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + "..."
    for character in "\\`*_[]<>|#@":
        short = short.replace(
            character, {"<": "&lt;", ">": "&gt;", "@": "&#64;"}.get(character, "\\" + character)
        )
    return " ".join(short.split())
