"""The host: serves HTTP, polls queues and keeps timers for one app, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import uvicorn
from azure.storage.queue import QueueMessage

from localhost.bindings import decode_queue_message
from localhost.errors import LocalhostError, PortInUse
from localhost.functions import QUEUE_TRIGGER, TIMER_TRIGGER, Function
from localhost.host_json import HostOptions
from localhost.http_door import HttpDoor, Keys
from localhost.invocation import Invoker, thread_count
from localhost.local_settings import shared_settings
from localhost.queues import QueueListener, Queues
from localhost.routes import Route, Router, compile_template
from localhost.running import announced
from localhost.timers import Timer

logger = logging.getLogger(__name__)

#: How long functions under way may take to finish once the host is told to stop.
GRACE_SECONDS = 5.0
# As the platform's server; uvicorn's own 5 s would meet clients that reuse a connection.
_KEEP_ALIVE_SECONDS = 130
_BACKLOG = 2048


class Host:
    """One app, served on a socket that is already bound."""

    def __init__(
        self,
        functions: Sequence[Function],
        options: HostOptions,
        environ: Mapping[str, str],
        *,
        listening: socket.socket,
        state_folder: Path,
        keys: Keys | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.functions = functions
        self._options = options
        self._environ = environ
        self._socket = listening
        self._port = listening.getsockname()[1]
        self._state_folder = state_folder
        self.keys = keys
        self._grace = grace_seconds
        self.router = Router(
            Route(
                function.name,
                compile_template(function.route(options.route_prefix, environ)),
                function.methods,
            )
            for function in functions
            if function.answers_http
        )

    @property
    def url(self) -> str:
        """Where the host is found, without a slash at the end."""
        return f"http://localhost:{self._port}"

    async def serve(self, stopping: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> list[str]:
        """Serve until `stopping` is set; `on_ready` is called once requests are answered.

        Returns the names of functions that did not finish in the seconds of grace.
        """
        queues = Queues(self._options.queues, self._environ)
        invoker = Invoker(thread_count(self._environ), queues.send)
        timers = {
            function.name: Timer(function, invoker, self._state_folder / "timers", self._environ)
            for function in self.functions
            if function.trigger.type == TIMER_TRIGGER
        }
        listeners = [
            queues.listen(function, invoker)
            for function in self.functions
            if function.trigger.type == QUEUE_TRIGGER
        ]

        async def run_now(name: str, given: str) -> None:
            if name in timers:
                await timers[name].run_now()
            else:
                function = next(function for function in self.functions if function.name == name)
                await invoker.run(function, _unqueued(function, given), "run on demand")

        door = HttpDoor(self.functions, self.router, invoker, self._options, self.keys, run_now)
        server = _Server(
            uvicorn.Config(
                door,
                http="httptools",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=ceil(self._grace),
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        serving = asyncio.create_task(server.serve([self._socket]))
        background = [asyncio.create_task(listener.run()) for listener in listeners]
        background += [asyncio.create_task(timer.run(stopping)) for timer in timers.values()]
        try:
            await server.ready(serving)
            master_key = self.keys.master if self.keys else ""
            with announced(self._state_folder, self.url, master_key, shared_settings(self._environ)):
                on_ready()
                await _first_end(stopping, serving, *background)
        finally:
            stopping.set()
            unfinished = await self._stop(server, serving, listeners, background, invoker)
            queues.close()
            invoker.close()
        return unfinished

    async def _stop(
        self,
        server: _Server,
        serving: asyncio.Task[None],
        listeners: Sequence[QueueListener],
        background: Sequence[asyncio.Task[None]],
        invoker: Invoker,
    ) -> list[str]:
        # What it would say of requests it gives up on, the host says itself.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        await asyncio.gather(asyncio.wait([serving]), *(listener.stop(self._grace) for listener in listeners))
        if background:
            await asyncio.wait(background, timeout=self._grace)
        unfinished = invoker.running
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        return unfinished


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the host is told to stop by an event."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def ready(self, serving: asyncio.Task[None]) -> None:
        """Return once connections are accepted."""
        while not self.started:
            if serving.done():
                serving.result()
                raise LocalhostError("the HTTP server ended while starting: see the log")
            await asyncio.sleep(0.005)


def bind(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port; 0 takes a free one.

    Raises:
        PortInUse: another program listens there.
    """
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on,
    # every answer on a kept-alive connection would wait 40 ms for the client's acknowledgement.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Without this a port stays taken for a minute after the last connection closed.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        # At once, or another program could still take it; early callers wait until the host is ready.
        listening.listen(_BACKLOG)
    except PermissionError as error:
        listening.close()
        raise LocalhostError(f"port {port} may not be used by this user: choose one above 1023") from error
    except OSError as error:
        listening.close()
        raise PortInUse(
            port, f"stop it, or choose another, `python -m localhost --port {port + 1}`"
        ) from error
    return listening


def _unqueued(function: Function, text: str) -> object:
    """Return what a queue function gets when it is run by hand."""
    message = QueueMessage(content=text, id="run-on-demand", dequeue_count=1)
    return decode_queue_message(message, text, function.annotations.get(function.trigger.name), False)


async def _first_end(stopping: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait until `stopping` is set; a task that fails before that raises here."""
    waiting = asyncio.ensure_future(stopping.wait())
    pending: set[asyncio.Future[Any]] = {waiting, *tasks}
    while not waiting.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
