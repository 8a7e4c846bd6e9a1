"""Sample Function Apps written as text, and a handle on one that is served."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy

from localhost.host import Host

HEAD = """
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
seen = []
"""
BUNDLE = {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"}
DEADLINE_SECONDS = 20.0


def until(holds: Callable[[], Any], what: str) -> Any:
    """Return the first true value of `holds()`; fail saying `what` if there is none in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(0.01)
    pytest.fail(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


def write_app(folder: Path, source: str, host_json: Mapping[str, Any] | None = None) -> Path:
    """Write a Function App; `source` follows the usual first lines."""
    (folder / "function_app.py").write_text(HEAD + source)
    (folder / "host.json").write_text(
        json.dumps({"version": "2.0", "extensionBundle": BUNDLE, **(host_json or {})})
    )
    return folder


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


@dataclass
class ServedApp:
    """A Function App that runs in this process."""

    host: Host
    module: ModuleType
    environ: dict[str, str]
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    state: Path
    unfinished: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.host.url.rpartition(":")[2])

    @property
    def seen(self) -> list[Any]:
        """What the app's functions noted."""
        return list(self.module.seen)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask the app something over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """Ask with GET."""
        return self.request("GET", path, headers=headers)

    def run_now(self, name: str, **headers: str) -> Reply:
        """Run a function through the admin endpoint and wait for it."""
        return self.request(
            "POST",
            f"/admin/functions/{name}",
            body=b'{"input": ""}',
            headers={"Content-Type": "application/json", "Prefer": "wait", **headers},
        )

    def queue(self, setting: str, suffix: str = "", encoded: bool = True) -> QueueClient:
        """Return a client of the queue that a setting names."""
        policies: dict[str, Any] = {}
        if encoded:
            policies = {
                "message_encode_policy": TextBase64EncodePolicy(),
                "message_decode_policy": TextBase64DecodePolicy(),
            }
        connection = self.environ["AzureWebJobsStorage"]
        return QueueClient.from_connection_string(connection, self.environ[setting] + suffix, **policies)

    def stop(self) -> None:
        """Stop and wait for the end."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(DEADLINE_SECONDS)
        assert not self.thread.is_alive(), "the host did not stop"


def run_in_thread(host: Host, module: ModuleType, environ: dict[str, str], state: Path) -> ServedApp:
    """Serve in a thread of this process; returns once requests are answered."""
    ready = threading.Event()
    parts: list[Any] = []
    unfinished: list[str] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        parts.extend([asyncio.get_running_loop(), stopping])
        unfinished.extend(await host.serve(stopping, ready.set))

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="host", daemon=True)
    thread.start()
    assert ready.wait(DEADLINE_SECONDS), "the host did not start"
    assert not failed, failed
    return ServedApp(host, module, environ, thread, parts[0], parts[1], state, unfinished)
