"""Processes are asked, timed, and never left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.processes import ContenderFailed, Process, Talker, peak_memory_mb, python_processes

ECHO = """
import json, sys
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(json.loads(line)["items"]), flush=True)
"""
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited 20 s: {what}"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed process whose parent is gone may wait to be reaped: that is not alive.
    return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")


def test_a_talker_answers_line_by_line(tmp_path: Path) -> None:
    """What is asked comes back; its memory and the time since its start can be read meanwhile."""
    with Talker([sys.executable, "-c", ECHO], tmp_path / "log") as talker:
        assert talker.answer() == "ready"
        assert talker.ask("singles", [1, 2]) == [1, 2]
        assert talker.ask("batches", range(2)) == [0, 1]
        assert 0.0 < talker.elapsed() < 20.0
        assert 3.0 < peak_memory_mb(talker.pid) < 200.0
    assert not talker.running


def test_a_process_that_ends_tells_its_last_words(tmp_path: Path) -> None:
    """The reason for an early end is what it said last, not a broken pipe."""
    program = "import sys; print('working', file=sys.stderr); sys.exit('no module named torch')"
    talker = Talker([sys.executable, "-c", program], tmp_path / "log")
    with pytest.raises(ContenderFailed, match="working / no module named torch"):
        talker.answer()
    talker = Talker([sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path / "log")
    _until(lambda: not talker.running, "it ends")
    with pytest.raises(ContenderFailed, match="ended with 3, saying nothing"):
        talker.ask("singles", [1])


def test_stopping_ends_the_whole_family(tmp_path: Path) -> None:
    """What a process started ends with it."""
    log = tmp_path / "log"
    with Process([sys.executable, "-c", FAMILY], log) as process:
        _until(lambda: log.read_bytes().endswith(b"\n"), "it says which child it has")
        child = int(log.read_bytes())
        assert python_processes(process.pid) == [process.pid, child]
        assert _alive(child)
    _until(lambda: not _alive(child), "the child has ended")
    assert not process.running
