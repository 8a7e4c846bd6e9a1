"""Jobs as they are kept on disk: `jobs/<name>/job.json`, beside the folders of the steps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from localhost.errors import LocalhostError

JobStatus = Literal["Queued", "Running", "CancelRequested", "Completed", "Failed", "Canceled"]
StepStatus = Literal["NotStarted", "Running", "Completed", "Failed", "Canceled"]

FINAL: tuple[JobStatus, ...] = ("Completed", "Failed", "Canceled")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")


class StepRecord(Struct, frozen=True):
    """How far one step is; `runs` counts how often it was started."""

    status: StepStatus = "NotStarted"
    started_at: str | None = None
    ended_at: str | None = None
    runs: int = 0


class JobRecord(Struct, frozen=True, kw_only=True):
    """One job; `number` counts them in the order in which they came."""

    name: str
    number: int
    #: What was PUT.
    properties: dict[str, Any]
    created_at: str
    status: JobStatus = "Queued"
    started_at: str | None = None
    ended_at: str | None = None
    error: str | None = None
    steps: dict[str, StepRecord] = {}

    @property
    def final(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in FINAL


class JobFolders:
    """The folder of all jobs; every write is there entirely or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, name: str) -> Path:
        """Return the folder of one job."""
        return self.folder / name

    def log(self, name: str, step: str) -> Path:
        """Return the file of what a step wrote."""
        return self.of(name) / "logs" / f"{step}.txt"

    def write(self, job: JobRecord) -> None:
        """Keep `job` as it now is."""
        folder = self.of(job.name)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "job.json.unfinished"
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=2))
        os.replace(unfinished, folder / "job.json")

    def read(self) -> list[JobRecord]:
        """Return all jobs, the oldest first.

        Raises:
            LocalhostError: a job's file is damaged.
        """
        return sorted(self._read(), key=lambda job: job.number)

    def _read(self) -> Iterator[JobRecord]:
        for path in self.folder.glob("*/job.json"):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=JobRecord)
            except msgspec.DecodeError as error:
                raise LocalhostError(f"{path} is damaged: remove {path.parent}") from error


def is_job_name(name: str) -> bool:
    """Return whether Azure ML would take `name`; no other can leave the folder of jobs."""
    return _NAME.fullmatch(name) is not None


def now() -> str:
    """Return this moment, as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
