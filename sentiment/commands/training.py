"""``train`` and ``evaluate``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from sentiment.errors import SettingsError
from sentiment.training.recipes import RECIPES

T = TypeVar("T", bound=msgspec.Struct)

_EVALUATION_BATCH = 256


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _add_train(subparsers)
    _add_evaluate(subparsers)


def _add_train(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a model folder from labelled tweets",
        description="Train a model folder. Killed, the same command goes on from its last checkpoint.",
    )
    parser.add_argument(
        "--recipe", choices=sorted(RECIPES), default="distilbert", help="(default: distilbert)"
    )
    parser.add_argument(
        "--train", type=Path, required=True, metavar="FILE", help=".tsv, .csv or .jsonl: label, text"
    )
    parser.add_argument(
        "--validation", type=Path, required=True, metavar="FILE", help="to choose and calibrate on"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the model goes")
    parser.add_argument("--note", default="", help="for the model card: how the settings were chosen")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER", help="(default: beside --out, named after it)"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=120.0,
        metavar="N",
        help="time between checkpoints (default: 120)",
    )
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
        metavar="URI",
        help="where MLflow keeps the run (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)",
    )
    for recipe, settings in RECIPES.items():
        add_settings(parser.add_argument_group(f"settings of recipe {recipe}"), settings)
    parser.set_defaults(run=_train)


def add_settings(group: argparse._ArgumentGroup, recipe: type[msgspec.Struct]) -> None:
    """Add an option for each setting of a recipe."""
    for field in msgspec.structs.fields(recipe):
        _add_setting(group, field)


def _add_setting(group: argparse._ArgumentGroup, field: msgspec.structs.FieldInfo) -> None:
    meta = next(iter(getattr(field.type, "__metadata__", ())), None)
    help_text = f"{getattr(meta, 'description', '')} (default: {field.default})".strip()
    option = f"--{field.name.replace('_', '-')}"
    try:
        group.add_argument(option, dest=f"setting_{field.name}", metavar="VALUE", help=help_text)
    except argparse.ArgumentError:
        # Both recipes have it; the first one listed shows it.
        return


def _train(options: argparse.Namespace) -> int:
    settings = read_settings(options, RECIPES[options.recipe], options.recipe)
    try:
        from sentiment.training.run import train
    except ImportError as error:
        raise SettingsError(
            "train",
            f"needs the training packages ({error.name} is missing): pip install -r requirements-train.txt",
        ) from error

    checkpoints = options.checkpoints or options.out.parent / f".{options.out.name}-checkpoints"
    record, report = train(
        settings,
        train_file=options.train,
        validation_file=options.validation,
        out=options.out,
        checkpoints=checkpoints,
        checkpoint_seconds=options.checkpoint_seconds,
        tracking_uri=options.tracking_uri,
        now=datetime.now(UTC),
        note=options.note,
        progress=lambda message: print(message, file=sys.stderr, flush=True),
    )
    print(
        f"{record.version} in {options.out}: macro-recall {report.validation.macro_recall:.4f} "
        f"(float32: {report.float_macro_recall:.4f}), expected calibration error "
        f"{report.validation.expected_calibration_error:.4f} "
        f"(before calibration: {report.expected_calibration_error_before:.4f})"
    )
    return 0


def read_settings(options: argparse.Namespace, recipe: type[T], name: str) -> T:
    """Return the settings of a recipe as the options have them.

    Raises:
        SettingsError: a value is malformed, or no setting of this recipe.
    """
    given = {
        name.removeprefix("setting_"): value
        for name, value in vars(options).items()
        if name.startswith("setting_") and value is not None
    }
    known = {field.name for field in msgspec.structs.fields(recipe)}
    for unknown in given.keys() - known:
        raise SettingsError(f"--{unknown.replace('_', '-')}", f"is no setting of recipe {name}")
    try:
        return msgspec.convert(given, type=recipe, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        bad = path.rstrip("`")
        raise SettingsError(f"--{bad.replace('_', '-')}", f"{given[bad]!r}: {message}") from error


def _add_evaluate(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a model folder on labelled tweets",
        description="Judge the file that serves (int8) on labelled tweets.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help=".tsv, .csv or .jsonl: label, text"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the metrics there, as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap interval (default: 0)")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    import numpy as np

    from sentiment.classifier import Classifier
    from sentiment.evaluation.data import read_tweets
    from sentiment.evaluation.metrics import evaluate
    from sentiment.evaluation.rendering import render_text

    tweets = read_tweets(options.data)
    classifier = Classifier.load(options.model)
    started = time.perf_counter()
    parts = [
        classifier.probabilities(tweets.texts[start : start + _EVALUATION_BATCH])
        for start in range(0, len(tweets), _EVALUATION_BATCH)
    ]
    per_second = len(tweets) / (time.perf_counter() - started)
    metrics = evaluate(np.concatenate(parts), tweets.labels, seed=options.seed)
    print(f"{classifier.version} on {options.data}\n")
    print(render_text(metrics))
    print(f"\n{per_second:,.0f} tweets a second")
    if options.json:
        report = {
            "model_version": classifier.version,
            "data": msgspec.to_builtins(tweets.fingerprint),
            "tweets_per_second": per_second,
            "metrics": msgspec.to_builtins(metrics),
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 0
