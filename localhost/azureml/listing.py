"""What a person at the terminal reads of the jobs: from the disk, so also while nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from localhost.azureml.records import JobFolders, JobRecord
from localhost.errors import LocalhostError


def describe_jobs(folders: JobFolders) -> Iterator[str]:
    """Yield a line for each job, the oldest first, and its reason where one failed."""
    for job in folders.read():
        done = sum(step.status == "Completed" for step in job.steps.values())
        took = _seconds(job.started_at, job.ended_at)
        yield f"{job.name}  {job.status:<15} {done} of {len(job.steps)} steps  {job.created_at}{took}"
        if job.error is not None:
            yield f"  {job.error}"


def describe_job(folders: JobFolders, name: str) -> Iterator[str]:
    """Yield what one job was given and how each step went.

    Raises:
        LocalhostError: there is no such job.
    """
    job = _find(folders, name)
    yield f"{job.name}: {job.status}{f', {job.error}' if job.error else ''}"
    for key, given in (job.properties.get("inputs") or {}).items():
        yield f"  {key} = {given.get('value', given.get('uri'))}"
    for key, step in job.steps.items():
        again = f"  started {step.runs} times" if step.runs > 1 else ""
        yield f"  {key:<20} {step.status:<11}{_seconds(step.started_at, step.ended_at)}{again}".rstrip()
    yield f"Everything of it: {folders.of(name)}"


def read_log(folders: JobFolders, name: str, step: str) -> str:
    """Return what a step wrote so far.

    Raises:
        LocalhostError: there is no such job or step, or it has not begun.
    """
    job = _find(folders, name)
    if step not in job.steps:
        raise LocalhostError(f"{name} has no step {step}: there are {', '.join(job.steps)}")
    log = folders.log(name, step)
    if not log.exists():
        raise LocalhostError(f"step {step} of {name} has not begun")
    return log.read_text(encoding="utf-8", errors="replace")


def _find(folders: JobFolders, name: str) -> JobRecord:
    for job in folders.read():
        if job.name == name:
            return job
    raise LocalhostError(f"there is no job {name}: `python -m localhost jobs` lists them")


def _seconds(begin: str | None, end: str | None) -> str:
    if begin is None or end is None:
        return ""
    return f"  {(datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds():.0f} s"
