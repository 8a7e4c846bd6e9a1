"""The figures for people and programs: a table in the terminal, JSON, Markdown in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.figures import Figures, Target
from benchmarks.machine import Machine

BEGIN = "<!-- bench:start -->"
END = "<!-- bench:end -->"

_HEADER = ("", "one tweet p50", "p99", "batches of 32", "cold start", "peak memory", "label as ours")
_BUSY = 0.5
_VERDICTS = {True: "reached", False: "missed", None: "not measured"}


class ServingReport(Struct, frozen=True, kw_only=True):
    """Everything one run of `benchmarks.serving` found; `skipped` says why a contender is missing."""

    measured_at: str
    machine: Machine
    model: str
    tweets: str
    rounds: int
    figures: list[Figures]
    targets: list[Target]
    pull_seconds: list[float]
    skipped: dict[str, str]


def render_text(report: ServingReport) -> str:
    """Return the report as aligned lines for a terminal."""
    lines = [_machine_line(report), *_warnings(report.machine), ""]
    lines += align([_HEADER, *map(_row, report.figures)])
    lines += [f"{name}: skipped, {reason}" for name, reason in report.skipped.items()]
    lines += ["", *align([("to reach on two cores", "", "found", ""), *map(_target_row, report.targets)])]
    return "\n".join(lines)


def render_markdown(report: ServingReport) -> str:
    """Return the report as the Markdown that belongs between the README's markers."""
    columns = ("to reach on two cores", "", "found", "")
    blocks = [
        _markdown_table(_HEADER, [_row(figures) for figures in report.figures]),
        _markdown_table(columns, [_target_row(target) for target in report.targets]),
        f"Measured with `make bench` on {_machine_line(report)}",
    ]
    return "\n\n".join(blocks)


def write_json(path: Path, report: Struct) -> None:
    """Write any report as indented JSON, making the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def update_readme(path: Path, markdown: str) -> None:
    """Put `markdown` between the two markers in the file at `path`, in place of what is there.

    Raises:
        ValueError: the file does not have both markers, each once and in order.
    """
    content = path.read_text(encoding="utf-8")
    if content.count(BEGIN) != 1 or content.count(END) != 1 or content.index(BEGIN) > content.index(END):
        raise ValueError(f"{path} must have one line {BEGIN} and after it one line {END}")
    before, after = content.split(BEGIN)[0], content.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown}\n{END}{after}", encoding="utf-8")


def _machine_line(report: ServingReport) -> str:
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        f"{machine.cores} cores ({machine.processor}), Python {machine.python}, {packages}; "
        f"{report.tweets}, {report.rounds} alternating rounds, {report.measured_at[:10]}."
    )


def _warnings(machine: Machine) -> list[str]:
    if machine.load < _BUSY * machine.cores:
        return []
    return [f"The machine was busy (load {machine.load:.1f}): measure again when it is idle."]


def _row(figures: Figures) -> tuple[str, ...]:
    return (
        figures.title,
        f"{figures.single_p50_ms:.1f} ms",
        f"{figures.single_p99_ms:.1f} ms",
        f"{figures.batch_tweets_per_second:,.0f} tweets/s",
        f"{figures.cold_start_seconds:.2f} s",
        f"{figures.peak_memory_mb:,.0f} MB",
        f"{figures.agreement:.1%}",
    )


def _target_row(target: Target) -> tuple[str, ...]:
    found = "-" if target.value is None else f"{target.value:.2f} {target.unit}"
    return (target.name, f"{target.relation} {target.limit:g} {target.unit}", found, _VERDICTS[target.met])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line a row: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|" + "|".join("---:" if position else "---" for position in range(len(header))) + "|"
    return "\n".join(
        ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]
    )
