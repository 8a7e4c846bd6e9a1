"""Queue triggers and queue outputs, with the polling, retries and poison queues of the platform.

What is imitated is `QueueListener` and `QueueProcessor` of the platform's storage
extension 5: a message is hidden for ten minutes while its function runs (renewed
half-way), deleted when the function succeeds, made visible again after
`visibilityTimeout` when it fails, and moved to `<queue>-poison` at the
`maxDequeueCount`-th failure.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import ExponentialRetry, QueueClient, QueueMessage

from localhost.bindings import decode_queue_message, encode_queue_messages
from localhost.errors import FunctionFailed
from localhost.functions import Binding, Function
from localhost.host_json import QueueOptions, duration
from localhost.invocation import Invoker

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a message is hidden while its function runs, in seconds.
HIDDEN_SECONDS = 600
_SHORTEST_WAIT = 0.1
_NO_WAIT = 0.0


class Queues:
    """The storage queues that an app's functions read and write."""

    def __init__(self, options: QueueOptions, environ: Mapping[str, str]) -> None:
        self.options = options
        self._environ = environ
        self._clients: dict[tuple[str, str], QueueClient] = {}
        self._listeners: list[QueueListener] = []
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="queue")

    def open(self, binding: Binding, suffix: str = "") -> QueueClient:
        """Return the client of a binding's queue, or of the one named `<queue><suffix>`."""
        connection = binding.connection_string(self._environ)
        name = binding.option("queueName", self._environ) + suffix
        key = (connection, name)
        if key not in self._clients:
            # Text goes over as it is: encoding is host.json's business, not the client's.
            self._clients[key] = QueueClient.from_connection_string(
                connection,
                name,
                retry_policy=ExponentialRetry(initial_backoff=0, increment_base=2, retry_total=2),
                connection_timeout=5,
                read_timeout=30,
            )
        return self._clients[key]

    def create(self, binding: Binding, suffix: str = "") -> None:
        """Create a binding's queue if it does not exist."""
        with contextlib.suppress(ResourceExistsError):
            self.open(binding, suffix).create_queue()

    def send(self, binding: Binding, value: Any, annotation: Any) -> None:
        """Put an output value on its queue, creating the queue if need be.

        Raises:
            TypeError: the value cannot be put on a queue.
            AzureError: storage refused it.
        """
        client = self.open(binding)
        for message in encode_queue_messages(value, annotation):
            _send(client, self._encode(message))
        for listener in self._listeners:
            listener.look_again(client.queue_name)

    def listen(self, function: Function, invoker: Invoker) -> QueueListener:
        """Return a listener that runs `function` on the messages of its queue."""
        listener = QueueListener(function, self, invoker)
        self._listeners.append(listener)
        return listener

    def decode(self, content: str) -> str:
        """Return the text of a stored message.

        Raises:
            ValueError: `host.json` promises base64 and this is none, or it is no UTF-8.
        """
        if self.options.message_encoding == "none":
            return content
        try:
            return base64.b64decode(content, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(
                "the message is not base64-encoded UTF-8 (extensions.queues.messageEncoding in host.json): "
                "the sender must encode it, azure-storage-queue with TextBase64EncodePolicy"
            ) from error

    async def off_loop(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run a blocking storage call without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: call(*arguments, **options)
        )

    def close(self) -> None:
        """Release the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _encode(self, message: str | bytes) -> str:
        if self.options.message_encoding == "none":
            return message if isinstance(message, str) else message.decode()
        return base64.b64encode(message.encode() if isinstance(message, str) else message).decode()


class QueueListener:
    """Polls one queue and runs one function on what it finds."""

    def __init__(self, function: Function, queues: Queues, invoker: Invoker) -> None:
        self._function = function
        self._queues = queues
        self._invoker = invoker
        self._client = queues.open(function.trigger)
        self._poison = queues.open(function.trigger, "-poison")
        self._annotation = function.annotations.get(function.trigger.name)
        self._binary = str(function.trigger.options.get("dataType") or "").lower() == "binary"
        self._under_way: dict[asyncio.Task[None], QueueMessage] = {}
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._reachable = True
        self._loop = asyncio.get_running_loop()

    def look_again(self, queue: str) -> None:
        """Poll at once if this is the queue's listener: a message was just put on it."""
        if queue == self._client.queue_name:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Poll until `stop` is called."""
        options = self._queues.options
        threshold = (
            options.batch_size // 2 if options.new_batch_threshold is None else options.new_batch_threshold
        )
        longest_wait = duration(options.max_polling_interval).total_seconds()
        wait = _NO_WAIT
        while not self._stopping.is_set():
            while len(self._under_way) > threshold and not self._stopping.is_set():
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            self._wake.clear()
            messages = await self._receive(options.batch_size)
            if self._stopping.is_set():
                await asyncio.gather(*map(self._release, messages))
                return
            for message in messages:
                task = asyncio.create_task(self._process(message))
                self._under_way[task] = message
                task.add_done_callback(self._under_way.pop)
            if messages:
                wait = _NO_WAIT
                continue
            # The platform's randomised exponential back-off.
            wait = min(max(_SHORTEST_WAIT, 2 * wait * random.uniform(0.8, 1.2)), longest_wait)
            await _first_of(self._wake, self._stopping, seconds=wait)

    async def stop(self, seconds: float) -> None:
        """Fetch no more, wait for the functions under way, and give back what they did not finish."""
        self._stopping.set()
        self._wake.set()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)
        for task, message in list(self._under_way.items()):
            task.cancel()
            await self._release(message)

    async def _receive(self, count: int) -> list[QueueMessage]:
        def receive() -> list[QueueMessage]:
            pages = self._client.receive_messages(
                messages_per_page=count, max_messages=count, visibility_timeout=HIDDEN_SECONDS
            )
            return list(pages)

        try:
            messages = await self._queues.off_loop(receive)
        except ResourceNotFoundError:
            return []
        except AzureError as error:
            if self._reachable and not self._stopping.is_set():
                logger.warning("Cannot read the queue %s: %s", self._client.queue_name, _first_line(error))
            self._reachable = False
            return []
        if not self._reachable:
            logger.warning("The queue %s can be read again", self._client.queue_name)
            self._reachable = True
        return messages

    async def _process(self, message: QueueMessage) -> None:
        try:
            succeeded = await self._keep_hidden(message, self._run(message))
            if succeeded:
                await self._queues.off_loop(self._client.delete_message, message)
            elif (message.dequeue_count or 0) >= self._queues.options.max_dequeue_count:
                await self._move_to_poison(message)
            else:
                await self._release(
                    message, duration(self._queues.options.visibility_timeout).total_seconds()
                )
        except AzureError as error:
            # It becomes visible again by itself: at least once, never lost.
            logger.warning("Cannot settle message %s: %s", message.id, _first_line(error))

    async def _run(self, message: QueueMessage) -> bool:
        """Run the function on one message and return whether it succeeded."""
        if (message.dequeue_count or 0) > self._queues.options.max_dequeue_count:
            return False
        try:
            argument = decode_queue_message(
                message, self._queues.decode(message.content), self._annotation, self._binary
            )
        except ValueError as error:
            logger.error("%s: message %s: %s", self._function.name, message.id, error)
            return False
        reason = f"message {message.id} on {self._client.queue_name}, attempt {message.dequeue_count}"
        with contextlib.suppress(FunctionFailed):  # logged by the invoker; here it only means "not done"
            await self._invoker.run(self._function, argument, reason)
            return True
        return False

    async def _keep_hidden(self, message: QueueMessage, work: Awaitable[bool]) -> bool:
        """Await `work`, renewing the message's invisibility half-way through each term."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait([task], timeout=HIDDEN_SECONDS / 2))[0]:
                await self._hide(message, HIDDEN_SECONDS)
            return task.result()
        finally:
            task.cancel()

    async def _hide(self, message: QueueMessage, seconds: float) -> None:
        updated = await self._queues.off_loop(
            self._client.update_message, message, visibility_timeout=int(seconds)
        )
        message.pop_receipt = updated.pop_receipt

    async def _release(self, message: QueueMessage, seconds: float = 0) -> None:
        try:
            await self._hide(message, seconds)
        except HttpResponseError as error:
            logger.warning("Cannot give back message %s: %s", message.id, _first_line(error))
        self._wake.set()

    async def _move_to_poison(self, message: QueueMessage) -> None:
        await self._queues.off_loop(_send, self._poison, message.content)
        await self._queues.off_loop(self._client.delete_message, message)
        logger.error(
            "%s: message %s failed %s times and went to %s",
            self._function.name,
            message.id,
            self._queues.options.max_dequeue_count,
            self._poison.queue_name,
        )


def _send(client: QueueClient, content: str) -> None:
    try:
        client.send_message(content)
    except ResourceNotFoundError:
        with contextlib.suppress(ResourceExistsError):
            client.create_queue()
        client.send_message(content)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of `events` is set, at most `seconds`."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
