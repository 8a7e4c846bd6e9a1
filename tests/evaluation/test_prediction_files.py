"""predictions.json comes back as it went in, and what no model can have said is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sentiment.errors import DataError
from sentiment.evaluation.prediction_files import (
    PredictionFile,
    read_predictions,
    write_predictions,
)
from tests.predictions import make_pair, replace_set


@pytest.fixture
def predictions() -> PredictionFile:
    return make_pair(0, rows=400, asked=100)[0]


def test_a_file_comes_back_as_it_went_in(predictions: PredictionFile, tmp_path: Path) -> None:
    """Every array, and whether the weights are counted."""
    path = tmp_path / "new" / "predictions.json"
    write_predictions(path, predictions)
    back = read_predictions(path)
    assert [each.name for each in path.parent.iterdir()] == ["predictions.json"]
    assert (back.model, back.latency) == (predictions.model, predictions.latency)
    for name in ("golden", "heldout", "behaviour"):
        one, other = getattr(predictions, name), getattr(back, name)
        for field in msgspec.structs.fields(type(one)):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_the_layout_is_the_one_that_is_documented(predictions: PredictionFile, tmp_path: Path) -> None:
    """Other programs may read it."""
    path = tmp_path / "predictions.json"
    write_predictions(path, predictions)
    file = json.loads(path.read_bytes())
    assert set(file) == {"schema", "model", "sets", "latency"}
    assert set(file["model"]) == {"version", "sha256"}
    assert set(file["sets"]) == {"golden", "heldout", "behaviour"}
    assert set(file["sets"]["golden"]) == {"fingerprint", "texts", "labels", "weights", "probabilities"}
    assert set(file["latency"]) == {"p50_ms", "p99_ms", "texts"}


def test_sets_may_be_missing_but_for_the_golden_one(predictions: PredictionFile, tmp_path: Path) -> None:
    """Absent, they come back as None."""
    path = tmp_path / "predictions.json"
    write_predictions(path, msgspec.structs.replace(predictions, heldout=None, behaviour=None))
    back = read_predictions(path)
    assert back.heldout is None
    assert back.behaviour is None


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("golden", {"labels": np.full(400, 3)}, "labels must be from 0 to 2: row 0 is 3"),
        ("golden", {"labels": np.zeros(399, dtype=np.int64)}, "labels must be 400 integers"),
        ("golden", {"weights": np.full(400, np.nan)}, "weights must be 400 positive numbers"),
        ("golden", {"weights": np.zeros(400)}, "weights must be 400 positive numbers"),
        ("golden", {"probabilities": np.full((400, 2), 0.5)}, "must have shape (400, 3), got (400, 2)"),
        ("golden", {"probabilities": np.full((400, 3), np.nan)}, "not finite: row 0"),
        ("golden", {"probabilities": np.full((400, 3), np.inf)}, "not finite: row 0"),
        ("golden", {"probabilities": np.full((400, 3), 0.5)}, "not summing to one"),
        ("golden", {"probabilities": np.tile([1.5, -0.5, 0.0], (400, 1))}, "outside 0 to 1"),
        ("heldout", {"predicted": np.full(3, 0)}, "predicted must be"),
        ("heldout", {"kinds": ("error",)}, "1 kinds for"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    predictions: PredictionFile, tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    """Written by a broken model, refused by whoever reads it."""
    path = tmp_path / "predictions.json"
    write_predictions(path, replace_set(predictions, name, **changes))
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert f"{name}: " in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema": 2}', b"[1]"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, of another schema, or no JSON at all."""
    path = tmp_path / "predictions.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is no predictions\.json"):
        read_predictions(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "none.json")


def test_an_unknown_kind_and_a_ragged_row_are_refused(predictions: PredictionFile, tmp_path: Path) -> None:
    """What a program of somebody else's might write."""
    path = tmp_path / "predictions.json"
    write_predictions(path, predictions)
    for change in (
        lambda file: file["sets"]["heldout"]["kinds"].__setitem__(0, "guess"),
        lambda file: file["sets"]["golden"]["probabilities"].__setitem__(0, [1.0]),
        lambda file: file["latency"].__setitem__("p50_ms", -1.0),
    ):
        file = json.loads(path.read_bytes())
        change(file)
        other = tmp_path / "other.json"
        other.write_text(json.dumps(file), encoding="utf-8")
        with pytest.raises(DataError):
            read_predictions(other)
