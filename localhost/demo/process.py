"""The app in a process of its own, as `make run` starts it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from localhost.errors import LocalhostError
from localhost.running import Running, find_running, only_one

#: What it says while it starts, and its warnings.
OUTPUT = "output.txt"

_ROOT = Path(__file__).parent.parent.parent
_START_SECONDS = 300.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LAST_WORDS = 2000


def clear(state: Path, programs: Path) -> None:
    """Empty a state folder that nothing runs on, and have it use the programs that are installed already.

    Raises:
        LocalhostError: the app runs on it.
    """
    with only_one(state):
        for path in state.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        programs.mkdir(parents=True, exist_ok=True)
        (state / "programs").symlink_to(programs.resolve())


@contextmanager
def serving(app: Path, state: Path, port: int, settings: Mapping[str, str]) -> Iterator[Running]:
    """Start the app, yield where it is found, and stop it with all that it started.

    Raises:
        LocalhostError: it does not start.
    """
    command = [
        sys.executable,
        "-m",
        "localhost",
        "--app",
        str(app.resolve()),
        "--state",
        str(state.resolve()),
    ]
    with (state / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=_ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the demonstration, which then stops the app.
            start_new_session=True,
        )
    try:
        yield _started(process, state)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _started(process: subprocess.Popen[bytes], state: Path) -> Running:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (state / OUTPUT).read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:]
            raise LocalhostError("the app does not start:", *said.strip().splitlines())
        running = find_running(state)
        if running is not None and running.process_id == process.pid:
            return running
        time.sleep(_POLL_SECONDS)
    raise LocalhostError(f"the app does not start within {_START_SECONDS:.0f} seconds: see {state / OUTPUT}")
