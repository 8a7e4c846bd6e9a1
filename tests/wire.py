"""What passes between the SDK and storage, for tests that count it, cut it, or stop it halfway."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.data.tables import TableClient
from azure.storage.blob import ContainerClient, LinearRetry

from localhost.azurite import Azurite


class ProcessDied(BaseException):
    """Stands for the end of the process: no `except Exception` may go on after it."""


class Exchange(NamedTuple):
    """One request that storage has answered."""

    method: str
    path: str
    status: int


class Wire:
    """Sees every exchange of the containers it opens, once storage has done its part."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        #: The process dies before it sees the n-th answer, from 1.
        self.die_after: int | None = None
        #: The n-th answer is lost, from 1: the SDK asks again.
        self.lose: int | None = None
        #: Called with every exchange; may wait.
        self.on_exchange: Callable[[Exchange], None] = lambda exchange: None
        #: Requests for paths that begin with this find nobody listening; None lets all through.
        self.cut: str | None = None
        self._lock = threading.Lock()

    def open(self, azurite: Azurite, name: str | None = None) -> ContainerClient:
        """Return a client for the container `name`, or for a new one."""
        container = ContainerClient.from_connection_string(
            azurite.connection_string,
            name or f"t{uuid.uuid4().hex}",
            retry_policy=LinearRetry(backoff=0, retry_total=2, random_jitter_range=0),
            raw_request_hook=self._asked,
            raw_response_hook=self._answered,
        )
        if name is None:
            container.create_container()
        self.forget()
        return container

    def open_table(self, azurite: Azurite, name: str) -> TableClient:
        """Return a client for the table `name`."""
        table = TableClient.from_connection_string(
            azurite.connection_string,
            name,
            retry_total=2,
            retry_backoff_factor=0,
            raw_request_hook=self._asked,
            raw_response_hook=self._answered,
        )
        self.forget()
        return table

    def hooks(self) -> dict[str, Any]:
        """Return the options with which any client of the SDK lets its exchanges be seen."""
        return {"raw_request_hook": self._asked, "raw_response_hook": self._answered}

    def forget(self) -> None:
        """Count from here."""
        self.exchanges.clear()
        self.die_after = self.lose = None

    def of(self, method: str) -> list[str]:
        """Return what was asked for with `method`, in order: paths below the container."""
        return [exchange.path for exchange in self.exchanges if exchange.method == method]

    def _asked(self, request: Any) -> None:
        if self.cut is not None and _path(request.http_request).startswith(self.cut):
            raise ServiceRequestError("nobody listens there")

    def _answered(self, response: Any) -> None:
        request = response.http_request
        exchange = Exchange(request.method, _path(request), response.http_response.status_code)
        with self._lock:
            self.exchanges.append(exchange)
            number = len(self.exchanges)
        self.on_exchange(exchange)
        if number in (self.die_after, self.lose):
            response.http_response.internal_response.close()
            raise ProcessDied if number == self.die_after else ServiceResponseError("the answer was lost")


def _path(request: Any) -> str:
    """Return what follows /account/container/ in a request's address."""
    return "".join(unquote(urlsplit(request.url).path).split("/", 3)[3:])
