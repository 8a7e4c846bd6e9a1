"""The files of users' feedback that the steps of a cycle hand on: `feedback.jsonl`, `heldout.jsonl`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.errors import DataError
from sentiment.records import LABELS, DataFingerprint, Label

#: Whether somebody said that a prediction was wrong or right, or it was sampled and left uncorrected.
Kind = Literal["error", "confirmation", "sample"]


class FeedbackRow(Struct, frozen=True, kw_only=True):
    """One line: a text, what the service had said of it, and what it should have said."""

    label: Label
    text: str
    predicted: Label
    kind: Kind
    cycle: int
    weight: float = 1.0


class Feedback(Struct, frozen=True, eq=False):
    """The rows of one file: `labels` and `predicted` are positions in `LABELS`, shape (n,)."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    kinds: tuple[Kind, ...]
    #: The cycle that each row was given in, shape (n,).
    cycles: NDArray[np.int64]
    fingerprint: DataFingerprint

    @property
    def errors(self) -> NDArray[np.bool_]:
        """Which rows are errors, shape (n,)."""
        return np.array([kind == "error" for kind in self.kinds], dtype=np.bool_)


def encode_feedback(rows: list[FeedbackRow]) -> bytes:
    """Return the bytes of a file: one JSON object a line."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def read_feedback(path: Path) -> Feedback:
    """Read a file of feedback; it may have no rows.

    Raises:
        DataError: it cannot be read, or a line is no row.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    decoder = msgspec.json.Decoder(FeedbackRow)
    rows = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(path, number, f"is no row of feedback: {error}") from error
        if (row.kind == "error") == (row.label == row.predicted):
            raise DataError(
                path, number, f"{row.kind} says {row.label}, and {row.predicted} had been predicted"
            )
        rows.append(row)
    return Feedback(
        texts=tuple(row.text for row in rows),
        labels=np.array([LABELS.index(row.label) for row in rows], dtype=np.int64),
        predicted=np.array([LABELS.index(row.predicted) for row in rows], dtype=np.int64),
        kinds=tuple(row.kind for row in rows),
        cycles=np.array([row.cycle for row in rows], dtype=np.int64),
        fingerprint=DataFingerprint(
            name=path.name,
            sha256=hashlib.sha256(raw).hexdigest(),
            rows={label: sum(row.label == label for row in rows) for label in LABELS},
        ),
    )
