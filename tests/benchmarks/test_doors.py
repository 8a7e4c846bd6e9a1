"""Servers are asked as the figures claim: one open connection, one request for one batch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.doors import Client, free_port, pad_together
from benchmarks.processes import ContenderFailed, Process


class _Handler(BaseHTTPRequestHandler):
    """Counts connections; answers what it got, or 503 to 'busy', and hangs up after 'bye'."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        """Count a connection."""
        type(self).connections += 1
        super().setup()

    def do_POST(self) -> None:
        """Answer with the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if body == b"busy" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        # Without saying so, as a server does to a connection that was idle.
        self.close_connection = body == b"bye"

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server on a free port."""
    _Handler.connections = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_one_connection_is_kept(server: ThreadingHTTPServer) -> None:
    """Requests follow each other on one connection, and a closed one is opened again."""
    client = Client(server.server_port, "/")
    assert [client.post(body) for body in (b"one", b"two", b"bye")] == [b"one", b"two", b"bye"]
    assert _Handler.connections == 1
    assert client.post(b"again") == b"again"
    assert _Handler.connections == 2
    client.close()


def test_an_error_is_no_answer(server: ThreadingHTTPServer) -> None:
    """Anything but 200 fails with what the server said: errors are quick, and would flatter."""
    client = Client(server.server_port, "/predict")
    with pytest.raises(ContenderFailed, match="/predict answers 503: busy"):
        client.post(b"busy")
    client.close()


def test_a_server_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    """Nobody waits two minutes for a process that is gone."""
    with Process([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path / "log") as process:
        client = Client(free_port(), "/")
        with pytest.raises(ContenderFailed, match="no such model"):
            client.first(b"", process)
        client.close()


def test_feeds_are_padded_to_one() -> None:
    """The rows of all feeds, in order, as long as the longest; padding is masked."""
    feeds = [
        {"input_ids": [[101, 102]], "attention_mask": [[1, 1]]},
        {"input_ids": [[101, 7, 102], [101, 8, 102]], "attention_mask": [[1, 1, 1], [1, 1, 1]]},
    ]
    assert pad_together(feeds) == {
        "input_ids": [[101, 102, 0], [101, 7, 102], [101, 8, 102]],
        "attention_mask": [[1, 1, 0], [1, 1, 1], [1, 1, 1]],
    }
