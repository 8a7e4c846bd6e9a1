"""Every way is measured with the real sender; what it found is not judged: timings never decide a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.telemetry import OFF, main
from tests.models import make_model_folder


def test_all_endpoints_are_measured_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a way on the terminal, everything in the file; what a dead endpoint never took is counted."""
    model = make_model_folder(tmp_path / "model")
    report = tmp_path / "report.json"
    arguments = ["--model", str(model), "--rounds", "1", "--requests", "20", "--json", str(report)]
    assert main(arguments) == 0
    ways = {way["name"]: way for way in json.loads(report.read_text())["ways"]}
    assert list(ways) == [OFF, "off, once more", "takes everything", "dead", "hangs", "fails"]
    assert all(way["p99_ms"] > 0 for way in ways.values())
    assert ways[OFF]["p99_ratio"] == 1.0
    lost = {name for name, way in ways.items() if way["dropped"]}
    assert lost == {"dead", "hangs", "fails"}
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(ways)


def test_a_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
