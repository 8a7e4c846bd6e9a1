"""A workspace of Azure ML as far as a tick sees it: jobs by name, each started once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from msgspec.structs import replace

from sentiment.errors import PipelineRefused
from sentiment.pipelines import Job, JobState


class Workspace:
    """Jobs in memory; safe to share between threads.

    A job's name is immutable: put again with other inputs it is refused.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.inputs: dict[str, Mapping[str, str]] = {}
        #: How often each name was put where there was no job.
        self.created: Counter[str] = Counter()
        #: Which jobs ran when another was created, if ever.
        self.together: list[tuple[str, ...]] = []
        #: Called with "before submit", "after submit" ...; may raise.
        self.on_call: Callable[[str], None] = lambda moment: None
        #: Jobs that are asked to stop and do not.
        self.stubborn = False
        self._lock: AbstractContextManager[object] = threading.RLock()

    def submit(self, name: str, inputs: Mapping[str, str]) -> Job:
        self.on_call("before submit")
        with self._lock:
            if name in self.jobs:
                if self.inputs[name] != inputs:
                    raise PipelineRefused(f"submit the job {name}", "it exists with other inputs")
            else:
                running = self._running()
                if running:
                    self.together.append((*running, name))
                self.created[name] += 1
                self.inputs[name] = dict(inputs)
                self.jobs[name] = Job(name=name, state="running", said="Starting", url="")
            job = self.jobs[name]
        self.on_call("after submit")
        return job

    def find(self, name: str) -> Job | None:
        self.on_call("before find")
        job = self.jobs.get(name)
        self.on_call("after find")
        return job

    def cancel(self, name: str) -> None:
        self.on_call("before cancel")
        with self._lock:
            if name in self.jobs and self.jobs[name].state == "running" and not self.stubborn:
                self.end(name, "canceled")
        self.on_call("after cancel")

    def end(self, name: str, state: JobState) -> None:
        """What happens to a job, not what anybody asks for."""
        self.jobs[name] = replace(self.jobs[name], state=state, said=f"{state.capitalize()}: as told")

    def vanish(self, name: str) -> None:
        del self.jobs[name]

    def clear(self) -> None:
        self.jobs.clear()
        self.inputs.clear()
        self.created.clear()

    def _running(self) -> Iterable[str]:
        return tuple(name for name, job in self.jobs.items() if job.state == "running")
