"""A step's process: in a group of its own, found again by whoever comes after a killed server.

Two files stand beside it. `process.lock` is locked for as long as the process lives: it
inherits the open file, and the lock ends with it, however it ends. `process.id` is
written by the process itself before it becomes the step. So a server that finds the lock
taken knows that a step of a server before it still runs, and which one, and no number
of a process that is long gone can be taken for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from localhost.errors import LocalhostError

# Writes its own number, which is its group's too, and becomes the step.
_LAUNCH = 'echo $$ > "$0" && exec "$@"'
_END_SECONDS = 10.0
_POLL_SECONDS = 0.02


class StepProcess:
    """The process of one step in `folder`, with its files there; ended from any thread with `kill`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self, words: Sequence[str], *, cwd: Path, environ: Mapping[str, str], log: Path) -> int:
        """Run `words` to the end and return the exit code (negative: the signal); output goes to `log`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        # As Azure ML's environments have it, `python` is the one with the packages.
        program = [sys.executable, *words[1:]] if words[0] == "python" else list(words)
        with (self._folder / "process.lock").open("w") as lock, log.open("ab") as output:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            number = self._folder / "process.id"
            number.unlink(missing_ok=True)
            with self._guard:
                if self._killed:
                    return -signal.SIGKILL
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _LAUNCH, str(number), *program],
                    cwd=cwd,
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
        try:
            return self._process.wait()
        finally:
            # What the step itself started and left behind.
            _kill_group(self._process.pid)

    def kill(self) -> None:
        """End the step and all that it started; before it is started, keep it from starting."""
        with self._guard:
            self._killed = True
            if self._process is not None and self._process.poll() is None:
                _kill_group(self._process.pid)


def end_orphan(folder: Path) -> bool:
    """End the step that a server before this one left running in `folder`; return whether there was one.

    Raises:
        LocalhostError: it does not end.
    """
    try:
        lock = (folder / "process.lock").open("r+")
    except FileNotFoundError:
        return False
    with lock:
        deadline = time.monotonic() + _END_SECONDS
        found = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return found
            except BlockingIOError:
                found = True
            # Not there yet: it is about to write it.
            with contextlib.suppress(FileNotFoundError, ValueError):
                _kill_group(int((folder / "process.id").read_text()))
            if time.monotonic() > deadline:
                raise LocalhostError(f"a step of an earlier run does not end: see {folder}/process.id")
            time.sleep(_POLL_SECONDS)


def _kill_group(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)
