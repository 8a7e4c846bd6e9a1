"""``step train``: the champion learns from a cycle's feedback."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sentiment.commands.training import add_settings, read_settings
from sentiment.errors import DataError, SettingsError
from sentiment.records import Label
from sentiment.training.recipes import Relearning


class _Cycle(msgspec.Struct):
    """Of `cycle.json`, the counts of all predictions that the feedback was given on."""

    predictions: dict[Label, int] = {}


def add_train(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the steps of a cycle."""
    parser = steps.add_parser(
        "train",
        help="fine-tune the champion on a cycle's feedback",
        description="Fine-tune the champion on the feedback that `step prepare` has written. Killed, the "
        "same command goes on from its last checkpoint. Several processes (torchrun, or the component's "
        "distribution) train one model.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="written by step prepare")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the candidate goes")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER", help="(default: beside --out, named after it)"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        metavar="N",
        help="time between checkpoints (default: 60); several processes take none",
    )
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
        metavar="URI",
        help="where MLflow keeps the run (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)",
    )
    add_settings(parser.add_argument_group("settings of the recipe"), Relearning)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    settings = read_settings(options, Relearning, "relearn")
    path = options.data / "cycle.json"
    try:
        cycle = msgspec.json.decode(path.read_bytes(), type=_Cycle)
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise DataError(path, 0, f"is no record of a cycle: {error}") from error
    try:
        from sentiment.training.candidate import train_candidate
    except ImportError as error:
        raise SettingsError(
            "step train",
            f"needs the training packages ({error.name} is missing): pip install -r requirements-train.txt",
        ) from error
    result = train_candidate(
        settings,
        data=options.data,
        predictions=cycle.predictions,
        out=options.out,
        checkpoints=options.checkpoints or options.out.parent / f".{options.out.name}-checkpoints",
        checkpoint_seconds=options.checkpoint_seconds,
        tracking_uri=options.tracking_uri,
        now=datetime.now(UTC),
        progress=lambda message: print(message, file=sys.stderr, flush=True),
    )
    if result is not None:
        record, report = result
        print(
            f"{record.version} in {options.out}: macro-recall {report.validation.macro_recall:.4f} "
            f"(float32: {report.float_macro_recall:.4f}), expected calibration error "
            f"{report.validation.expected_calibration_error:.4f}"
        )
    return 0
