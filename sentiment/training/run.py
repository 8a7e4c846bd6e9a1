"""One training run from files to a model folder: what the command line calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from sentiment.errors import DataError
from sentiment.evaluation.data import LabelledTweets, read_tweets
from sentiment.manifest import MANIFEST, read_manifest
from sentiment.records import LABELS, Manifest
from sentiment.training.export import ExportReport, Trained, export
from sentiment.training.finetune import fine_tune
from sentiment.training.linear import fit_linear
from sentiment.training.recipes import FineTuning, LinearProbe
from sentiment.training.tracking import Run, open_run


def train(
    settings: FineTuning | LinearProbe,
    *,
    train_file: Path,
    validation_file: Path,
    out: Path,
    checkpoints: Path,
    checkpoint_seconds: float,
    tracking_uri: str,
    now: datetime,
    note: str = "",
    progress: Callable[[str], None],
) -> tuple[Manifest, ExportReport]:
    """Train on one file, choose on another, write the model folder `out`.

    Killed at any moment, the same call goes on where the last checkpoint was
    taken; once `out` is written, the checkpoints are removed.

    Raises:
        DataError: a file cannot be used, `out` is not empty, or the checkpoints
            are of another run.
        SettingsError: the base cannot be found.
        ExportError: the exported file lost too much against the trained model.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(out, 0, "exists and is not empty: name another folder, or remove it first")
    tweets, validation = read_tweets(train_file), read_tweets(validation_file)
    for path, data in ((train_file, tweets), (validation_file, validation)):
        if missing := [label for label in LABELS if not data.fingerprint.rows[label]]:
            raise DataError(
                path, 0, f"has no {' and no '.join(missing)} tweets: a model needs examples of every class"
            )
    progress(f"training on {len(tweets):,} tweets, validating on {len(validation):,}")
    with open_run(tracking_uri, out.name, checkpoints / "mlflow-run") as run:
        run.log_settings(msgspec.to_builtins(settings) | {"train": tweets.fingerprint.name})
        trained = _fit(settings, tweets, validation, checkpoints, checkpoint_seconds, run)
        record, report = export(
            trained,
            {"train": tweets.fingerprint},
            validation,
            out,
            now=now,
            note=note,
            progress=progress,
        )
        run.log_metrics(
            {
                "served_macro_recall": report.validation.macro_recall,
                "served_accuracy": report.validation.accuracy,
                "served_expected_calibration_error": report.validation.expected_calibration_error,
                "temperature": report.temperature,
            },
            0,
        )
        run.log_model(out, {"version": record.version, "train_sha256": tweets.fingerprint.sha256})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record, report


def _fit(
    settings: FineTuning | LinearProbe,
    tweets: LabelledTweets,
    validation: LabelledTweets,
    checkpoints: Path,
    checkpoint_seconds: float,
    run: Run,
) -> Trained:
    described: dict[str, Any] = msgspec.to_builtins(settings)
    if isinstance(settings, LinearProbe):
        pooled, tokenizer = fit_linear(tweets, settings, report=run.log_metrics)
        return Trained(
            recipe="linear",
            settings=described,
            model=pooled,
            tokenizer=tokenizer,
            # A model type of its own: transformers would otherwise load it as a DistilBERT
            # with a head of random numbers.
            config=labelled(pooled.distilbert.config.to_dict())
            | {"architectures": ["MeanPooledClassifier"], "model_type": "mean_pooled_distilbert"},
            parent=_parent(settings.base),
        )
    model, tokenizer = fine_tune(
        tweets,
        validation,
        settings,
        checkpoints=checkpoints,
        checkpoint_seconds=checkpoint_seconds,
        report=run.log_metrics,
    )
    return Trained(
        recipe="distilbert",
        settings=described,
        model=model,
        tokenizer=tokenizer,
        config=labelled(model.config.to_dict()) | {"architectures": ["DistilBertForSequenceClassification"]},
        parent=_parent(settings.base),
    )


def labelled(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in config.items() if value is not None and not name.startswith("_")
    } | {
        "id2label": {str(position): label for position, label in enumerate(LABELS)},
        "label2id": {label: position for position, label in enumerate(LABELS)},
    }


def _parent(base: str) -> str | None:
    """Return the version of the model that training started from, if it was one of ours."""
    folder = Path(base)
    return read_manifest(folder)[0].version if (folder / MANIFEST).exists() else None
