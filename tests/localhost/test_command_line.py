"""`python -m localhost` as a person runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localhost.azureml.records import JobFolders, JobRecord, StepRecord
from localhost.azurite import Azurite
from tests.localhost.apps import DEADLINE_SECONDS, until, write_app

ROOT = Path(__file__).parent.parent.parent

APP = """
import os, sys
print("key:", os.environ["FEEDBACK_SIGNING_KEYS"], flush=True)
print("telemetry:", os.environ.get("APPLICATIONINSIGHTS_CONNECTION_STRING"), flush=True)
@app.route(route="predict", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def predict(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.get_body(), mimetype="application/json")
@app.queue_trigger(arg_name="msg", queue_name="jobs", connection="AzureWebJobsStorage")
def work(msg: str) -> None:
    print("worked on", msg, flush=True)
@app.timer_trigger(arg_name="t", schedule="0 0 3 * * *")
def nightly(t: func.TimerRequest) -> None:
    print("nightly ran", flush=True)
@app.timer_trigger(arg_name="t", schedule="0 0 3 * * *")
def broken(t: func.TimerRequest) -> None:
    raise RuntimeError("bad luck")
"""


#: Settings that a run makes up.
MADE_HERE = ("FEEDBACK_SIGNING_KEYS", "APPLICATIONINSIGHTS_CONNECTION_STRING")


class Started:
    """A command that runs on its own."""

    def __init__(self, folder: Path, *arguments: str, path: str | None = None) -> None:
        self.output = folder / "output.txt"
        environ = {key: value for key, value in os.environ.items() if key not in MADE_HERE}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "localhost", "--app", str(folder), *arguments],
                cwd=ROOT,
                env={**environ, "PATH": path or os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return everything it has written."""
        return self.output.read_text()

    def wait_for(self, words: str) -> str:
        """Return its output once `words` are in it."""
        until(lambda: words in self.said() or self.process.poll() is not None, words)
        assert words in self.said(), self.said()
        return self.said()

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def folder(azurite: Azurite, tmp_path: Path) -> Path:
    """A Function App, and a state folder with the programs installed already."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "programs").symlink_to(azurite.install_folder)
    return write_app(tmp_path, APP)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Started]]:
    """Start the command; whatever still runs at the end is killed."""
    running: list[Started] = []

    def run(*arguments: str, path: str | None = None) -> Started:
        running.append(Started(folder, "--state", str(folder / "state"), *arguments, path=path))
        return running[-1]

    try:
        yield run
    finally:
        for started in running:
            if started.process.poll() is None:
                os.killpg(started.process.pid, signal.SIGKILL)
                started.process.wait()


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "localhost",
            "--app",
            str(folder),
            "--state",
            str(folder / "state"),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_whole_session(folder: Path, start: Callable[..., Started]) -> None:
    """Start, the printed curl line, tick, a second start refused, Ctrl-C: nothing is left."""
    host = start("--port", "0", "--keys")
    said = host.wait_for("Ctrl-C stops everything.")
    match = re.search(r"^The app answers at (http://localhost:(\d+))$", said, re.MULTILINE)
    assert match
    url, port = match[1], int(match[2])
    storage = re.search(r"on ports (\d+), (\d+), (\d+)", said)
    assert storage

    curl = re.search(r"^Try it:  (curl .*)$", said, re.MULTILINE)
    assert curl
    assert shlex.split(curl[1])[:3] == ["curl", "-s", f"{url}/api/predict"]
    answer = subprocess.run(curl[1], shell=True, capture_output=True, text=True, timeout=20, check=True)
    assert json.loads(answer.stdout) == {"text": "I love how this turned out!"}
    without_key = re.sub(r"-H 'x-functions-key: [^']*'", "-w '%{http_code}'", curl[1])
    assert (
        subprocess.run(without_key, shell=True, capture_output=True, text=True, timeout=20, check=True).stdout
        == "401"
    )

    ticked = _command(folder, "tick", "nightly")
    assert (ticked.returncode, ticked.stdout) == (0, "nightly has run.\n")
    assert "nightly ran" in host.said()
    failed = _command(folder, "tick", "broken")
    assert (failed.returncode, failed.stderr) == (1, "error: broken failed: RuntimeError: bad luck\n")
    missing = _command(folder, "tick", "weekly")
    assert missing.returncode == 1
    assert "there is no function weekly" in missing.stderr

    endpoint = re.search(r"^telemetry: .*IngestionEndpoint=http://127.0.0.1:(\d+)/$", said, re.MULTILINE)
    assert endpoint
    assert _accepts(int(endpoint[1]))
    assert "no events yet" in _command(folder, "events").stderr

    second = _command(folder, "--port", "0")
    assert second.returncode == 1
    assert f"the app already runs here ({url}, process {host.process.pid})" in second.stderr

    assert host.end(signal.SIGINT) == 0
    assert host.said().endswith("Stopped.\n")
    assert not any(_accepts(int(number)) for number in (port, endpoint[1], *storage.groups()))
    log = (folder / "state" / "logs" / "host.log").read_text()
    assert "Executed predict" in log
    assert "RuntimeError: bad luck" in log
    late = _command(folder, "tick", "nightly")
    assert (late.returncode, late.stderr) == (
        1,
        "error: the app is not running here: start it first, `python -m localhost`\n",
    )

    # What was made up is kept; what was stored goes with `reset`.
    again = start("--port", "0")
    said_again = again.wait_for("Ctrl-C stops everything.")
    assert re.findall("key: .*", said_again)[0] == re.findall("key: .*", said)[0]
    assert again.end(signal.SIGTERM) == 0
    assert (folder / "state" / "azurite").exists()
    assert _command(folder, "reset").returncode == 0
    assert not (folder / "state" / "azurite").exists()


def test_a_killed_host_leaves_nothing_running(start: Callable[..., Started]) -> None:
    """The emulator notices that its parent is gone, and the next start is not hindered."""
    host = start("--port", "0")
    said = host.wait_for("Ctrl-C stops everything.")
    storage = re.search(r"on ports (\d+), (\d+), (\d+)", said)
    assert storage
    host.end(signal.SIGKILL)
    until(lambda: not any(_accepts(int(port)) for port in storage.groups()), "the emulator to end")
    again = start("--port", "0")
    again.wait_for("Ctrl-C stops everything.")
    assert again.end(signal.SIGINT) == 0


def test_ctrl_c_while_starting_leaves_nothing(start: Callable[..., Started]) -> None:
    """No traceback either, and the emulator that was on its way is gone."""
    host = start("--port", "0")
    host.wait_for("  programs ")
    assert host.end(signal.SIGINT) == 0
    assert "Traceback" not in host.said()
    again = start("--port", "0")
    said = again.wait_for("Ctrl-C stops everything.")
    assert again.end(signal.SIGINT) == 0
    assert "already runs" not in said


def test_a_port_in_use_is_named_at_once(folder: Path) -> None:
    """Before anything is started, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = _command(folder, "--port", str(port))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: port {port} is in use by another program")
    assert "Traceback" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "error: function_app.py, line 5: No module named 'no_such_module'"),
        ("@app.route()\ndef f(req) -> dict: ...", "error: f: the return annotation dict is refused"),
    ],
)
def test_an_app_that_is_refused_starts_nothing(folder: Path, source: str, said: str) -> None:
    """One line, exit code 1, no traceback; the log has it all."""
    write_app(folder, source)
    refused = _command(folder, "--port", "0")
    assert refused.returncode == 1
    assert refused.stderr.startswith(said)
    assert refused.stderr.count("\n") == 1
    assert "cannot go on" in (folder / "state" / "logs" / "host.log").read_text()


def test_core_tools_that_are_missing_are_named(folder: Path) -> None:
    """`--host func` on a machine without it."""
    empty = folder / "empty"
    empty.mkdir()
    refused = subprocess.run(
        [
            sys.executable,
            "-m",
            "localhost",
            "--app",
            str(folder),
            "--state",
            str(folder / "state"),
            "--host",
            "func",
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": str(empty)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: `func` is not on PATH")


FUNC = f"""#!{sys.executable}
import http.server, os, signal, sys
assert sys.argv[1:3] == ["start", "--port"], sys.argv
print("storage:", os.environ["AzureWebJobsStorage"], "cwd:", os.getcwd(), flush=True)
signal.signal(signal.SIGINT, lambda *_: (print("func ends", flush=True), os._exit(0)))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[3])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_core_tools_run_on_the_same_storage_and_settings(folder: Path, start: Callable[..., Started]) -> None:
    """A stand-in for `func`, which these machines lack: what it is given, and that it is stopped."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "func").write_text(FUNC)
    (programs / "func").chmod(0o755)
    host = start("--port", "0", "--host", "func", path=f"{programs}{os.pathsep}{os.environ['PATH']}")
    said = host.wait_for("Ctrl-C stops everything.")
    assert "storage: DefaultEndpointsProtocol=http;AccountName=devstoreaccount1" in said
    assert f"cwd: {folder}" in said
    assert "/api/predict" in said
    port = re.search(r"The app answers at http://localhost:(\d+)", said)
    assert port
    assert host.end(signal.SIGTERM) == 0
    assert "func ends" in host.said()
    assert not _accepts(int(port[1]))


def test_jobs_are_read_from_the_disk(folder: Path) -> None:
    """Whether the app runs or not."""
    none = _command(folder, "jobs")
    assert (none.returncode, none.stdout) == (0, "")
    assert "There are no jobs yet" in none.stderr
    jobs = JobFolders(folder / "state" / "azureml" / "jobs")
    steps = {"prepare": StepRecord(status="Completed"), "train": StepRecord(status="Running")}
    job = JobRecord(name="one", number=1, properties={}, created_at="2025-01-01T00:00:00Z", steps=steps)
    jobs.write(job)
    assert "1 of 2 steps" in _command(folder, "jobs").stdout
    assert "prepare              Completed\n" in _command(folder, "jobs", "one").stdout
    late = _command(folder, "jobs", "one", "--log", "train")
    assert (late.returncode, late.stderr) == (1, "error: step train of one has not begun\n")
    assert _command(folder, "reset").returncode == 0
    assert _command(folder, "jobs").stdout == ""
