"""The report reads well everywhere it ends up, and the README is changed between its markers only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import OURS, PIPELINE, Samples, compare, summarise
from benchmarks.machine import Machine, describe_machine
from benchmarks.report import (
    BEGIN,
    END,
    ServingReport,
    render_markdown,
    render_text,
    update_readme,
    write_json,
)


def _report(load: float = 0.1) -> ServingReport:
    samples = {
        OURS: Samples([4.0, 5.0], [300.0], [0.4], {0: "neutral"}, 120.0),
        PIPELINE: Samples([20.0, 30.0], [1_100.0], [6.0], {0: "neutral"}, 400.0),
    }
    figures = summarise(samples)
    return ServingReport(
        measured_at="2026-01-02T03:04:05+00:00",
        machine=Machine("Linux x86_64", "a processor", 2, 8.0, "3.11.7", {"onnxruntime": "1.2.3"}, load),
        model="distilbert-1",
        tweets="256 invented tweets",
        rounds=20,
        figures=list(figures.values()),
        targets=compare(figures, None),
        pull_seconds=[],
        skipped={"mlflow models serve": "mlflow not installed"},
    )


def test_the_terminal_shows_figures_targets_and_what_is_missing() -> None:
    """A contender that was skipped is named with its reason; a target without a figure is not a miss."""
    text = render_text(_report())
    assert "mlflow models serve: skipped, mlflow not installed" in text
    assert "not measured" in text
    assert "at least 4.5 x" in text
    assert "busy" not in text
    assert "The machine was busy (load 2.0)" in render_text(_report(load=2.0))


def test_markdown_tables_are_well_formed() -> None:
    """Every row has the cells of its header; the last line says where the figures come from."""
    figures, targets, source = render_markdown(_report()).split("\n\n")
    for table in (figures, targets):
        assert len({line.count("|") for line in table.split("\n")}) == 1
    assert "1,100 tweets/s" in figures
    assert source == (
        "Measured with `make bench` on 2 cores (a processor), Python 3.11.7, onnxruntime 1.2.3; "
        "256 invented tweets, 20 alternating rounds, 2026-01-02."
    )


def test_json_holds_everything(tmp_path: Path) -> None:
    """Programs find the figures, the targets and whether each was met; the folder need not exist."""
    path = tmp_path / "new" / "report.json"
    write_json(path, _report())
    found = json.loads(path.read_bytes())
    assert found["machine"]["cores"] == 2
    assert found["figures"][0]["name"] == OURS
    assert {target["met"] for target in found["targets"]} == {True, False, None}


def test_the_readme_changes_between_its_markers(tmp_path: Path) -> None:
    """What stands around the markers stays; doing it twice changes nothing more."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n", encoding="utf-8")
    update_readme(readme, "| new |")
    expected = f"# Title\n\n{BEGIN}\n| new |\n{END}\n\nThe rest.\n"
    assert readme.read_text(encoding="utf-8") == expected
    update_readme(readme, "| new |")
    assert readme.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("content", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_left_alone(tmp_path: Path, content: str) -> None:
    """Missing, doubled or swapped markers are an error, not a guess."""
    readme = tmp_path / "README.md"
    readme.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="bench:start"):
        update_readme(readme, "| new |")
    assert readme.read_text(encoding="utf-8") == content


def test_this_machine_can_be_described() -> None:
    """Cores, memory and versions are those of the machine that runs this test."""
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.memory_gb > 0
    assert "onnxruntime" in machine.packages
