"""Every write is conditional, and every error of the SDK is one of ours with the SDK's behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient

from localhost.azurite import Azurite
from sentiment.blobs import Blobs, Content
from sentiment.errors import StoreUnavailable
from tests.wire import Wire


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def blobs(azurite: Azurite, wire: Wire) -> Iterator[Blobs]:
    with wire.open(azurite) as container:
        yield Blobs(container)


def test_a_blob_is_created_once(blobs: Blobs) -> None:
    assert blobs.create("a", b"first")
    assert not blobs.create("a", b"second")
    content = blobs.read("a")
    assert content is not None
    assert content.data == b"first"


def test_a_blob_is_replaced_only_while_it_is_the_one_that_was_read(blobs: Blobs) -> None:
    blobs.create("a", b"first")
    read = blobs.read("a")
    assert read is not None
    assert blobs.replace("a", b"second", read.etag)
    assert not blobs.replace("a", b"third", read.etag)
    assert blobs.read("a") != read
    assert not blobs.replace("nothing", b"there", read.etag)
    assert blobs.read("nothing") is None


def test_a_blob_is_removed_once(blobs: Blobs) -> None:
    blobs.create("a", b"first")
    for _ in range(2):
        blobs.delete("a")
    assert blobs.read("a") is None


def test_an_unchanged_blob_is_not_sent_again(blobs: Blobs, wire: Wire) -> None:
    blobs.create("a", b"first")
    read = blobs.read("a")
    assert read is not None
    wire.forget()
    assert blobs.read_if_changed("a", read.etag) == Content(b"", read.etag)
    assert wire.exchanges == [("GET", "a", 304)]
    blobs.replace("a", b"second", read.etag)
    changed = blobs.read_if_changed("a", read.etag)
    assert changed is not None
    assert changed == blobs.read("a")
    assert blobs.read_if_changed("nothing", read.etag) is None


def test_a_blob_of_another_size_is_not_downloaded(blobs: Blobs, tmp_path: Path) -> None:
    blobs.create("a", b"12345")
    assert blobs.download("a", tmp_path / "a", 5) == 5
    assert (tmp_path / "a").read_bytes() == b"12345"
    assert blobs.download("a", tmp_path / "b", 4) == 5
    assert blobs.download("nothing", tmp_path / "b", 4) is None
    assert not (tmp_path / "b").exists()


def test_names_and_sizes_are_those_below_a_prefix(blobs: Blobs) -> None:
    for name in ("a/1", "a/2", "b/1"):
        blobs.create(name, name.encode() * 2)
    assert blobs.names() == ["a/1", "a/2", "b/1"]
    assert blobs.names("a/") == ["a/1", "a/2"]
    assert blobs.sizes("b/") == {"b/1": 6}


def test_without_a_container_there_is_nothing_until_it_is_created(azurite: Azurite) -> None:
    with Wire().open(azurite, "t-not-there-yet") as container:
        blobs = Blobs(container)
        assert blobs.names() == []
        assert blobs.read("a") is None
        for _ in range(2):
            blobs.create_container()
        assert blobs.create("a", b"first")


def _calls(blobs: Blobs, tmp_path: Path) -> list[Callable[[], object]]:
    return [
        blobs.create_container,
        blobs.names,
        lambda: blobs.sizes("a"),
        lambda: blobs.read("a"),
        lambda: blobs.read_if_changed("a", '"0x1"'),
        lambda: blobs.download("a", tmp_path / "a", 1),
        lambda: blobs.create("a", b"x"),
        lambda: blobs.replace("a", b"x", '"0x1"'),
    ]


def _refused(container: ContainerClient, tmp_path: Path) -> None:
    for call in _calls(Blobs(container), tmp_path):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert isinstance(caught.value.__cause__, AzureError)
        assert caught.value.operation.split()[0] in ("find", "list", "read", "write")
        assert "\n" not in str(caught.value)


def test_where_nobody_listens_every_call_says_so(tmp_path: Path) -> None:
    nowhere = Azurite(None, 9, 9, 9, install_folder=tmp_path)
    with Wire().open(nowhere, "models") as container:
        _refused(container, tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412])
def test_what_something_else_than_storage_answers_is_no_answer(tmp_path: Path, status: int) -> None:
    """A proxy's 404 does not mean that there is no model, nor its 412 that somebody else promoted one."""

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_HEAD = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        port = server.server_port
        with Wire().open(Azurite(None, port, port, port, install_folder=tmp_path), "models") as container:
            _refused(container, tmp_path)
        server.shutdown()
        thread.join()
