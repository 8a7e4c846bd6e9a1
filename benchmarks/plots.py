"""Plots of `benchmarks.loop` as SVG, and its figures as a Markdown table.

python -m benchmarks.plots build/loop --svg docs/figures/loop.svg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import msgspec
from matplotlib import pyplot

from benchmarks.loop import SCENARIOS, Point

#: Of the model that serves, of the candidate, and what both are measured on.
_PANELS = (("serving_new", "candidate_new", "new domain"), ("serving_old", "candidate_old", "old domain"))


def draw(scenarios: Sequence[Sequence[Point]], path: Path) -> None:
    """Write macro-recall of the serving model over the corrections, a panel for each domain."""
    # The same figures make the same bytes, and words stay words.
    matplotlib.rcParams["svg.hashsalt"] = "loop"
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(10, 4), sharex=True)
    for (serving, candidate, title), axis in zip(_PANELS, axes, strict=True):
        for points in scenarios:
            (line,) = axis.plot(
                [point.errors for point in points],
                [100 * getattr(point, serving).macro_recall for point in points],
                marker="o",
                label=points[0].scenario,
            )
            # A refused candidate is not what serves next.
            refused = [point for point in points if point.verdict == "refuse"]
            axis.plot(
                [point.errors for point in refused],
                [100 * getattr(point, candidate).macro_recall for point in refused],
                marker="x",
                linestyle="",
                color=line.get_color(),
            )
        axis.set_title(f"{title} (x: refused candidates)")
        axis.set_xlabel("accepted corrections")
        axis.set_ylabel("macro-recall (%)")
        axis.grid(alpha=0.3)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncol=len(scenarios))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def render(scenarios: Sequence[Sequence[Point]]) -> str:
    """Return a Markdown table: every cycle, what the gate said, and what serves after it."""
    lines = [
        "| users | tweets seen | errors | confirmations | gate | new: macro-recall | accuracy "
        "| old: macro-recall | candidate, new | candidate, old |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for points in scenarios:
        start = points[0]
        for point in points:
            new, old = point.serving_new, point.serving_old
            candidate = ["", ""]
            if point.candidate_new is not None and point.candidate_old is not None:
                candidate = [
                    f"{100 * point.candidate_new.macro_recall:.1f}",
                    f"{100 * point.candidate_old.macro_recall:.1f}",
                ]
            cells = [
                point.scenario,
                f"{point.seen:,}",
                f"{point.errors:,}",
                f"{point.confirmations:,}",
                point.verdict,
                _gain(new.macro_recall, start.serving_new.macro_recall),
                _gain(new.accuracy, start.serving_new.accuracy),
                _gain(old.macro_recall, start.serving_old.macro_recall),
                *candidate,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(now: float, before: float) -> str:
    return f"{100 * now:.1f} ({100 * (now - before):+.1f})"


def main() -> int:
    """Draw and print what a folder of `benchmarks.loop` holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="--out of benchmarks.loop")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = [
        msgspec.json.decode(path.read_bytes(), type=list[Point])
        for path in options.folder.glob("*/points.json")
    ]
    names = [scenario.name for scenario in SCENARIOS]
    found.sort(key=lambda points: names.index(points[0].scenario))
    if not found:
        print(f"error: {options.folder} has no points.json: run benchmarks.loop first", file=sys.stderr)
        return 1
    print(render(found))
    if options.svg:
        draw(found, options.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
