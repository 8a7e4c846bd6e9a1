"""`predictions.json`: what one model says of the tweets it is judged on.

Everything that the gate knows of a model is in this file, so that a verdict can be
reached again, elsewhere, from two files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.errors import DataError
from sentiment.evaluation.feedback_rows import Kind
from sentiment.records import LABELS, DataFingerprint

# Wide enough for what float16 arithmetic makes of a softmax.
_SUM_TOLERANCE = 1e-2


class ModelIdentity(Struct, frozen=True):
    """A model version and the SHA-256 of its manifest."""

    version: str
    sha256: str


class Latency(Struct, frozen=True):
    """Milliseconds for one text that comes alone: median and 99th percentile over `texts` of them."""

    p50_ms: float
    p99_ms: float
    texts: int


class PredictionSet(Struct, frozen=True, eq=False, kw_only=True):
    """Labelled texts and what the model says of them.

    `labels` (n,) are positions in `LABELS`, `probabilities` has shape (n, 3),
    `weights` (n,) says how many predictions each row stands for.
    """

    fingerprint: DataFingerprint
    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @property
    def answers(self) -> NDArray[np.int64]:
        """The most probable class of each row (the first of equals), shape (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


class HeldoutSet(PredictionSet, frozen=True, eq=False, kw_only=True):
    """Corrections that nothing was trained on: rows of errors, confirmations and samples.

    `predicted` (n,) is what the service had said when it was corrected. `counted`
    says whether `weights` come from counts of all predictions; without them,
    nobody knows how many right answers a confirmation stands for.
    """

    kinds: tuple[Kind, ...]
    predicted: NDArray[np.int64]
    counted: bool = False

    @property
    def errors(self) -> NDArray[np.bool_]:
        """Which rows are errors, shape (n,)."""
        return np.array([kind == "error" for kind in self.kinds], dtype=np.bool_)


class BehaviourSet(Struct, frozen=True, eq=False, kw_only=True):
    """What the model says of the texts of the behaviour suite, in its order: `probabilities` is (n, 3)."""

    fingerprint: DataFingerprint
    texts: tuple[str, ...]
    probabilities: NDArray[np.float64]


class PredictionFile(Struct, frozen=True, eq=False, kw_only=True):
    """All that one model says. A set is None when it was not run."""

    model: ModelIdentity
    golden: PredictionSet
    heldout: HeldoutSet | None = None
    behaviour: BehaviourSet | None = None
    latency: Latency


def check(predictions: PredictionFile) -> None:
    """Refuse what no model can have said of any data.

    Raises:
        ValueError: shapes do not match, labels or kinds are unknown, weights are not
            positive, or a row is no probabilities (not finite, outside 0 to 1, not
            summing to one); with the set and the row.
    """
    _check_set("golden", predictions.golden)
    heldout, behaviour, latency = predictions.heldout, predictions.behaviour, predictions.latency
    if heldout is not None:
        _check_set("heldout", heldout)
        _check_labels("heldout", "predicted", heldout.predicted, len(heldout.texts))
        if len(heldout.kinds) != len(heldout.texts):
            raise ValueError(f"heldout: {len(heldout.kinds)} kinds for {len(heldout.texts)} texts")
        if unknown := set(heldout.kinds) - set(get_args(Kind)):
            raise ValueError(f"heldout: unknown kinds {sorted(unknown)}")
    if behaviour is not None:
        _check_probabilities("behaviour", behaviour.probabilities, len(behaviour.texts))
    if not (0.0 < latency.p50_ms <= latency.p99_ms < float("inf") and latency.texts > 0):
        raise ValueError(
            f"latency: p50 {latency.p50_ms} ms and p99 {latency.p99_ms} ms over {latency.texts} texts "
            "were not measured"
        )


def _check_set(name: str, predictions: PredictionSet) -> None:
    rows = len(predictions.texts)
    _check_labels(name, "labels", predictions.labels, rows)
    weights = predictions.weights
    if weights.shape != (rows,) or not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"{name}: weights must be {rows} positive numbers")
    _check_probabilities(name, predictions.probabilities, rows)


def _check_labels(name: str, member: str, labels: NDArray[np.int64], rows: int) -> None:
    if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}: {member} must be {rows} integers, got {labels.dtype} of {labels.shape}")
    bad = (labels < 0) | (labels >= len(LABELS))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"{name}: {member} must be from 0 to {len(LABELS) - 1}: row {row} is {labels[row]}")


def _check_probabilities(name: str, probabilities: NDArray[np.float64], rows: int) -> None:
    if probabilities.shape != (rows, len(LABELS)):
        raise ValueError(
            f"{name}: probabilities must have shape ({rows}, {len(LABELS)}), got {probabilities.shape}"
        )
    for what, bad in (
        ("not finite", ~np.isfinite(probabilities).all(axis=1)),
        ("outside 0 to 1", ((probabilities < 0.0) | (probabilities > 1.0)).any(axis=1)),
        ("not summing to one", ~(np.abs(probabilities.sum(axis=1) - 1.0) <= _SUM_TOLERANCE)),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{name}: probabilities are {what}: row {row} is {probabilities[row].tolist()} "
                f"({int(bad.sum())} such rows)"
            )


# --- the file ---------------------------------------------------------------


class _Set(Struct, kw_only=True):
    fingerprint: DataFingerprint
    texts: list[str]
    labels: list[int]
    weights: list[float | None]
    probabilities: list[list[float | None]]


class _Heldout(_Set, kw_only=True):
    kinds: list[Kind]
    predicted: list[int]
    counted: bool = False


class _Behaviour(Struct, kw_only=True):
    fingerprint: DataFingerprint
    texts: list[str]
    probabilities: list[list[float | None]]


class _Sets(Struct, kw_only=True, omit_defaults=True):
    golden: _Set
    heldout: _Heldout | None = None
    behaviour: _Behaviour | None = None


class _File(Struct, kw_only=True):
    schema: Literal[1]
    model: ModelIdentity
    sets: _Sets
    latency: Latency


def write_predictions(path: Path, predictions: PredictionFile) -> None:
    """Write `predictions` to `path`, whole or not at all.

    What is not finite is written as null: a file that cannot be used says what
    it was given, and `read_predictions` refuses it.
    """
    golden, heldout, behaviour = predictions.golden, predictions.heldout, predictions.behaviour
    sets = _Sets(golden=_Set(**_members(golden)))
    if heldout is not None:
        sets.heldout = _Heldout(
            **_members(heldout),
            kinds=list(heldout.kinds),
            predicted=heldout.predicted.tolist(),
            counted=heldout.counted,
        )
    if behaviour is not None:
        sets.behaviour = _Behaviour(
            fingerprint=behaviour.fingerprint,
            texts=list(behaviour.texts),
            probabilities=behaviour.probabilities.tolist(),
        )
    file = _File(schema=1, model=predictions.model, sets=sets, latency=predictions.latency)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(file) + b"\n")
    temporary.replace(path)


def _members(predictions: PredictionSet) -> dict[str, Any]:
    return {
        "fingerprint": predictions.fingerprint,
        "texts": list(predictions.texts),
        "labels": predictions.labels.tolist(),
        "weights": predictions.weights.tolist(),
        "probabilities": predictions.probabilities.tolist(),
    }


def read_predictions(path: Path) -> PredictionFile:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: it cannot be read, is no such file, or holds what `check` refuses.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(path, 0, f"is no predictions.json: {error}") from error
    try:
        predictions = _from_file(file)
        check(predictions)
    except ValueError as error:
        raise DataError(path, 0, str(error)) from error
    return predictions


def _from_file(file: _File) -> PredictionFile:
    golden, heldout, behaviour = file.sets.golden, file.sets.heldout, file.sets.behaviour
    return PredictionFile(
        model=file.model,
        golden=PredictionSet(**_arrays(golden)),
        heldout=None
        if heldout is None
        else HeldoutSet(
            **_arrays(heldout),
            kinds=tuple(heldout.kinds),
            predicted=np.array(heldout.predicted, dtype=np.int64),
            counted=heldout.counted,
        ),
        behaviour=None
        if behaviour is None
        else BehaviourSet(
            fingerprint=behaviour.fingerprint,
            texts=tuple(behaviour.texts),
            probabilities=_table(behaviour.probabilities),
        ),
        latency=file.latency,
    )


def _arrays(read: _Set) -> dict[str, Any]:
    return {
        "fingerprint": read.fingerprint,
        "texts": tuple(read.texts),
        "labels": np.array(read.labels, dtype=np.int64),
        # None becomes NaN, which is refused below.
        "weights": np.array(read.weights, dtype=np.float64),
        "probabilities": _table(read.probabilities),
    }


def _table(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    if not rows:
        return np.empty((0, len(LABELS)))
    # Rows of unequal length are a ValueError of numpy's.
    return np.array(rows, dtype=np.float64)
