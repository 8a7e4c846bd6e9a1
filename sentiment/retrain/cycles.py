"""The files of a cycle: its manifest, which names its job, and what its job left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from itertools import count

from msgspec.structs import replace

from sentiment.blobs import Blobs
from sentiment.errors import DamagedRecord
from sentiment.retrain.records import CycleManifest, Outcome
from sentiment.retrain.state import decode, encode


def manifest_name(cycle: int) -> str:
    return f"cycles/{cycle}/manifest.json"


def outcome_name(cycle: int) -> str:
    return f"cycles/{cycle}/outcome.json"


def job_name(cycle: int, manifest: bytes) -> str:
    """Return the name of a cycle's job: what another manifest would start has another name."""
    return f"sentiment-retrain-{cycle:05d}-{hashlib.sha256(manifest).hexdigest()[:12]}"


def write_manifest(blobs: Blobs, manifest: CycleManifest) -> tuple[int, str]:
    """Write a manifest under the first number from its own that is free; return it and the job's name.

    A number whose manifest was written by a tick that died before it could say so
    stays used: what it lists may not be what there is to learn now.
    """
    for cycle in count(manifest.cycle):
        data = encode(replace(manifest, cycle=cycle))
        if not blobs.create(manifest_name(cycle), data):
            # The SDK repeats a request whose answer was lost, and then meets its own work.
            content = blobs.read(manifest_name(cycle))
            if content is None or content.data != data:
                continue
        return cycle, job_name(cycle, data)
    raise AssertionError("numbers do not end")


def read_manifest(blobs: Blobs, cycle: int) -> CycleManifest:
    """Return the manifest of a cycle.

    Raises:
        DamagedRecord: it is gone or cannot be read.
    """
    name = manifest_name(cycle)
    content = blobs.read(name)
    if content is None:
        raise DamagedRecord(name, "is gone: without it nobody knows what this cycle has learned from")
    return decode(content.data, CycleManifest, name)


def said_since(blobs: Blobs, cycle: int, ids: Set[str]) -> str:
    """Return since when the corrections `ids` were made: when the last cycle without any of them started.

    A cycle that failed, was refused or was rolled back has given its corrections
    back, so they are in a later one again. From `cycle` back to the first; empty:
    since ever.

    Raises:
        DamagedRecord: a manifest is gone or cannot be read.
    """
    for number in range(cycle, 0, -1):
        manifest = read_manifest(blobs, number)
        if ids.isdisjoint((*manifest.errors, *manifest.duplicates, *manifest.confirmations)):
            return manifest.created_at
    return ""


def read_outcome(blobs: Blobs, cycle: int) -> Outcome | None:
    """Return how the pipeline of a cycle ended, None where it has not said so.

    Raises:
        DamagedRecord: it cannot be read, or is that of another cycle.
    """
    name = outcome_name(cycle)
    content = blobs.read(name)
    if content is None:
        return None
    outcome = decode(content.data, Outcome, name)
    if outcome.cycle != cycle:
        raise DamagedRecord(name, f"is the outcome of cycle {outcome.cycle}")
    if outcome.verdict != "refused" and outcome.version is None:
        raise DamagedRecord(name, f"says {outcome.verdict}, and not which version")
    return outcome
