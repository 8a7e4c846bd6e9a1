"""The storage emulator as a child process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from localhost.azurite import Azurite, ensure_installed, explained_disk_errors, find_node
from localhost.errors import LocalhostError, PortInUse
from tests.localhost.apps import until

ROOT = Path(__file__).parent.parent.parent


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _ports(azurite: Azurite) -> list[int]:
    return [azurite.blob_port, azurite.queue_port, azurite.table_port]


def _program(folder: Path, name: str, script: str) -> None:
    """Write an executable that stands for a program of the machine."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_is_stored_survives_a_stop(azurite: Azurite, tmp_path: Path) -> None:
    """Stopping writes the state; the next start on the folder finds it. Stopping twice is fine."""
    first = Azurite(
        tmp_path / "state", install_folder=azurite.install_folder, log_file=tmp_path / "azurite.log"
    )
    first.start()
    with BlobServiceClient.from_connection_string(first.connection_string) as blobs:
        blobs.create_container("kept").upload_blob("blob", b"content")
    with QueueServiceClient.from_connection_string(first.connection_string) as queues:
        queues.create_queue("kept").send_message("message")
    first.stop()
    first.stop()
    assert not first.running
    assert not any(map(_accepts, _ports(first)))
    assert "successfully closed" in (tmp_path / "azurite.log").read_text()
    with Azurite(tmp_path / "state", install_folder=azurite.install_folder) as second:
        with BlobServiceClient.from_connection_string(second.connection_string) as blobs:
            assert blobs.get_blob_client("kept", "blob").download_blob().readall() == b"content"
        with QueueServiceClient.from_connection_string(second.connection_string) as queues:
            (message,) = queues.get_queue_client("kept").receive_messages()
            assert message.content == "message"


def test_a_port_that_is_taken_is_named(azurite: Azurite) -> None:
    """And nothing is left running."""
    second = Azurite(None, queue_port=azurite.queue_port, install_folder=azurite.install_folder)
    with pytest.raises(PortInUse, match=f"port {azurite.queue_port} is in use") as refusal:
        second.start()
    assert refusal.value.port == azurite.queue_port
    assert not second.running
    assert azurite.running


def test_it_ends_when_its_parent_is_killed(azurite: Azurite, tmp_path: Path) -> None:
    """Even SIGKILL leaves nothing behind, and the state is written."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import signal
                from pathlib import Path
                from localhost.azurite import Azurite
                programs = Path({str(azurite.install_folder)!r})
                azurite = Azurite(Path({str(tmp_path)!r}), install_folder=programs)
                azurite.start()
                print(azurite.blob_port, azurite.queue_port, azurite.table_port, flush=True)
                signal.pause()
            """),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        ports = [int(port) for port in parent.stdout.readline().split()]
        assert len(ports) == 3
        assert all(map(_accepts, ports))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not any(map(_accepts, ports)), "the emulator to end with its parent")


def test_it_is_installed_once(azurite: Azurite) -> None:
    """A second call finds what the first installed, without asking the network."""
    installed = ensure_installed(azurite.install_folder, lambda text: pytest.fail(f"installs again: {text}"))
    assert (installed / "node_modules/azurite/package.json").exists()
    assert find_node(azurite.install_folder, pytest.fail).binary.exists()


@pytest.mark.parametrize(
    ("npm", "said"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "the package registry does not answer"),
        ("echo 'npm error code ENOSPC' >&2; exit 1", "no disk space left"),
        ("echo 'npm error what a pity' >&2; exit 1", "npm error what a pity"),
    ],
)
def test_a_failed_installation_says_why_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: str, said: str
) -> None:
    """No network, no space: one line, and the next try starts clean."""
    _program(tmp_path, "node", "echo v22.1.0")
    _program(tmp_path, "npm", npm)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LocalhostError) as refusal:
        ensure_installed(tmp_path / "programs")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    _program(tmp_path, "npm", "mkdir -p node_modules/azurite")
    assert (ensure_installed(tmp_path / "programs") / "node_modules/azurite").is_dir()


def test_an_old_node_is_not_used(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azurite would be an old one, too; the packaged Node.js takes its place."""
    _program(tmp_path, "node", "echo v18.20.0")
    _program(tmp_path, "npm", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    if not list(azurite.install_folder.glob("node-*/")):
        pytest.skip("this machine's own Node.js is new enough, so none was fetched")
    assert find_node(azurite.install_folder, pytest.fail).binary.parent != tmp_path


def test_dying_at_start_is_explained(azurite: Azurite, tmp_path: Path) -> None:
    """Here: its state folder is a file."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "__azurite_db_blob__.json").mkdir()
    with pytest.raises(LocalhostError, match="Azurite ended while starting"):
        Azurite(state, install_folder=azurite.install_folder).start()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    """In words, instead of a traceback."""
    with (
        pytest.raises(LocalhostError, match="no disk space left"),
        explained_disk_errors(tmp_path),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)


def test_names_in_the_shared_emulator_are_each_tests_own(azurite: Azurite) -> None:
    """The session's emulator answers, on all three services."""
    assert len(set(_ports(azurite))) == 3
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        assert blobs.create_container(f"c{uuid.uuid4().hex}").exists()
