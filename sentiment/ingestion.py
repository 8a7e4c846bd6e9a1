"""The way to Application Insights: a bounded queue, one thread, and an end to every wait.

The package's own sender re-sends without pause or end while the endpoint fails,
in the caller's thread. This one never makes a caller wait: what finds the queue
full is dropped and counted, and everything slow happens in a daemon thread that
starts with the first event.
"""

from __future__ import annotations

import atexit
import contextlib
import gzip
import http.client
import io
import json
import logging
import os
import socket
import ssl
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from msgspec import Struct

from sentiment.envelopes import Event, Metric

logger = logging.getLogger(__name__)

#: A metric, and the values of its properties.
MetricKey = tuple[str, tuple[tuple[str, str], ...]]

_PATH = "/v2/track"
_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-json-stream",
    "Content-Encoding": "gzip",
    "Connection": "close",
}
# Timeouts, throttling, a spent quota: as the service's own exporters read them.
_WORTH_ANOTHER_TRY = frozenset({408, 429, 439})
_LARGEST_ANSWER = 1 << 20
# Encoding is Python at work, and would keep the interpreter from the requests: it stands
# back after every few envelopes.
_ENCODED_AT_ONCE = 4
_STAND_BACK_SECONDS = 0.001

_HANG_UP_SECONDS = 0.1

# Why something was dropped.
QUEUE_FULL = "queue full"
GIVEN_UP = "given up"
REFUSED = "refused"
CLOSED = "closed"


class Limits(Struct, frozen=True, kw_only=True):
    """How much, how often, how long: seconds and numbers of items."""

    #: Events that wait; a process that cannot send them holds no more than these and one batch.
    capacity: int = 2_000
    #: Different metrics that are kept apart.
    metrics: int = 100
    #: Items in one request.
    batch: int = 200
    #: What happens is sent at most this much later.
    every: float = 5.0
    #: One request, from its connection to the last byte of its answer.
    timeout: float = 5.0
    #: After so many failures a batch is given up.
    tries: int = 4
    #: The first pause after a failure; each further one is twice as long.
    pause: float = 1.0
    longest_pause: float = 300.0
    #: Closing takes no longer.
    close: float = 0.7


class _Outcome(NamedTuple):
    """What became of a batch; `trouble` says what was wrong with it, `wait` is what the service asked for."""

    again: Sequence[bytes] = ()
    refused: int = 0
    trouble: str = ""
    wait: float = 0.0


class Sender:
    """Sends events and metrics from any thread to one endpoint; safe to fork.

    `encode` turns an item into one line; it is called in the sender's own thread.
    """

    def __init__(
        self, endpoint: str, encode: Callable[[Event | Metric], bytes], limits: Limits | None = None
    ) -> None:
        self._address = urlsplit(endpoint)
        self._encode = encode
        self._limits = limits or Limits()
        self._begin()
        _senders.add(self)

    def _begin(self) -> None:
        """Start from nothing; after a fork, what is queued is the parent's to send, and so is its lock."""
        self._condition = threading.Condition(threading.Lock())
        self._queue: deque[Event] = deque()
        self._metrics: dict[MetricKey, Metric] = {}
        self._dropped: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._end: float | None = None
        self._connection: socket.socket | None = None
        # The thread wants to be woken when so many events wait; None: not at all.
        self._wanted: int | None = None

    @property
    def dropped(self) -> dict[str, int]:
        """How many items were never accepted, by reason."""
        with self._condition:
            return dict(self._dropped)

    def put(self, events: Sequence[Event], observations: Sequence[tuple[MetricKey, float]] = ()) -> None:
        """Queue `events`, add `observations` to their metrics; never waits for the endpoint."""
        if not events and not observations:
            return
        with self._condition:
            if self._end is not None:
                self._dropped[CLOSED] += len(events) + len(observations)
                return
            room = max(0, self._limits.capacity - len(self._queue))
            self._queue.extend(events[:room])
            if len(events) > room:
                self._dropped[QUEUE_FULL] += len(events) - room
            for key, value in observations:
                metric = self._metrics.get(key)
                if metric is None:
                    if len(self._metrics) >= self._limits.metrics:
                        self._dropped[QUEUE_FULL] += 1
                        continue
                    metric = self._metrics[key] = Metric(key[0], dict(key[1]), time.time())
                metric.observe(value)
            if self._thread is None:
                self._start()
            elif self._wanted is not None and len(self._queue) >= self._wanted:
                self._wanted = None
                self._condition.notify()

    def close(self) -> None:
        """Send what waits, in one try, and stop; returns within a second. Safe to call twice."""
        with self._condition:
            if self._end is None:
                self._end = time.monotonic() + self._limits.close
            self._condition.notify()
            thread, end = self._thread, self._end
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
            self._hang_up()
            thread.join(_HANG_UP_SECONDS)
        atexit.unregister(self.close)
        self._drop_all()

    def _start(self) -> None:
        """Start the thread; the caller holds the lock."""
        thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or the system has no thread to give
            self._dropped[CLOSED] += len(self._queue) + len(self._metrics)
            self._queue.clear()
            self._metrics.clear()
            return
        self._thread = thread
        atexit.register(self.close)

    def _hang_up(self) -> None:
        """End the request that is under way, if there is one: its thread then counts what is lost."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _drop_all(self) -> None:
        with self._condition:
            left = len(self._queue) + len(self._metrics)
            if left:
                self._dropped[CLOSED] += left
            self._queue.clear()
            self._metrics.clear()

    # --- in the background thread -------------------------------------------

    def _run(self) -> None:
        failures = 0
        while (items := self._next()) is not None:
            lines: Sequence[bytes] = self._lines(items)
            tries = 0
            while lines:
                outcome = self._send(lines)
                if outcome.refused:
                    self._drop(REFUSED, outcome.refused)
                if outcome.trouble and not failures:
                    logger.warning("telemetry is not accepted: %s (requests go on)", outcome.trouble)
                if not outcome.trouble and failures:
                    logger.info("telemetry is accepted again; dropped so far: %s", self.dropped)
                failures = failures + 1 if outcome.trouble else 0
                lines = outcome.again
                tries += 1
                if tries >= self._limits.tries or self._closing():
                    self._drop(GIVEN_UP, len(lines))
                    lines = ()
                if outcome.trouble:
                    self._rest(failures, outcome.wait)
            if failures and self._closing():
                self._drop_all()

    def _next(self) -> list[Event | Metric] | None:
        """Wait for something, then a little for more; None when there is nothing left and never will be."""
        with self._condition:
            while not self._queue and not self._metrics and self._end is None:
                self._wanted = 0
                self._condition.wait()
            due = time.monotonic() + self._limits.every
            while len(self._queue) < self._limits.batch and self._end is None:
                left = due - time.monotonic()
                if left <= 0:
                    break
                self._wanted = self._limits.batch
                self._condition.wait(left)
            self._wanted = None
            items: list[Event | Metric] = [*self._metrics.values()]
            self._metrics.clear()
            while self._queue and len(items) < self._limits.batch:
                items.append(self._queue.popleft())
            if items:
                items += self._dropped_since()
        return items or None

    def _dropped_since(self) -> list[Metric]:
        """Return how many items this process has dropped so far, by reason, where that has grown."""
        found = []
        for reason, count in self._dropped.items():
            if count > self._told[reason]:
                metric = Metric("TelemetryDropped", {"reason": reason}, time.time())
                metric.observe(count)
                found.append(metric)
                self._told[reason] = count
        return found

    def _lines(self, items: Sequence[Event | Metric]) -> list[bytes]:
        lines = []
        for number, item in enumerate(items, start=1):
            try:
                lines.append(self._encode(item))
            except Exception:  # one that cannot be written must not stop the others
                logger.exception("an item of telemetry cannot be written: %s", item.name)
                self._drop(REFUSED, 1)
            if number % _ENCODED_AT_ONCE == 0 and not self._closing():
                time.sleep(_STAND_BACK_SECONDS)
        return lines

    def _send(self, lines: Sequence[bytes]) -> _Outcome:
        seconds = self._limits.timeout
        if self._end is not None:
            seconds = min(seconds, self._end - time.monotonic())
        if seconds <= 0:
            return _Outcome(again=lines, trouble="this process is ending")
        try:
            return _read_answer(lines, *self._post(b"\n".join(lines), seconds))
        except (OSError, http.client.HTTPException) as error:
            return _Outcome(again=lines, trouble=f"{type(error).__name__}: {error}")
        except Exception as unexpected:  # a bug: the thread must live on
            logger.exception("telemetry cannot be sent")
            return _Outcome(refused=len(lines), trouble=repr(unexpected))

    def _post(self, body: bytes, seconds: float) -> tuple[int, str, bytes]:
        """Return status, `Retry-After` and body of the answer.

        Raises:
            OSError, HTTPException: there was none within `seconds`.
        """
        end = time.monotonic() + seconds
        address = self._address
        host, port = address.hostname or "", address.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=seconds, context=_tls())
            if address.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=seconds)
        )
        try:
            connection.connect()
            self._connection = connection.sock
            connection.sock.settimeout(max(0.001, end - time.monotonic()))
            path = address.path.rstrip("/") + _PATH
            connection.request("POST", path, gzip.compress(body, compresslevel=6), _HEADERS)
            # Not `getresponse`: its timeout starts anew with every byte, and a slow endpoint
            # would keep this thread for hours.
            answer = _Answer(connection.sock, end)
            with http.client.HTTPResponse(cast(socket.socket, answer), method="POST") as response:
                response.begin()
                said = response.read(_LARGEST_ANSWER)
                return response.status, response.getheader("Retry-After") or "", said
        finally:
            self._connection = None
            connection.close()

    def _rest(self, failures: int, asked: float) -> None:
        """Wait after a failure, longer after each; closing ends the wait."""
        limits = self._limits
        pause = min(limits.longest_pause, max(asked, limits.pause * 2.0 ** min(failures - 1, 30)))
        until = time.monotonic() + pause
        with self._condition:
            while self._end is None and (left := until - time.monotonic()) > 0:
                self._condition.wait(left)

    def _closing(self) -> bool:
        return self._end is not None

    def _drop(self, reason: str, count: int) -> None:
        if count:
            with self._condition:
                self._dropped[reason] += count


@cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes longer than everything else: once is enough.
    return ssl.create_default_context()


class _Answer(io.RawIOBase):
    """What a socket receives up to a moment, as `HTTPResponse` reads it."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection = connection
        self._end = end

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _read_answer(lines: Sequence[bytes], status: int, retry_after: str, body: bytes) -> _Outcome:
    if status == 206:
        return _read_partial(lines, body)
    if 200 <= status < 300:
        return _Outcome()
    said = f"the endpoint answers {status}"
    if _worth_another_try(status):
        wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return _Outcome(again=lines, trouble=said, wait=wait)
    return _Outcome(refused=len(lines), trouble=said)


def _read_partial(lines: Sequence[bytes], body: bytes) -> _Outcome:
    """Find out which lines were not taken, and which of them may be taken later."""
    try:
        faults = {int(fault["index"]): int(fault["statusCode"]) for fault in json.loads(body)["errors"]}
    except (ValueError, KeyError, TypeError):
        return _Outcome(refused=len(lines), trouble="the endpoint takes a part and does not say which")
    faults = {index: status for index, status in faults.items() if 0 <= index < len(lines)}
    again = [lines[index] for index, status in sorted(faults.items()) if _worth_another_try(status)]
    return _Outcome(
        again=again,
        refused=len(faults) - len(again),
        trouble=f"{len(faults)} of {len(lines)} items are not taken" if faults else "",
    )


def _worth_another_try(status: int) -> bool:
    return status >= 500 or status in _WORTH_ANOTHER_TRY


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _after_fork() -> None:
    for sender in _senders:
        sender._begin()


os.register_at_fork(after_in_child=_after_fork)
