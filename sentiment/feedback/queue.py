"""One storage queue, as people and commands use it: the border where the SDK's errors become ours.

The platform reads the queue for the app; this is for sending files, for the poison
queue, and for finding one person's messages.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from sentiment.storage import storage_errors

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

# What a sweep has seen is hidden from others for so long, or until it ends.
_HIDDEN_SECONDS = 120
_PAGE = 32


class Queued(NamedTuple):
    """A message as it lies on the queue."""

    id: str
    body: bytes
    #: As stored: base64, if whoever sent it did as they should.
    content: str
    inserted_at: str


class MessageQueue:
    """A queue of base64-encoded messages, created when it is first written to.

    Every method raises `StoreUnavailable` where storage does not answer.
    """

    def __init__(self, client: QueueClient) -> None:
        self._client = client

    @property
    def name(self) -> str:
        """The queue's name."""
        return str(self._client.queue_name)

    def send(self, body: str) -> None:
        """Put a message on the queue."""
        self.put(base64.b64encode(body.encode()).decode())

    def put(self, content: str) -> None:
        """Put a message on the queue as it is to be stored."""
        with storage_errors(f"write to the queue {self.name}"):
            try:
                self._client.send_message(content)
            except ResourceNotFoundError:
                with suppress(ResourceExistsError):
                    self._client.create_queue()
                self._client.send_message(content)

    def sweep(self, decide: Callable[[Queued], Literal["keep", "delete"]]) -> int:
        """Show `decide` every message that nobody else is working on; return how many it had deleted.

        What is kept is hidden from others until the sweep ends, and its count of
        attempts is one higher afterwards: storage has no other way to look past the
        first 32 messages.
        """
        kept, deleted = [], 0
        seen: set[str] = set()
        with storage_errors(f"read the queue {self.name}"):
            try:
                try:
                    while page := list(
                        self._client.receive_messages(
                            messages_per_page=_PAGE, max_messages=_PAGE, visibility_timeout=_HIDDEN_SECONDS
                        )
                    ):
                        if seen.issuperset(message.id for message in page):
                            # So many that the first ones are visible again.
                            break
                        for message in page:
                            seen.add(message.id)
                            kept.append(message)
                            if decide(_queued(message)) == "delete":
                                with suppress(ResourceNotFoundError):
                                    self._client.delete_message(message)
                                deleted += 1
                                kept.pop()
                finally:
                    for message in kept:
                        # Another has it by now, or it is gone: not ours to give back.
                        with suppress(HttpResponseError):
                            self._client.update_message(message, visibility_timeout=0)
            except ResourceNotFoundError:
                return deleted
        return deleted


def _queued(message: object) -> Queued:
    content = str(getattr(message, "content", ""))
    try:
        body = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        body = content.encode("utf-8", "surrogatepass")
    inserted = getattr(message, "inserted_on", None)
    return Queued(
        str(getattr(message, "id", "")),
        body,
        content,
        inserted.isoformat(timespec="seconds") if inserted else "",
    )
