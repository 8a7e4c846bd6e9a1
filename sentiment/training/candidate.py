"""From the prepared data of a cycle to a candidate: what `step train` runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import msgspec

from sentiment.errors import DataError, InvalidModel
from sentiment.evaluation.data import read_tweets
from sentiment.evaluation.feedback_rows import read_feedback
from sentiment.manifest import CONFIG, read_manifest, verify
from sentiment.records import LABELS, Label, Manifest
from sentiment.training.distributed import joined
from sentiment.training.export import ExportReport, Trained, export
from sentiment.training.mixture import mix, trained_share
from sentiment.training.recipes import Relearning, members_of
from sentiment.training.relearn import relearn
from sentiment.training.run import labelled
from sentiment.training.tracking import Run, open_run

ARCHITECTURE = "DistilBertForSequenceClassification"

#: The folders and files that `step prepare` writes, as far as training needs them.
CHAMPION, BASE, VALIDATION = "champion", "base.tsv", "validation.tsv"
FEEDBACK, HELD_OUT = "feedback.jsonl", "heldout.jsonl"


def train_candidate(
    settings: Relearning,
    *,
    data: Path,
    predictions: Mapping[Label, int],
    out: Path,
    checkpoints: Path,
    checkpoint_seconds: float,
    tracking_uri: str,
    now: datetime,
    progress: Callable[[str], None],
) -> tuple[Manifest, ExportReport] | None:
    """Fine-tune the champion in `data` on the feedback there; write the model folder `out`.

    Killed at any moment, the same call goes on where the last checkpoint was taken;
    once `out` is written, the checkpoints are removed. Run as one of several
    processes, all train and the first writes; the others return None.

    Raises:
        DataError: a file cannot be used, there is no feedback, or `out` is not empty.
        InvalidModel: the champion's folder is altered or incomplete, or no classifier
            that can go on learning.
        ExportError: the exported file lost too much against the trained model.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(out, 0, "exists and is not empty: name another folder, or remove it first")
    champion = data / CHAMPION
    parent, _ = read_manifest(champion)
    verify(champion, parent)
    _check_architecture(champion)
    feedback = read_feedback(data / FEEDBACK)
    if not feedback.texts:
        raise DataError(data / FEEDBACK, 0, "has no rows: there is nothing to learn")
    base, validation = read_tweets(data / BASE), read_tweets(data / VALIDATION)
    for path, tweets in ((data / BASE, base), (data / VALIDATION, validation)):
        if missing := [label for label in LABELS if not tweets.fingerprint.rows[label]]:
            raise DataError(path, 0, f"has no {' and no '.join(missing)} tweets")
    counted = trained_share(feedback, read_feedback(data / HELD_OUT), predictions)
    mixtures = [mix(feedback, base, counted, member) for member in members_of(settings)]
    with joined() as group:
        if group.leads:
            progress(
                f"{parent.version} learns from {len(feedback.texts):,} rows of feedback, "
                f"{int(feedback.errors.sum()):,} of them errors, and {min(settings.replay, len(base)):,} "
                f"of {len(base):,} base tweets"
            )
        opened = (
            open_run(tracking_uri, out.name, checkpoints / "mlflow-run") if group.leads else nullcontext()
        )
        with opened as run:
            model, tokenizer = relearn(
                mixtures,
                champion,
                settings,
                group=group,
                checkpoints=checkpoints,
                checkpoint_seconds=checkpoint_seconds,
                report=run.log_metrics if isinstance(run, Run) else lambda metrics, step: None,
            )
            if not isinstance(run, Run):
                return None
            run.log_settings(msgspec.to_builtins(settings) | {"parent": parent.version})
            trained = Trained(
                recipe="relearn",
                settings=msgspec.to_builtins(settings),
                model=model,
                tokenizer=tokenizer,
                config=labelled(model.config.to_dict()) | {"architectures": [ARCHITECTURE]},
                parent=parent.version,
            )
            record, report = export(
                trained,
                {"feedback": feedback.fingerprint, "base": base.fingerprint},
                validation,
                out,
                now=now,
                progress=progress,
            )
            run.log_metrics({"served_macro_recall": report.validation.macro_recall}, 0)
            run.log_model(out, {"version": record.version, "parent": parent.version})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record, report


def _check_architecture(champion: Path) -> None:
    """Refuse what would be loaded with a head of random numbers."""
    config = msgspec.json.decode((champion / CONFIG).read_bytes())
    if config.get("architectures") != [ARCHITECTURE]:
        raise InvalidModel(
            champion, CONFIG, f"is of no {ARCHITECTURE}: only what recipe distilbert has trained learns on"
        )
