"""``step``: the steps of the retraining pipeline, folders and files in and out; each also runs by hand."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sentiment.commands import judging, relearning
from sentiment.errors import SettingsError

if TYPE_CHECKING:
    from sentiment.services import Services

_MODES = ("direct", "github", "devops")
#: Options -> the settings that they stand for: on a cluster there is no app's environment.
_SETTINGS = {
    "storage_account": "AzureWebJobsStorage__accountName",
    "model_container": "MODEL_CONTAINER",
    "retrain_container": "RETRAIN_CONTAINER",
}
_TRACKING = "MLFLOW_TRACKING_URI"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "step",
        help="one step of the retraining pipeline",
        description="The steps of the retraining pipeline, in their order; each can be repeated.",
    )
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)
    _add_prepare(steps)
    relearning.add_train(steps)
    judging.add_evaluate(steps)
    judging.add_gate(steps)
    _add_register(steps)
    _add_publish(steps)


def _add_prepare(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = steps.add_parser("prepare", help="the data of a cycle, and the champion, in one folder")
    parser.add_argument("--cycle", type=int, required=True, metavar="N")
    for name, what in (
        ("base", "base training set"),
        ("validation", "to calibrate and choose on"),
        ("golden", "what the gate judges on"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, required=True, metavar="FILE", help=f"{what}: .tsv, .csv or .jsonl"
        )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    _add_account(parser)
    parser.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    from sentiment.retrain.cycles import read_manifest as read_cycle_manifest
    from sentiment.retrain.preparation import prepare

    services = _services(options)
    try:
        written = prepare(
            read_cycle_manifest(services.retrain_blobs, options.cycle),
            corrections=services.correction_reader,
            registry=services.registry,
            samples=services.samples.all(),
            base=options.base,
            validation=options.validation,
            golden=options.golden,
            out=options.out,
        )
    finally:
        services.close()
    for name, file in written.files.items():
        print(f"{name:<16} {sum(file.rows.values()):>7,} rows  {file.sha256[:12]}")
    for why, count in sorted(written.removed.items()):
        if count:
            print(f"left out: {count:,} {why}")
    return 0


def _add_register(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = steps.add_parser("register", help="enter the candidate in MLflow's model registry")
    _add_folders(parser)
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="(default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)",
    )
    parser.add_argument("--name", metavar="NAME", help="of the registered model (default: sentiment)")
    parser.add_argument(
        "--mode", choices=_MODES, default="direct", help="who promotes: only in direct does this set champion"
    )
    parser.set_defaults(run=_register)


def _register(options: argparse.Namespace) -> int:
    from sentiment.manifest import read_manifest
    from sentiment.retrain.preparation import read_cycle, read_fingerprints
    from sentiment.retrain.publication import read_verdict

    try:
        from sentiment.training.registration import MODEL_NAME, mark, register
    except ImportError as error:
        raise SettingsError(
            "step register",
            f"needs the training packages ({error.name} is missing): pip install -r requirements-train.txt",
        ) from error

    cycle, data = read_cycle(options.data), read_fingerprints(options.data)
    record, digest = read_manifest(options.model)
    verdict = read_verdict(options.gate)
    uri = options.tracking_uri or os.environ.get(_TRACKING) or "sqlite:///mlflow.db"
    name = options.name or MODEL_NAME
    tags = {
        "version": record.version,
        "cycle": str(cycle.cycle),
        "parent": str(record.parent),
        "champion": cycle.champion,
        "champion_sha256": cycle.champion_sha256,
        "gate": verdict.verdict,
        "gate_reasons": "; ".join(verdict.reasons)[:_LONGEST_TAG],
        "job": os.environ.get("AZUREML_RUN_ID", ""),
        **{f"{file}_sha256": fingerprint.sha256 for file, fingerprint in data.files.items()},
    }
    tags = {key: value for key, value in tags.items() if value}
    number = register(options.model, digest, tags, tracking_uri=uri, name=name)
    alias = "candidate"
    if verdict.verdict == "refuse":
        alias = "rejected"
        mark(digest, "rejected", tracking_uri=uri, name=name)
    elif options.mode == "direct":
        alias = "champion"
        mark(digest, "champion", tracking_uri=uri, name=name)
    print(f"{record.version} is version {number} of the registered model {name}: {alias}")
    return 0


#: MLflow keeps tags of 5,000 bytes.
_LONGEST_TAG = 1_000


def _add_publish(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = steps.add_parser("publish", help="upload a candidate that passed; in direct mode, promote it")
    _add_folders(parser)
    parser.add_argument("--mode", choices=_MODES, required=True, help="who moves the champion pointer")
    _add_account(parser)
    parser.set_defaults(run=_publish)


def _publish(options: argparse.Namespace) -> int:
    from sentiment.retrain.publication import publish_candidate

    services = _services(options)
    try:
        outcome = publish_candidate(
            data=options.data,
            model=options.model,
            gate=options.gate,
            mode=options.mode,
            registry=services.registry,
            blobs=services.retrain_blobs,
            clock=lambda: datetime.now(UTC),
        )
    finally:
        services.close()
    print(f"cycle {outcome.cycle}: {outcome.version} {outcome.verdict}", *outcome.reasons, sep="\n  ")
    return 0


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of step prepare")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="of step train")
    parser.add_argument("--gate", type=Path, required=True, metavar="FOLDER", help="of step gate")


def _add_account(parser: argparse.ArgumentParser) -> None:
    for option, setting in _SETTINGS.items():
        parser.add_argument(f"--{option.replace('_', '-')}", metavar="NAME", help=f"sets {setting}")


def _services(options: argparse.Namespace) -> Services:
    from sentiment.services import Services
    from sentiment.settings import Settings

    given = {setting: getattr(options, option) for option, setting in _SETTINGS.items()}
    environ = {**os.environ, **{setting: value for setting, value in given.items() if value}}
    return Services(Settings.from_env(environ))
