"""Runs the jobs: one at a time, step after step, each step's own command in a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import msgspec

from localhost.azureml.definitions import DATA_TYPES, FromParent, FromStep, Pipeline, Step, read_pipeline
from localhost.azureml.processes import StepProcess, end_orphan
from localhost.azureml.records import JobFolders, JobRecord, StepRecord, now
from localhost.errors import LocalhostError

logger = logging.getLogger(__name__)

_LAST_WORDS = 4000


class Conflict(Exception):
    """A job of this name was put before, with another body."""


class Runner:
    """The jobs of one folder; a context in which they run. Safe to share between threads.

    A job that ran when a runner before this one was killed goes on with the step it was
    in: that step is started again, after its process of before has been ended.
    """

    def __init__(
        self,
        folder: Path,
        definition: Path,
        environ: Mapping[str, str],
        fetch: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Run the pipeline in the file `definition`, its steps in the folder above that of the file.

        `environ` is read when a step starts; `fetch` is called for each data file that is
        not there when a job begins, and may make it.
        """
        self.folders = JobFolders(folder)
        self._definition = definition
        self._environ = environ
        self._fetch = fetch
        self._changed = threading.Condition()
        self._jobs: dict[str, JobRecord] = {}
        self._running: StepProcess | None = None
        self._running_job = ""
        self._stopping = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._jobs = {job.name: job for job in self.folders.read()}
        for job in [job for job in self._jobs.values() if not job.final]:
            for step, record in job.steps.items():
                if record.status == "Running" and end_orphan(self.folders.of(job.name) / step):
                    logger.warning("step %s of %s still ran without its server: ended", step, job.name)
            if job.status == "CancelRequested":
                self._end(job, "Canceled")
        self._thread = threading.Thread(target=self._work, name="azureml", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            running = self._running
        if running is not None:
            running.kill()
        if self._thread is not None:
            self._thread.join()

    def find(self, name: str) -> JobRecord | None:
        """Return a job as it is now, None where there is none."""
        with self._changed:
            return self._jobs.get(name)

    def list(self) -> list[JobRecord]:
        """Return all jobs, the newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: -job.number)

    def put(self, name: str, properties: dict[str, Any]) -> tuple[JobRecord, bool]:
        """Take a job, to run it when its turn comes; return it and whether it is new.

        Raises:
            Conflict: there is one of this name with other properties.
            LocalhostError: the pipeline is another, or its inputs are not as it wants them.
        """
        with self._changed:
            known = self._jobs.get(name)
            if known is not None:
                if known.properties != properties:
                    raise Conflict
                return known, False
        pipeline = read_pipeline(self._definition)
        _check(pipeline, properties)
        with self._changed:
            if name in self._jobs:  # came twice at once
                return self._jobs[name], False
            job = JobRecord(
                name=name,
                number=1 + max((each.number for each in self._jobs.values()), default=0),
                properties=properties,
                created_at=now(),
                steps={step.name: StepRecord() for step in pipeline.steps},
            )
            self._keep(job)
            self._changed.notify_all()
            return job, True

    def cancel(self, name: str) -> JobRecord | None:
        """Ask a job to end and return it, None where there is none; one that has ended stays as it is."""
        with self._changed:
            job = self._jobs.get(name)
            if job is None or job.final:
                return job
            if self._running_job != name:
                return self._end(job, "Canceled")
            job = self._keep(msgspec.structs.replace(job, status="CancelRequested"))
            running = self._running
        if running is not None:
            running.kill()
        return job

    # --- in the thread ---------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._changed.wait_for(self._next_or_stop)
                if self._stopping or not isinstance(job, JobRecord):
                    return
                self._running_job = job.name
                job = self._keep(
                    msgspec.structs.replace(job, status="Running", started_at=job.started_at or now())
                )
            try:
                self._run(job)
            except LocalhostError as error:
                self._end(self._jobs[job.name], "Failed", str(error))
            except Exception as error:
                logger.exception("the job %s ended unexpectedly", job.name)
                self._end(self._jobs[job.name], "Failed", f"{type(error).__name__}: {error}")
            finally:
                with self._changed:
                    self._running, self._running_job = None, ""

    def _next_or_stop(self) -> JobRecord | bool:
        if self._stopping:
            return True
        waiting = [job for job in self._jobs.values() if not job.final]
        return min(waiting, key=lambda job: job.number) if waiting else False

    def _run(self, job: JobRecord) -> None:
        pipeline = read_pipeline(self._definition)
        given = _check(pipeline, job.properties)
        values: dict[str, str] = {}
        for name, declared in pipeline.inputs.items():
            if name in given:
                values[name] = (
                    str(self._data(name, given[name])) if declared.type in DATA_TYPES else given[name]
                )
            elif declared.default is not None:
                values[name] = declared.default
        for step in pipeline.steps:
            if not self._run_step(job.name, step, values):
                return
        self._end(self._jobs[job.name], "Completed")

    def _run_step(self, name: str, step: Step, given: Mapping[str, str]) -> bool:
        """Run one step unless it has been run; return whether the job goes on."""
        job_folder = self.folders.of(name)
        if self._jobs[name].steps.get(step.name, StepRecord()).status == "Completed":
            return True
        outputs = {output: str(job_folder / step.name / output) for output in step.outputs}
        for output in outputs.values():
            # As Azure ML does. What a step that was killed has left there stays: it knows how to go on.
            Path(output).mkdir(parents=True, exist_ok=True)
        words = step.words(_values(step, given, job_folder), outputs)
        with self._changed:
            if self._stopping:
                return False
            if self._jobs[name].status == "CancelRequested":
                self._end(self._jobs[name], "Canceled")
                return False
            self._running = process = StepProcess(job_folder / step.name)
            self._step(name, step.name, status="Running", started_at=now(), more_runs=1)
        log = self.folders.log(name, step.name)
        code = process.run(words, cwd=self._definition.parent.parent, environ=self._step_environ(), log=log)
        with self._changed:
            if self._jobs[name].status == "CancelRequested":
                self._step(name, step.name, status="Canceled", ended_at=now())
                self._end(self._jobs[name], "Canceled")
                return False
            if self._stopping and code != 0:
                return False  # it goes on at the next start
            self._step(name, step.name, status="Failed" if code else "Completed", ended_at=now())
            if code:
                how = f"with exit code {code}" if code > 0 else f"by signal {-code}"
                self._end(self._jobs[name], "Failed", f"step {step.name} ended {how}: {_last_words(log)}")
                return False
            return True

    def _data(self, name: str, uri: str) -> Path:
        """Return the file or folder behind an input, made if it can be.

        Raises:
            LocalhostError: there is none.
        """
        address = urlsplit(uri)
        if address.scheme != "file":
            raise LocalhostError(f"input {name}: data is file:///... on this machine, got {uri}")
        path = Path(unquote(address.path))
        if not path.exists():
            self._fetch(path)
        if not path.exists():
            raise LocalhostError(f"input {name}: there is no {path}")
        return path

    def _step_environ(self) -> dict[str, str]:
        root = str(self._definition.parent.parent)
        # The way back to this server is no business of a step's.
        environ = {key: value for key, value in self._environ.items() if not key.startswith("AZUREML_")}
        return {**environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}

    def _step(self, name: str, step: str, more_runs: int = 0, **changes: Any) -> None:
        job = self._jobs[name]
        before = job.steps.get(step, StepRecord())
        after = msgspec.structs.replace(before, runs=before.runs + more_runs, **changes)
        self._keep(msgspec.structs.replace(job, steps={**job.steps, step: after}))

    def _end(self, job: JobRecord, status: Any, error: str | None = None) -> JobRecord:
        with self._changed:
            return self._keep(msgspec.structs.replace(job, status=status, ended_at=now(), error=error))

    def _keep(self, job: JobRecord) -> JobRecord:
        self.folders.write(job)
        self._jobs[job.name] = job
        return job


def _values(step: Step, parents: Mapping[str, str], job_folder: Path) -> dict[str, str]:
    """Return the values of a step's inputs; optional ones that nobody gives are left out."""
    values = {
        name: declared.default for name, declared in step.inputs.items() if declared.default is not None
    }
    for name, bound in step.bindings.items():
        match bound:
            case FromParent(parent):
                if parent in parents:
                    values[name] = parents[parent]
            case FromStep(other, output):
                values[name] = str(job_folder / other / output)
            case _:
                values[name] = bound
    return values


def _check(pipeline: Pipeline, properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs that a job gives.

    Raises:
        LocalhostError: it is a job of another pipeline, or its inputs are not as they must be.
    """
    if properties.get("jobType") != "Pipeline":
        raise LocalhostError("jobType must be Pipeline")
    known = f"/components/{pipeline.name}/versions/{pipeline.version}"
    if not str(properties.get("componentId", "")).endswith(known):
        raise LocalhostError(
            f"the component {properties.get('componentId')} is not registered: there is {pipeline.name} "
            f"in version {pipeline.version}"
        )
    inputs = properties.get("inputs") or {}
    given = {}
    for name, job_input in inputs.items():
        declared = pipeline.inputs.get(name)
        if declared is None:
            raise LocalhostError(f"the pipeline has no input {name}")
        key, kind = ("uri", declared.type) if declared.type in DATA_TYPES else ("value", "literal")
        if job_input.get("jobInputType") != kind or not isinstance(job_input.get(key), str):
            raise LocalhostError(f"input {name}: jobInputType must be {kind}, with a {key}")
        problem = None if kind != "literal" else declared.problem(job_input[key])
        if problem:
            raise LocalhostError(f"input {name}: {problem}")
        given[name] = job_input[key]
    missing = [name for name, declared in pipeline.inputs.items() if declared.required and name not in given]
    if missing:
        raise LocalhostError(f"required inputs are not given: {', '.join(missing)}")
    return given


def _last_words(log: Path) -> str:
    """Return the last line that a step wrote: of an error, the one that says what it was."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_WORDS))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
