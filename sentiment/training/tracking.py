"""Training runs in MLflow: settings, curves, and the resulting model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Progress of MLflow's own uploads would tear our progress bar.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.exceptions import MlflowException

EXPERIMENT = "tweet-sentiment"

#: Called with (metrics by name, step) while training goes on.
Report = Callable[[dict[str, float], int], None]


class Run:
    """One MLflow run, as far as training needs it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record points of the curves."""
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Record the settings."""
        mlflow.log_params(dict(settings))

    def log_model(self, folder: Path, tags: Mapping[str, str]) -> None:
        """Keep a copy of the model folder: `mlflow.onnx.load_model("runs:/<run>/model")` reads it."""
        mlflow.set_tags(dict(tags))
        mlflow.log_artifacts(str(folder), "model")


@contextmanager
def open_run(tracking_uri: str, name: str, resume: Path) -> Iterator[Run]:
    """Start a run, or go on with the one whose id is in the file `resume` (written here, removed at the end).

    A run that raises is marked as failed; one that is killed stays open and goes on.
    """
    mlflow.set_tracking_uri(tracking_uri)
    choose_experiment()
    with mlflow.start_run(run_id=_unfinished(resume), run_name=name) as active:
        resume.parent.mkdir(parents=True, exist_ok=True)
        resume.write_text(active.info.run_id, encoding="utf-8")
        yield Run(active.info.run_id)
    resume.unlink(missing_ok=True)


def choose_experiment() -> None:
    """Have runs kept in our experiment, unless the run is there already.

    Azure ML makes one for each job, in the job's experiment; MLflow refuses to go on
    with it from another.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        mlflow.set_experiment(EXPERIMENT)


def _unfinished(resume: Path) -> str | None:
    try:
        run_id = resume.read_text(encoding="utf-8").strip()
        mlflow.get_run(run_id)
    except (FileNotFoundError, MlflowException):
        # No earlier run, or its database is gone: this is a new one.
        return None
    return run_id
