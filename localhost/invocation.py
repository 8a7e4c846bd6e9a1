"""Running functions: blocking ones in a pool of threads, asynchronous ones on the event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import azure.functions as func

from localhost.bindings import Output
from localhost.errors import FunctionFailed, LocalhostError
from localhost.functions import HTTP_OUTPUT, QUEUE_OUTPUT, RETURN, Binding, Function

logger = logging.getLogger(__name__)

_THREADS_SETTING = "PYTHON_THREADPOOL_THREAD_COUNT"
_local = threading.local()


class Result(NamedTuple):
    """What a function that ran to its end left behind."""

    value: Any
    outputs: Mapping[str, Any]


class TraceContext(NamedTuple):
    """The W3C trace context of one invocation."""

    trace_parent: str
    trace_state: str
    attributes: Mapping[str, str] = MappingProxyType({})


class Context(func.Context):
    """What a function learns of its own invocation through a parameter `context`."""

    def __init__(self, function: Function, trace_parent: str, trace_state: str) -> None:
        self._function = function
        self._invocation_id = str(uuid.uuid4())
        self._trace = TraceContext(
            trace_parent or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01", trace_state
        )

    @property
    def invocation_id(self) -> str:
        """Unique to this invocation; the log names it."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        """Where `invocation_id` is kept for the thread that runs the function."""
        return _local

    @property
    def function_name(self) -> str:
        """The function's name."""
        return self._function.name

    @property
    def function_directory(self) -> str:
        """The folder of the function's code."""
        return self._function.call.__code__.co_filename.rpartition("/")[0]

    @property
    def trace_context(self) -> Any:
        """The caller's trace context."""
        return self._trace

    @property
    def retry_context(self) -> Any:
        """None: this host leaves retries to the queue."""
        return None


class Invoker:
    """Runs functions and keeps account of those under way."""

    def __init__(self, threads: int | None, send: Callable[[Binding, Any, Any], None]) -> None:
        """`threads` None is Python's default; `send` puts a value out through a queue binding."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._send = send
        self._running: dict[str, str] = {}

    @property
    def running(self) -> list[str]:
        """The names of the functions under way."""
        return sorted(self._running.copy().values())

    async def run(
        self, function: Function, argument: Any, reason: str, trace_parent: str = "", trace_state: str = ""
    ) -> Result:
        """Run `function` on what triggered it, and put its queue outputs out.

        Raises:
            FunctionFailed: the function, or the sending of its outputs, raised; logged here.
        """
        context = Context(function, trace_parent, trace_state)
        outputs = {binding.name: Output() for binding in function.outputs if binding.name != RETURN}
        arguments: dict[str, Any] = {function.trigger.name: argument, **outputs}
        if function.wants_context:
            arguments["context"] = context
        logger.info("Executing %s (%s, id %s)", function.name, reason, context.invocation_id)
        started = time.perf_counter()
        self._running[context.invocation_id] = function.name
        try:
            if function.is_async:
                value = await function.call(**arguments)
            else:
                value = await self._run_in_thread(function, context, arguments)
            result = Result(value, {name: output.get() for name, output in outputs.items()})
            await self._put_out(function, result)
        except (Exception, SystemExit) as error:
            logger.exception(
                "Failed %s after %.0f ms (id %s)",
                function.name,
                (time.perf_counter() - started) * 1e3,
                context.invocation_id,
            )
            raise FunctionFailed(function.name, error) from error
        finally:
            if function.is_async:
                self._running.pop(context.invocation_id)
        logger.info(
            "Executed %s in %.0f ms (id %s)",
            function.name,
            (time.perf_counter() - started) * 1e3,
            context.invocation_id,
        )
        return result

    async def _run_in_thread(self, function: Function, context: Context, arguments: Mapping[str, Any]) -> Any:
        # A thread cannot be cancelled: whoever stops waiting for it leaves it among the running.
        submitted = self._pool.submit(_call, function, context, arguments)
        submitted.add_done_callback(lambda _: self._running.pop(context.invocation_id))
        return await asyncio.wrap_future(submitted)

    def close(self) -> None:
        """Take no more work; threads end with the functions they run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _put_out(self, function: Function, result: Result) -> None:
        returns = {binding.name for binding in function.outputs} & {RETURN}
        if result.value is not None and not returns:
            raise TypeError(
                f"{function.name} returned a {type(result.value).__name__}, but has no output to return it to"
            )
        for binding in function.outputs:
            if binding.type == QUEUE_OUTPUT:
                value = result.value if binding.name == RETURN else result.outputs[binding.name]
                if value is not None:
                    annotation = function.annotations.get(
                        "return" if binding.name == RETURN else binding.name
                    )
                    await asyncio.get_running_loop().run_in_executor(
                        None, self._send, binding, value, annotation
                    )


def http_result(function: Function, result: Result) -> Any:
    """Return what the function says to its caller, wherever its HTTP output is bound."""
    for binding in function.outputs:
        if binding.type == HTTP_OUTPUT and binding.name != RETURN:
            return result.outputs[binding.name]
    return result.value


def thread_count(environ: Mapping[str, str]) -> int | None:
    """Return how many threads run blocking functions, None for Python's default.

    Raises:
        LocalhostError: PYTHON_THREADPOOL_THREAD_COUNT is no positive number.
    """
    given = environ.get(_THREADS_SETTING, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise LocalhostError(f"{_THREADS_SETTING} must be a positive whole number, got {given!r}")
    return int(given)


def _call(function: Function, context: Context, arguments: Mapping[str, Any]) -> Any:
    _local.invocation_id = context.invocation_id
    return function.call(**arguments)
