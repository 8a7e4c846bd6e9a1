"""``behaviour``, and the steps ``evaluate`` and ``gate`` of a retraining cycle."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sentiment import manifest
from sentiment.commands.predict import SEED_MODEL
from sentiment.errors import DataError, SettingsError
from sentiment.evaluation.gate_records import GatePolicy
from sentiment.records import Label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sentiment.classifier import Classifier
    from sentiment.evaluation.behaviour import Failures
    from sentiment.evaluation.prediction_files import HeldoutSet, Latency, PredictionFile

#: Texts that latency is measured on, one by one.
LATENCY_TEXTS = 200

_BATCH = 256
_WARM_UP = 20


class _Cycle(Struct, frozen=True):
    """What weighting needs of `cycle.json`."""

    cycle: int
    predictions: dict[Label, int] = {}


# --- behaviour --------------------------------------------------------------


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``behaviour`` to the commands."""
    parser = subparsers.add_parser(
        "behaviour",
        help="run the behaviour suite on a model folder",
        description="Run the behaviour suite (minimum functionality MFT, invariance INV, directional "
        "expectation DIR) on the file that serves: failure rates by capability, with examples.",
    )
    parser.add_argument(
        "--model", type=Path, default=SEED_MODEL, metavar="FOLDER", help="(default: seed-model)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write every failed case there, as JSON"
    )
    parser.add_argument(
        "--examples", type=int, default=2, metavar="N", help="failed cases to show of each (default: 2)"
    )
    parser.set_defaults(run=_behaviour)


def _behaviour(options: argparse.Namespace) -> int:
    from sentiment.classifier import Classifier
    from sentiment.evaluation import behaviour
    from sentiment.evaluation.rendering import align

    classifier = Classifier.load(options.model)
    results = behaviour.failures(_probabilities(classifier, behaviour.texts()))
    rows = [("capability", "kind", "cases", "failed", "rate")]
    rows += [
        (each.capability, each.kind, f"{each.cases:,}", f"{len(each.failed):,}", f"{each.rate:.1%}")
        for each in results
    ]
    cases, failed = sum(each.cases for each in results), sum(len(each.failed) for each in results)
    rows.append(("all", "", f"{cases:,}", f"{failed:,}", f"{failed / cases:.1%}"))
    print("\n".join(align(rows)))
    for each in results:
        for line in _failing(each, options.examples):
            print(line)
    if options.json:
        report = {
            "model_version": classifier.version,
            "suite": behaviour.fingerprint(),
            "results": [{**msgspec.structs.asdict(each), "rate": each.rate} for each in results],
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 0


def _failing(results: Failures, count: int) -> list[str]:
    """Return a few failed cases, spread over the templates they come from."""
    if not results.failed or count < 1:
        return []
    step = max(1, len(results.failed) // count)
    lines = ["", f"{results.capability}, {results.kind}:"]
    for case in results.failed[::step][:count]:
        if case.kind == "MFT":
            expected = f"is {' or '.join(case.allowed)}"
        elif case.kind == "INV":
            expected = "all have one label"
        else:
            expected = f"{case.rises} does not fall" if case.rises else f"{case.falls} does not rise"
        lines.append(f"  {' | '.join(case.texts)}  ({expected})")
    return lines


# --- step evaluate ----------------------------------------------------------


def add_evaluate(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evaluate`` to the steps of a cycle."""
    parser = steps.add_parser(
        "evaluate",
        help="write down what a model says of everything the gate judges by",
        description="Run the file that serves (int8) on the golden set, the held-out corrections and the "
        "behaviour suite, and measure its latency.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="written by step prepare")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="predictions.json")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from sentiment.evaluation.prediction_files import write_predictions

    predictions = predict_all(options.model, options.data)
    write_predictions(options.out, predictions)
    heldout = predictions.heldout.texts if predictions.heldout is not None else ()
    print(
        f"{predictions.model.version}: {len(predictions.golden.texts):,} golden tweets, "
        f"{len(heldout):,} held-out corrections, "
        f"median {predictions.latency.p50_ms:.2f} ms of one core a tweet"
    )
    return 0


def predict_all(model: Path, data: Path) -> PredictionFile:
    """Return what the model folder says of everything that the gate judges by.

    `data` is the folder that `step prepare` has written: `golden.tsv`,
    `heldout.jsonl`, `feedback.jsonl` and `cycle.json`.

    Raises:
        InvalidModel: the model cannot be loaded.
        DataError: a file cannot be used.
    """
    import numpy as np

    from sentiment.classifier import Classifier
    from sentiment.evaluation import behaviour
    from sentiment.evaluation.data import read_tweets
    from sentiment.evaluation.prediction_files import (
        BehaviourSet,
        ModelIdentity,
        PredictionFile,
        PredictionSet,
    )

    record, sha256 = manifest.read_manifest(model)
    classifier = Classifier.load(model)
    golden = read_tweets(data / "golden.tsv")
    return PredictionFile(
        model=ModelIdentity(record.version, sha256),
        golden=PredictionSet(
            fingerprint=golden.fingerprint,
            texts=golden.texts,
            labels=golden.labels,
            weights=np.ones(len(golden)),
            probabilities=_probabilities(classifier, golden.texts),
        ),
        heldout=_heldout(classifier, data),
        behaviour=BehaviourSet(
            fingerprint=behaviour.fingerprint(),
            texts=behaviour.texts(),
            probabilities=_probabilities(classifier, behaviour.texts()),
        ),
        latency=_latency(model, golden.texts),
    )


def _probabilities(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float64]:
    import numpy as np

    parts = [
        classifier.probabilities(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)
    ]
    return np.concatenate([np.empty((0, 3)), *parts]).astype(np.float64)


def _heldout(classifier: Classifier, data: Path) -> HeldoutSet:
    """Return what the model says of held-out corrections, weighted by this cycle's counts.

    How many right answers a confirmation stands for is measured on this cycle, the
    only one that was counted, and taken to hold for the rows of all.
    """
    import numpy as np

    from sentiment.evaluation.feedback_rows import read_feedback
    from sentiment.evaluation.prediction_files import HeldoutSet
    from sentiment.evaluation.traffic import confirmation_weights, heldout_weights

    heldout, feedback = read_feedback(data / "heldout.jsonl"), read_feedback(data / "feedback.jsonl")
    cycle = _decode(data / "cycle.json", _Cycle)
    weights = np.ones(len(heldout.texts))
    if cycle.predictions:
        predicted, errors = [], []
        for rows in (heldout, feedback):
            here = rows.cycles == cycle.cycle
            predicted.append(rows.predicted[here])
            errors.append(rows.errors[here])
        # Not capped: fewer, heavier rows widen the intervals, a cap would move them.
        per_class = confirmation_weights(
            np.concatenate(predicted), np.concatenate(errors), cycle.predictions, cap=math.inf
        )
        weights = heldout_weights(
            heldout.predicted, heldout.errors, feedback.predicted, feedback.errors, per_class
        )
    return HeldoutSet(
        fingerprint=heldout.fingerprint,
        texts=heldout.texts,
        labels=heldout.labels,
        weights=weights,
        probabilities=_probabilities(classifier, heldout.texts),
        kinds=heldout.kinds,
        predicted=heldout.predicted,
        counted=bool(cycle.predictions),
    )


def _decode(path: Path, type: type[_Cycle]) -> _Cycle:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(path, 0, f"is no record of a cycle: {error}") from error


def _latency(model: Path, texts: Sequence[str]) -> Latency:
    """Return how long a text takes that comes alone, on one core, over the first golden texts.

    Processor time, not the clock's: whatever else runs on the machine of the
    pipeline would count against one model and not the other.
    """
    import numpy as np

    from sentiment.classifier import Classifier
    from sentiment.evaluation.prediction_files import Latency

    classifier = Classifier.load(model, threads=1)
    measured = texts[:LATENCY_TEXTS]
    classifier.probabilities(measured[:_WARM_UP])
    milliseconds = []
    for text in measured:
        started = time.process_time()
        classifier.probabilities([text])
        milliseconds.append((time.process_time() - started) * 1000.0)
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return Latency(p50_ms=float(p50), p99_ms=float(p99), texts=len(measured))


# --- step gate --------------------------------------------------------------


def add_gate(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``gate`` to the steps of a cycle."""
    parser = steps.add_parser(
        "gate",
        help="judge whether a candidate may take the champion's place",
        description="Compare two files that step evaluate has written. Writes gate.json and gate.md; the "
        "exit code is 0 also when the candidate is refused.",
    )
    for name in ("champion", "candidate"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help="predictions.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    group = parser.add_argument_group("what the gate holds")
    for field in msgspec.structs.fields(GatePolicy):
        meta = next(iter(getattr(field.type, "__metadata__", ())), None)
        words = f"{getattr(meta, 'description', None) or ''} (default: {field.default})".strip()
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=f"policy_{field.name}",
            metavar="VALUE",
            help=words.replace("%", "%%"),
        )
    parser.set_defaults(run=_gate)


def _gate(options: argparse.Namespace) -> int:
    from sentiment.evaluation.gate import decide, refuse
    from sentiment.evaluation.gate_records import Check
    from sentiment.evaluation.gate_report import render_gate
    from sentiment.evaluation.prediction_files import read_predictions

    policy = _policy(options)
    files: dict[str, PredictionFile] = {}
    trouble = None
    for name in ("champion", "candidate"):
        path = getattr(options, name)
        try:
            files[name] = read_predictions(path)
        except DataError as error:
            if not path.is_file():
                raise
            # A file that is there and says nothing usable is a model that cannot be judged.
            trouble = trouble or Check(name="readable", passed=False, detail=f"{name}: {error}")
    if trouble is not None:
        report = refuse(trouble, files.get("champion"), files.get("candidate"), policy, seed=options.seed)
    else:
        report = decide(files["champion"], files["candidate"], policy, seed=options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gate.md").write_text(render_gate(report), encoding="utf-8")
    # Last: whoever finds it finds both.
    (options.out / "gate.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    )
    print(report.verdict, *report.reasons, sep="\n  ")
    return 0


def _policy(options: argparse.Namespace) -> GatePolicy:
    given: dict[str, Any] = {
        name.removeprefix("policy_"): value
        for name, value in vars(options).items()
        if name.startswith("policy_") and value is not None
    }
    try:
        return msgspec.convert(given, type=GatePolicy, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        raise SettingsError(f"--{name.replace('_', '-')}", f"{given[name]!r}: {message}") from error
