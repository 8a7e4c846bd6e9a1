"""Application Insights on this machine: takes what the app tells, and keeps it in a file.

It answers as the service's ingestion does (`POST /v2/track`, JSON lines, gzip or
not), or misbehaves on demand: see `Mode`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self

from localhost.errors import LocalhostError

#: The setting that leads an app here.
SETTING = "APPLICATIONINSIGHTS_CONNECTION_STRING"

_FILE, _OLDER_FILE = "events.jsonl", "events.older.jsonl"
_LARGEST_FILE = 10_000_000
_LARGEST_BODY = 16 * 1024 * 1024
# Belongs to nobody: what comes with another one was not meant for this server.
_KEY = "00000000-0000-0000-0000-000000000000"
_DRIP_SECONDS = 0.1


class Mode(Enum):
    """What becomes of a request."""

    TAKE = "everything is taken"
    PART = "of each four items, two are taken, one is refused, one may come again: 206"
    REFUSE_ITEMS = "nothing is taken, nor ever will be: 400"
    THROTTLE = "nothing is taken for now: 429, with Retry-After"
    FAIL = "nothing is taken: 500"
    HANG = "the request is read and never answered"
    DRIP = "the answer comes a byte at a time and never ends"
    REFUSE = "nobody listens"


class IngestionServer:
    """Listens on a loopback port while it is a context; keeps what it takes in `folder`."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.port = port
        #: How many requests have come, whatever became of them.
        self.requests = 0
        self._folder = folder
        self._mode = Mode.TAKE
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._stop_listening()

    @property
    def connection_string(self) -> str:
        """What goes into `APPLICATIONINSIGHTS_CONNECTION_STRING`."""
        return f"InstrumentationKey={_KEY};IngestionEndpoint=http://127.0.0.1:{self.port}/"

    @property
    def mode(self) -> Mode:
        """What becomes of requests; a new value counts from the next one on, and ends those that wait."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        released, self._released = self._released, threading.Event()
        released.set()
        if mode is Mode.REFUSE:
            self._stop_listening()
        elif self._server is None:
            self._listen()

    def events(self) -> list[dict[str, Any]]:
        """Return what was taken so far, in the order it came: envelopes."""
        return list(read_events(self._folder))

    def _listen(self) -> None:
        self._server = _Server(self, self.port)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="ingestion", daemon=True
        )
        self._thread.start()

    def _stop_listening(self) -> None:
        server, self._server = self._server, None
        thread, self._thread = self._thread, None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()

    # --- in a thread for each request -----------------------------------------

    def _answer(self, request: _Request) -> None:
        mode, released = self._mode, self._released
        with self._lock:
            self.requests += 1
        try:
            items = _read_items(request)
        except ValueError as error:
            request.reply(400, {"itemsReceived": 0, "itemsAccepted": 0, "errors": [{"message": str(error)}]})
            return
        match mode:
            case Mode.TAKE:
                self._take(items)
                request.reply(200, _result(len(items), {}))
            case Mode.PART:
                faults = {
                    index: 400 if index % 4 == 2 else 503 for index in range(len(items)) if index % 4 > 1
                }
                self._take([item for index, item in enumerate(items) if index not in faults])
                request.reply(206, _result(len(items), faults))
            case Mode.REFUSE_ITEMS:
                request.reply(400, _result(len(items), dict.fromkeys(range(len(items)), 400)))
            case Mode.THROTTLE:
                request.reply(429, _result(len(items), dict.fromkeys(range(len(items)), 429)))
            case Mode.FAIL:
                request.reply(500, _result(len(items), dict.fromkeys(range(len(items)), 500)))
            case Mode.HANG:
                released.wait()
            case Mode.DRIP:
                with contextlib.suppress(OSError):
                    request.wfile.write(b"HTTP/1.1 ")
                    while not released.wait(_DRIP_SECONDS):
                        request.wfile.write(b" ")
            case Mode.REFUSE:
                pass  # it came just before the door was closed

    def _take(self, items: list[dict[str, Any]]) -> None:
        lines = b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items)
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / _FILE
            if file.exists() and file.stat().st_size > _LARGEST_FILE:
                file.replace(self._folder / _OLDER_FILE)
            with file.open("ab") as events:
                events.write(lines)


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the envelopes kept in `folder`, the oldest first.

    Raises:
        LocalhostError: the file is damaged.
    """
    for name in (_OLDER_FILE, _FILE):
        path = folder / name
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            continue
        # Without its end, the last line is still being written.
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise LocalhostError(f"{path}, line {number} is damaged: remove the file") from error


def describe_event(envelope: dict[str, Any]) -> str:
    """Return one line for a person: time, name, the start of the operation id, and what was told."""
    data = envelope.get("data", {}).get("baseData", {})
    told: dict[str, Any] = {**data.get("properties", {}), **data.get("measurements", {})}
    name = data.get("name", envelope.get("name", "?"))
    for metric in data.get("metrics", ()):
        name = metric["name"]
        count = metric.get("count", 1)
        told |= {"count": count, "mean": metric["value"] / count, "max": metric.get("max", metric["value"])}
    operation = envelope.get("tags", {}).get("ai.operation.id", "")
    words = " ".join(f"{key}={_short(value)}" for key, value in told.items())
    return f"{_local_time(envelope.get('time', ''))}  {name:<17} {operation[:8]:<8}  {words}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text else text


def _local_time(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return time


def _result(received: int, faults: dict[int, int]) -> dict[str, Any]:
    return {
        "itemsReceived": received,
        "itemsAccepted": received - len(faults),
        "errors": [
            {"index": index, "statusCode": status, "message": "refused on demand"}
            for index, status in faults.items()
        ],
    }


def _read_items(request: _Request) -> list[dict[str, Any]]:
    """Return the envelopes of a request.

    Raises:
        ValueError: it has none; the message says why.
    """
    if not request.path.rstrip("/").endswith("/track"):
        raise ValueError("send envelopes to /v2/track")
    size = int(request.headers.get("Content-Length") or 0)
    if not 0 < size <= _LARGEST_BODY:
        raise ValueError(f"the body has {size} bytes")
    body = request.rfile.read(size)
    if request.headers.get("Content-Encoding") == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError("the body is not gzip") from error
    text = body.decode()
    items = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    for item in items:
        if not isinstance(item, dict) or not {"name", "time", "iKey", "data"} <= item.keys():
            raise ValueError("an item is no envelope")
    return list(items)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, owner: IngestionServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Request)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        self.close_connection = True
        self.server.owner._answer(self)

    def reply(self, status: int, result: dict[str, Any]) -> None:
        body = json.dumps(result).encode()
        self.begin(
            status, ("Retry-After", "1") if status == 429 else None, ("Content-Length", str(len(body)))
        )
        self.wfile.write(body)

    def begin(self, status: int, *headers: tuple[str, str] | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        for header in headers:
            if header is not None:
                self.send_header(*header)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def unused_port() -> int:
    """Return a loopback port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
