"""Microsoft's own host, `func start`, on the same storage and settings, for those who have it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from localhost.errors import LocalhostError

_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1


def find_core_tools() -> str:
    """Return the path of `func`.

    Raises:
        LocalhostError: it is not on PATH.
    """
    found = shutil.which("func")
    if found is None:
        raise LocalhostError(
            "`func` is not on PATH: install Azure Functions Core Tools 4, or leave `--host func` out "
            "to run the app without it"
        )
    return found


def run_core_tools(
    program: str, folder: Path, port: int, environ: Mapping[str, str], on_ready: Callable[[], None]
) -> int:
    """Run `func start` in `folder` until it ends or this process is interrupted; return its exit code.

    `on_ready` is called once the port answers.
    """
    # func picks its Python from the active environment: this one.
    settings = {
        **environ,
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}",
    }
    process = subprocess.Popen([program, "start", "--port", str(port)], cwd=folder, env=settings)
    try:
        while process.poll() is None and not _answers(port):
            time.sleep(_POLL_SECONDS)
        if process.poll() is None:
            on_ready()
        return process.wait()
    finally:
        if process.poll() is None:
            # Ctrl-C has reached it as well; a SIGTERM to this process has not.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
