"""The files of feedback that the steps of a cycle hand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.errors import DataError
from sentiment.evaluation.feedback_rows import FeedbackRow, encode_feedback, read_feedback

ROWS = [
    FeedbackRow(label="negative", text="late again\u2028really", predicted="positive", kind="error", cycle=2),
    FeedbackRow(label="neutral", text="lands at nine", predicted="neutral", kind="confirmation", cycle=3),
]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A line separator inside a tweet breaks no line."""
    path = tmp_path / "feedback.jsonl"
    path.write_bytes(encode_feedback(ROWS))
    feedback = read_feedback(path)
    assert feedback.texts == ("late again\u2028really", "lands at nine")
    assert feedback.labels.tolist() == [0, 1]
    assert feedback.predicted.tolist() == [2, 1]
    assert feedback.errors.tolist() == [True, False]
    assert feedback.cycles.tolist() == [2, 3]
    assert feedback.fingerprint.rows == {"negative": 1, "neutral": 1, "positive": 0}


def test_a_file_without_rows_is_feedback_too(tmp_path: Path) -> None:
    """Nothing may be held out yet."""
    path = tmp_path / "heldout.jsonl"
    path.write_bytes(b"")
    assert read_feedback(path).errors.shape == (0,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "is no row of feedback"),
        (b'{"label": "angry"}', "is no row of feedback"),
        (
            b'{"label":"neutral","text":"a","predicted":"neutral","kind":"error","cycle":1}',
            "error says neutral, and neutral had been predicted",
        ),
        (
            b'{"label":"neutral","text":"a","predicted":"positive","kind":"sample","cycle":1}',
            "sample says neutral, and positive had been predicted",
        ),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    """The message has the file, the line and what is wrong."""
    path = tmp_path / "feedback.jsonl"
    path.write_bytes(encode_feedback(ROWS) + line + b"\n")
    with pytest.raises(DataError, match=f"feedback.jsonl, line 3: .*{said}"):
        read_feedback(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Nothing is taken for empty that is not there."""
    with pytest.raises(DataError, match="cannot be read"):
        read_feedback(tmp_path / "absent.jsonl")
