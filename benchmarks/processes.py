"""Processes to measure: started alone, timed from their start, ended with all they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

PROJECT = Path(__file__).resolve().parent.parent
#: Where `make run` and the tests keep the programs that they install, Azurite among them.
PROGRAMS = PROJECT / ".localhost" / "programs"

_STOP_SECONDS = 10.0
_SHOWN_LINES = 3


class ContenderFailed(Exception):
    """A contender could not be started or ended early; the message holds its last words."""


class Process:
    """A process in a session of its own, started in the project's folder; what it says goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._started = time.perf_counter()
            self._process = self._start(command, output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id, which is that of its group as well."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def elapsed(self) -> float:
        """Return the seconds since it was started."""
        return time.perf_counter() - self._started

    def failure(self) -> ContenderFailed:
        """Return the error that tells what it said last, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.stop()
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        # Of a traceback, the line that matters is the one that is not indented.
        said = [line for line in lines if line and not line.startswith((" ", "Traceback"))][-_SHOWN_LINES:]
        return ContenderFailed(" / ".join(said) or f"ended with {self._process.returncode}, saying nothing")

    def stop(self) -> None:
        """End it and everything in its group; safe to call twice."""
        if self.running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _start(self, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Talker(Process):
    """A process that answers lines of JSON with lines of JSON, and leaves when its input ends."""

    def _start(self, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )

    def ask(self, command: str, items: Sequence[int]) -> Any:
        """Send one command and return its answer.

        Raises:
            ContenderFailed: it ended instead.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"command": command, "items": list(items)}) + "\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise self.failure() from error
        return self.answer()

    def answer(self) -> Any:
        """Return what the next line of its output says.

        Raises:
            ContenderFailed: it ended instead.
        """
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise self.failure()
        return json.loads(line)

    def stop(self) -> None:
        """End it and everything in its group; safe to call twice."""
        super().stop()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _environment() -> dict[str, str]:
    # uvicorn, which MLflow starts by its name, lies beside the interpreter. No contender
    # may ask a hub for anything, and all of them find their modules compiled, as deployed.
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def peak_memory_mb(pid: int) -> float:
    """Return the highest resident set that `pid` has had, in MiB; 0 where the system does not tell.

    From /proc, as getrusage's figure starts with what the parent had when it forked.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0.0


def python_processes(pid: int) -> list[int]:
    """Return `pid` and its descendants, those that run Python: a server without its Node.js."""
    try:
        name = Path(f"/proc/{pid}/exe").resolve().name
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []
    found = [pid] if name.startswith("python") else []
    return found + [each for child in children for each in python_processes(child)]
