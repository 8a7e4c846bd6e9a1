"""The jobs of the local Azure ML: real processes, real kills, one step at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localhost.azureml.records import JobFolders, JobRecord
from localhost.azureml.runner import Conflict, Runner
from localhost.errors import LocalhostError
from tests.localhost.apps import until
from tests.workspace import Workspace, write_pipeline

ROOT = Path(__file__).parent.parent.parent

SERVE = """
import os, sys, time
from pathlib import Path
from localhost.azureml.runner import Runner
with Runner(Path(sys.argv[1]), Path(sys.argv[2]), os.environ):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def _properties(workspace: Workspace, **inputs: str) -> dict[str, Any]:
    literals = {**workspace.inputs, **inputs}
    return {
        "jobType": "Pipeline",
        "componentId": "/any/components/sentiment_retrain/versions/1",
        "inputs": {
            "base_data": {"jobInputType": "uri_file", "uri": workspace.data.as_uri()},
            **{name: {"jobInputType": "literal", "value": value} for name, value in literals.items()},
        },
    }


def _run(workspace: Workspace, **options: Any) -> Runner:
    return Runner(workspace.jobs, workspace.definition, os.environ, **options)


def _status(runner: Runner, name: str = "job") -> str:
    job = runner.find(name)
    assert job is not None
    return job.status


def _waiting(workspace: Workspace) -> list[int]:
    """Return the processes that have begun to wait, in order."""
    return [int(line.split()[1]) for line in workspace.noted if line.startswith("wait ")]


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():  # no Linux
        return True
    # A zombie whose parent has not asked for it yet has ended too.
    return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_steps_run_in_the_order_of_what_they_need(workspace: Workspace) -> None:
    """Not of the file; outputs reach inputs, also with spaces in the names, and logs are kept."""
    workspace.go.touch()
    with _run(workspace) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: _status(runner) == "Completed", "the job's end")
        job = runner.find("job")
    assert job is not None
    assert list(job.steps) == ["copy", "wait"]
    assert [step.status for step in job.steps.values()] == ["Completed", "Completed"]
    assert [line.split()[0] for line in workspace.noted] == ["copy", "wait", "done"]
    assert runner.folders.log("job", "wait").read_text().splitlines() == ["waiting", "label\ttext", ""]


@pytest.mark.parametrize(("more", "said"), [({}, "copied"), ({"more": "of it"}, "copied --more of it")])
def test_an_optional_input_brings_its_part_of_the_command(
    workspace: Workspace, more: dict[str, str], said: str
) -> None:
    """Without it, the part is not there at all."""
    workspace.go.touch()
    with _run(workspace) as runner:
        runner.put("job", _properties(workspace, **more))
        until(lambda: _status(runner) == "Completed", "the job's end")
    assert runner.folders.log("job", "copy").read_text().strip() == said


def test_jobs_wait_for_each_other(workspace: Workspace) -> None:
    """One job's steps run at a time, in the order in which jobs came."""
    with _run(workspace) as runner:
        for name in ("b", "a"):
            runner.put(name, _properties(workspace))
        until(lambda: len(_waiting(workspace)) == 1, "the first job's second step")
        assert [_status(runner, name) for name in ("b", "a")] == ["Running", "Queued"]
        assert workspace.noted.count("copy") == 1
        workspace.go.touch()
        until(lambda: _status(runner, "a") == "Completed", "the second job's end")
    assert [job.name for job in JobFolders(workspace.jobs).read()] == ["b", "a"]


def test_the_same_put_twice_is_one_job_and_another_is_refused(workspace: Workspace) -> None:
    """A name is what one job is known by, for good."""
    with _run(workspace) as runner:
        assert runner.put("job", _properties(workspace))[1]
        assert not runner.put("job", _properties(workspace))[1]
        with pytest.raises(Conflict):
            runner.put("job", _properties(workspace, cycle="8"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobType": "Command"}, "jobType must be Pipeline"),
        ({"componentId": "x/components/sentiment_retrain/versions/2"}, "in version 1"),
        ({"inputs": {}}, "required inputs are not given: cycle, base_data, go, note"),
        ({"inputs": {"cycle": {"jobInputType": "literal", "value": "x"}}}, "cycle: must be an integer"),
        (
            {"inputs": {"cycle": {"jobInputType": "uri_file", "uri": "x"}}},
            "cycle: jobInputType must be literal",
        ),
        ({"inputs": {"salt": {"jobInputType": "literal", "value": "x"}}}, "has no input salt"),
    ],
)
def test_a_job_that_cannot_run_is_refused_at_once(
    workspace: Workspace, changes: dict[str, Any], message: str
) -> None:
    """Azure ML checks the same before it takes a job."""
    with _run(workspace) as runner, pytest.raises(LocalhostError, match=message):
        runner.put("job", {**_properties(workspace), **changes})


def test_a_step_that_fails_ends_the_job_with_its_last_words(workspace: Workspace) -> None:
    """The next step is not begun; the rest is in the log."""
    command = (
        "python -c \"import sys; print('so far so good'); sys.exit('error: torch is missing: pip install')\""
    )
    write_pipeline(workspace.folder, copy=command)
    with _run(workspace) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: _status(runner) == "Failed", "the job's end")
        job = runner.find("job")
    assert job is not None
    assert job.error == "step copy ended with exit code 1: error: torch is missing: pip install"
    assert [step.status for step in job.steps.values()] == ["Failed", "NotStarted"]


def test_a_program_that_is_not_there_is_named(workspace: Workspace) -> None:
    """As a shell would."""
    write_pipeline(workspace.folder, copy="nowhere-to-be-found --x")
    with _run(workspace) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: _status(runner) == "Failed", "the job's end")
        job = runner.find("job")
    assert job is not None
    assert "exit code 127" in str(job.error)
    assert "nowhere-to-be-found" in str(job.error)


def test_missing_data_are_fetched_when_the_job_begins(workspace: Workspace) -> None:
    """Not when it is put: that has to be answered."""
    workspace.go.touch()
    workspace.data.unlink()
    with _run(workspace, fetch=lambda path: path.write_text("fetched")) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: _status(runner) == "Completed", "the job's end")
    assert "fetched" in runner.folders.log("job", "wait").read_text()


def test_data_that_cannot_be_fetched_fail_the_job(workspace: Workspace) -> None:
    """With the words of whoever tried."""

    def fetch(path: Path) -> None:
        raise LocalhostError("the package index does not answer")

    workspace.data.unlink()
    with _run(workspace, fetch=fetch) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: _status(runner) == "Failed", "the job's end")
        job = runner.find("job")
    assert job is not None
    assert job.error == "the package index does not answer"


def test_cancelling_ends_the_process_and_what_it_started(workspace: Workspace) -> None:
    """And nothing of the job follows; one that waits in line is just taken out."""
    both = (
        'python -c "import subprocess, sys, time; '
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "open(sys.argv[1], 'w').write(f'wait {child.pid}'); time.sleep(600)\" ${{inputs.note}}"
    )
    write_pipeline(workspace.folder, copy=both)
    with _run(workspace) as runner:
        for name in ("job", "queued"):
            runner.put(name, _properties(workspace))
        until(lambda: len(_waiting(workspace)) == 1, "the child of the step")
        assert runner.cancel("queued") is not None
        assert _status(runner, "queued") == "Canceled"
        runner.cancel("job")
        until(lambda: _status(runner) == "Canceled", "the job's end")
        (child,) = _waiting(workspace)
        until(lambda: not _alive(child), "the end of what the step had started")
        again = runner.cancel("job")
        assert again is not None
        assert again.final
        assert runner.cancel("never-put") is None
        steps = runner.find("job")
    assert steps is not None
    assert [step.status for step in steps.steps.values()] == ["Canceled", "NotStarted"]


def test_stopped_and_started_again_a_job_goes_on(workspace: Workspace) -> None:
    """With the step that it was in; what had been done is not done again."""
    with _run(workspace) as runner:
        runner.put("job", _properties(workspace))
        until(lambda: len(_waiting(workspace)) == 1, "the second step")
    assert not _alive(_waiting(workspace)[0])
    workspace.go.touch()
    with _run(workspace) as runner:
        until(lambda: _status(runner) == "Completed", "the job's end")
        job = runner.find("job")
    assert job is not None
    assert [line.split()[0] for line in workspace.noted] == ["copy", "wait", "wait", "done"]
    assert {name: step.runs for name, step in job.steps.items()} == {"copy": 1, "wait": 2}


class Killable:
    """A runner in a process of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(workspace.jobs), str(workspace.definition)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def killable(workspace: Workspace) -> Iterator[Callable[[], Killable]]:
    started: list[Killable] = []

    def start() -> Killable:
        started.append(Killable(workspace))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def _queue(workspace: Workspace, **changes: Any) -> None:
    """Leave a job on disk for the next runner."""
    job = JobRecord(name="job", number=1, properties=_properties(workspace), created_at="-", **changes)
    JobFolders(workspace.jobs).write(job)


def test_a_killed_server_leaves_a_step_that_the_next_one_ends_before_it_begins_again(
    workspace: Workspace, killable: Callable[[], Killable]
) -> None:
    """Never two at once: the one of before is found by the lock that it holds."""
    _queue(workspace)
    server = killable()
    until(lambda: len(_waiting(workspace)) == 1, "the second step")
    server.kill()
    (orphan,) = _waiting(workspace)
    assert _alive(orphan)
    killable()
    until(lambda: len(_waiting(workspace)) == 2, "the second step, again")
    assert not _alive(orphan)
    workspace.go.touch()
    until(lambda: JobFolders(workspace.jobs).read()[0].status == "Completed", "the job's end")
    assert [line.split()[0] for line in workspace.noted] == ["copy", "wait", "wait", "done"]


def test_a_server_killed_again_and_again_gets_there(
    workspace: Workspace, killable: Callable[[], Killable]
) -> None:
    """Whatever it was doing: the first step is done at least once, the last one to its end once."""
    _queue(workspace)
    for _ in range(4):
        server = killable()
        before = len(workspace.noted)
        until(lambda before=before: len(workspace.noted) > before, "a sign of life")
        server.kill()
    before = len(_waiting(workspace))
    killable()
    until(lambda: len(_waiting(workspace)) > before, "the second step, for the last time")
    workspace.go.touch()
    until(lambda: JobFolders(workspace.jobs).read()[0].status == "Completed", "the job's end")
    assert workspace.noted.count("done") == 1
    assert not any(_alive(process_id) for process_id in _waiting(workspace))


def test_a_job_whose_end_was_asked_for_ends_with_the_next_server(
    workspace: Workspace, killable: Callable[[], Killable]
) -> None:
    """The server was killed between the asking and the ending."""
    _queue(workspace)
    server = killable()
    until(lambda: len(_waiting(workspace)) == 1, "the second step")
    server.kill()
    folders = JobFolders(workspace.jobs)
    running = folders.read()[0]
    _queue(workspace, status="CancelRequested", steps=running.steps)
    with _run(workspace) as runner:
        assert _status(runner) == "Canceled"
    assert not _alive(_waiting(workspace)[0])


def test_a_damaged_record_is_named(workspace: Workspace) -> None:
    """The message says what to remove."""
    _queue(workspace)
    (workspace.jobs / "job" / "job.json").write_text("{")
    with pytest.raises(LocalhostError, match=r"job\.json is damaged: remove .*job"), _run(workspace):
        pytest.fail("it started")
