"""The last step of a cycle: a candidate that passed the gate is published, and may become champion.

In this order, so that it can be repeated after a crash at any line:

    <version>/...               in the registry, only for a candidate that passed
    champion pointer            in the mode direct, while it is the one that was compared
    cycles/<n>/gate.json, .md   what the gate said
    cycles/<n>/outcome.json     how the cycle ended: written once, and nothing after it
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from sentiment.blobs import Blobs
from sentiment.errors import DataError, ModelConflict, ModelNotFound
from sentiment.feedback.messages import iso
from sentiment.manifest import ONNX, WEIGHTS, read_manifest
from sentiment.records import Champion
from sentiment.registry import ChampionPointer, ModelRegistry
from sentiment.retrain.cycles import outcome_name, read_outcome
from sentiment.retrain.preparation import CHAMPION_FOLDER, read_cycle, read_fingerprints
from sentiment.retrain.records import CycleManifest, Outcome
from sentiment.retrain.refusals import reason_of, refusal_of
from sentiment.retrain.state import encode

logger = logging.getLogger(__name__)

BY = "retraining pipeline"

GATE_JSON = "gate.json"
GATE_MD = "gate.md"

Mode = Literal["direct", "github", "devops"]


class GateVerdict(Struct, frozen=True, kw_only=True):
    """What is read of `gate.json`."""

    verdict: Literal["promote", "refuse"]
    reasons: tuple[str, ...]


def read_verdict(folder: Path) -> GateVerdict:
    """Return what the gate said.

    Raises:
        DataError: there is no `gate.json`, or it cannot be read.
    """
    path = folder / GATE_JSON
    try:
        return msgspec.json.decode(path.read_bytes(), type=GateVerdict)
    except OSError as error:
        raise DataError(path, 0, "is missing: this is no folder of 'step gate'") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(path, 0, f"cannot be read: {error}") from error


def publish_candidate(
    *,
    data: Path,
    model: Path,
    gate: Path,
    mode: Mode,
    registry: ModelRegistry,
    blobs: Blobs,
    clock: Callable[[], datetime],
) -> Outcome:
    """Publish what passed the gate, promote it in the mode direct, and write how the cycle ended.

    A cycle that has an outcome keeps it.

    Raises:
        DataError: a folder is unfinished.
        InvalidModel: the model folder does not match its manifest.
        ModelConflict: the registry holds other content under this version.
        StoreUnavailable: storage does not answer, for now.
    """
    # A folder without this one is unfinished.
    read_fingerprints(data)
    cycle = read_cycle(data)
    there = read_outcome(blobs, cycle.cycle)
    if there is not None:
        logger.info("cycle %d has its outcome already: %s", cycle.cycle, there.verdict)
        return there
    record, digest = read_manifest(model)
    outcome = Outcome(
        cycle=cycle.cycle,
        verdict="refused",
        version=record.version,
        sha256=digest,
        champion=cycle.champion,
        reasons=(),
        at="",
    )
    verdict = read_verdict(gate)
    if _promotion(registry, outcome) is not None:
        # By this step, before it was killed; what happened to it since is not undone here.
        outcome = _ended(outcome, "promoted", verdict.reasons)
    else:
        reasons = verdict.reasons or ("the gate gave no reason",) if verdict.verdict == "refuse" else ()
        reasons += _objections(data, model, cycle, blobs)
        outcome = _ended(outcome, "refused", reasons)
        if not reasons:
            registry.publish(model)
            outcome = _ended(outcome, "published", verdict.reasons)
            if mode == "direct":
                outcome = _promote(registry, cycle, outcome)
    blobs.create_container()
    for name in (GATE_JSON, GATE_MD):
        if (gate / name).exists():
            _put(blobs, f"cycles/{cycle.cycle}/{name}", (gate / name).read_bytes())
    outcome = msgspec.structs.replace(outcome, at=iso(clock()))
    if not blobs.create(outcome_name(cycle.cycle), encode(outcome)):
        # Of this step, run twice at once, or of a request that the SDK repeated.
        return read_outcome(blobs, cycle.cycle) or outcome
    return outcome


def _objections(data: Path, model: Path, cycle: CycleManifest, blobs: Blobs) -> tuple[str, ...]:
    """Return what speaks against a candidate whatever the gate says."""
    record, _ = read_manifest(model)
    champion, champion_digest = read_manifest(data / CHAMPION_FOLDER)
    reasons = []
    if champion_digest != cycle.champion_sha256:
        reasons.append(f"the champion in {CHAMPION_FOLDER}/ is not the one that the cycle was started with")
    if record.parent != cycle.champion:
        reasons.append(f"the candidate was made from {record.parent}, and compared with {cycle.champion}")
    if all(record.files[name].sha256 == champion.files[name].sha256 for name in (ONNX, WEIGHTS)):
        reasons.append("the candidate is the champion, to the byte: nothing was learned")
    refusal = refusal_of(blobs, record.version)
    if refusal is not None:
        reasons.append(f"{record.version} was refused for good: {refusal.reason}")
    return tuple(reasons)


def _promote(registry: ModelRegistry, cycle: CycleManifest, outcome: Outcome) -> Outcome:
    changed = "the champion changed meanwhile: what was compared is not what serves"
    version = str(outcome.version)
    found = _pointer(registry)
    compared = (cycle.champion, cycle.champion_sha256)
    if found is None or (found.champion.version, found.champion.sha256) != compared:
        return _ended(outcome, "refused", (changed,))
    reason = reason_of(cycle.cycle, f"passed the gate against {cycle.champion}; {cycle.reason}")
    try:
        registry.promote(version, by=BY, reason=reason, expected=found.etag)
    except ModelConflict:
        return _ended(outcome, "refused", (changed,))
    return _ended(outcome, "promoted", outcome.reasons)


def _promotion(registry: ModelRegistry, outcome: Outcome) -> Champion | None:
    """Return the promotion that this step made before it was killed, if it did."""
    for record in registry.history():
        if (record.version, record.sha256, record.by) == (outcome.version, outcome.sha256, BY):
            return record
    return None


def _pointer(registry: ModelRegistry) -> ChampionPointer | None:
    try:
        return registry.champion()
    except ModelNotFound:
        return None


def _ended(
    outcome: Outcome, verdict: Literal["promoted", "published", "refused"], reasons: tuple[str, ...]
) -> Outcome:
    return msgspec.structs.replace(outcome, verdict=verdict, reasons=reasons)


def _put(blobs: Blobs, name: str, data: bytes) -> None:
    """Write a blob, over what an earlier run of the same cycle left there."""
    while not blobs.create(name, data):
        content = blobs.read(name)
        if content is not None and (content.data == data or blobs.replace(name, data, content.etag)):
            return
