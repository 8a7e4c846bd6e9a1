"""Callers of the app: over HTTP, with nothing but what an answer told them."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from localhost.errors import LocalhostError

_TIMEOUT_SECONDS = 30.0


class Client:
    """One connection to the app, kept open; for one thread."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=_TIMEOUT_SECONDS
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> Any:
        """Return the answer, decoded.

        Raises:
            LocalhostError: there is none, or it is no good one.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, object]) -> Any:
        """Send JSON and return the answer, decoded; raises as `get`."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def predict(self, text: str) -> dict[str, Any]:
        """Return what the app says of a text."""
        answer: dict[str, Any] = self.post("/api/predict", {"text": text})
        return answer

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise LocalhostError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if not 200 <= answer.status < 300:
            raise LocalhostError(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:300]}")
        return msgspec.json.decode(content)


class Onlooker:
    """Predicts all the time, in a thread, and remembers what failed and which versions answered."""

    def __init__(self, url: str, texts: Sequence[str], *, every: float, now: Callable[[], float]) -> None:
        """Ask about `texts` in turn, one `every` so many seconds; `now` is the time of the demonstration."""
        self._url = url
        self._texts = texts
        self._every = every
        self._now = now
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="onlooker", daemon=True)
        self.requests = 0
        self.failures: list[str] = []
        #: When each version first answered.
        self.versions: dict[str, float] = {}
        #: The longest that an answer took, in seconds.
        self.slowest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        with Client(self._url) as client:
            while not self._stopping.wait(self._every):
                started = time.perf_counter()
                try:
                    version = client.predict(self._texts[self.requests % len(self._texts)])["model_version"]
                    self.versions.setdefault(version, self._now())
                except (LocalhostError, KeyError, msgspec.DecodeError) as error:
                    self.failures.append(f"{self._now():.0f} s: {error}")
                self.requests += 1
                self.slowest = max(self.slowest, time.perf_counter() - started)
