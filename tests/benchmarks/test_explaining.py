"""The time of an explanation is measured for short and long texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.explaining import main
from tests.models import make_model_folder


def test_every_kind_of_text_gets_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Down to the longest that is accepted."""
    model = make_model_folder(tmp_path / "model")
    assert main(["--model", str(model), "--threads", "1", "--tweets", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[-3:]] == ["a tweet", "two in one", "a long post"]


def test_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 1
    assert "manifest.json: is missing" in capsys.readouterr().err
