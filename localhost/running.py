"""The one host that may run on a state folder, and the note that tells others where it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from localhost.errors import LocalhostError

_NOTE = "running.json"
_LONGEST_RUN_SECONDS = 3600


class Running(Struct, frozen=True):
    """Where a running host is found, and the key that opens its `/admin` (empty: none is asked for).

    `settings` are those with which another program works on the same storage.
    """

    url: str
    process_id: int
    master_key: str
    settings: dict[str, str] = {}


@contextlib.contextmanager
def only_one(state_folder: Path) -> Iterator[None]:
    """Hold `state_folder` for this process; the hold ends with the process, however it ends.

    Raises:
        LocalhostError: another host runs on it.
    """
    state_folder.mkdir(parents=True, exist_ok=True)
    with (state_folder / "host.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = find_running(state_folder)
            where = f" ({other.url}, process {other.process_id})" if other else ""
            raise LocalhostError(
                f"the app already runs here{where}: stop that one first, or give this one another --state"
            ) from error
        yield


@contextlib.contextmanager
def announced(state_folder: Path, url: str, master_key: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Leave the note while the context lasts."""
    state_folder.mkdir(parents=True, exist_ok=True)
    note = state_folder / _NOTE
    note.touch(mode=0o600)
    note.write_bytes(msgspec.json.encode(Running(url, os.getpid(), master_key, dict(settings))))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def find_running(state_folder: Path) -> Running | None:
    """Return where the host on `state_folder` is found, None if there is no note of one."""
    try:
        return msgspec.json.decode((state_folder / _NOTE).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def run_now(running: Running, name: str) -> bool:
    """Have a timer or queue function run now; return whether it was waited for, and has run.

    Raises:
        LocalhostError: there is none, it failed, or the host does not answer.
    """
    request = urllib.request.Request(
        f"{running.url}/admin/functions/{name}",
        data=b'{"input": ""}',
        headers={
            "Content-Type": "application/json",
            "Prefer": "wait",
            "x-functions-key": running.master_key,
        },
    )
    # Never through a proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_LONGEST_RUN_SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read()
        try:
            raise LocalhostError(json.loads(said)["error"]) from error
        except (ValueError, KeyError):
            raise LocalhostError(f"the host answered {error.code}") from error
    except OSError as error:
        raise LocalhostError(f"the host does not answer at {running.url}: {error}") from error
