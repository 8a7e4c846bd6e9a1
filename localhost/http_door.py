"""The HTTP side of the host: an ASGI application that turns requests into function calls."""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from localhost.bindings import Answer, decode_http_request, encode_http_response
from localhost.errors import FunctionFailed
from localhost.functions import Function
from localhost.host_json import HostOptions
from localhost.invocation import Invoker, http_result
from localhost.routes import Router

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RunNow = Callable[[str, str], Awaitable[None]]

#: The platform's own limit: 100 MB, FUNCTIONS_REQUEST_BODY_SIZE_LIMIT.
LARGEST_BODY = 104_857_600
#: Where `/` leads when the app has it.
PAGE = "api/app"

_ADMIN = "admin/functions/"
_WITHOUT_BODY = (204, 304)
#: The server writes these itself.
_SERVER_HEADERS = {"content-length", "transfer-encoding", "connection"}


class Keys(NamedTuple):
    """The keys that callers must show: `function` opens functions, `master` everything."""

    function: str
    master: str

    def allow(self, level: str, shown: str) -> bool:
        """Return whether `shown` opens a function of auth level `level`."""
        if level == "anonymous":
            return True
        accepted = (self.master,) if level == "admin" else (self.function, self.master)
        return any(hmac.compare_digest(shown.encode(), key.encode()) for key in accepted)


class BodyTooLarge(Exception):
    """The request has more bytes than the platform takes."""


class HttpDoor:
    """Routes requests to functions; `keys` None lets everybody in."""

    def __init__(
        self,
        functions: Sequence[Function],
        router: Router,
        invoker: Invoker,
        options: HostOptions,
        keys: Keys | None,
        run_now: RunNow,
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._router = router
        self._invoker = invoker
        self._keys = keys
        self._run_now = run_now
        self._background: set[asyncio.Task[None]] = set()
        self._extra_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in options.custom_headers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is refused by the server's settings."""
        try:
            answer = await self._answer(scope, receive)
        except asyncio.CancelledError:
            # The host stops and its grace is over: say so rather than hang up.
            answer = _empty(503)
        headers = [(name.lower(), value) for name, value in answer.headers]
        try:
            raw = [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in headers
                if name not in _SERVER_HEADERS
            ]
            if any(b"\n" in part or b"\r" in part for pair in raw for part in pair):
                raise ValueError("a line break in a header")
        except ValueError as error:
            logger.error("%s: the answer has a header that HTTP cannot carry: %s", scope["path"], error)
            answer, raw = _empty(500), []
        body = b"" if answer.status in _WITHOUT_BODY else answer.body
        if answer.status not in _WITHOUT_BODY:
            raw.append((b"content-length", str(len(body)).encode()))
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": raw + self._extra_headers}
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["raw_path"].decode("latin-1").lstrip("/")
        found = self._router.find(scope["method"], path)
        if found is None:
            if path.startswith(_ADMIN):
                return await self._administer(scope, receive, path.removeprefix(_ADMIN))
            return self._landing(scope) if path == "" else _empty(404)
        route, route_params = found
        function = self._functions[route.function]
        headers = _headers(scope)
        query = scope["query_string"].decode("latin-1")
        params = _params(query)
        if not self._allowed(function.auth_level, headers, params):
            return _empty(401)
        try:
            body = await _body(receive, headers)
        except BodyTooLarge:
            return _empty(413)
        url = f"{scope['scheme']}://{headers.get('host', 'localhost')}/{path}{f'?{query}' if query else ''}"
        request = decode_http_request(scope["method"], url, headers, params, route_params, body)
        try:
            result = await self._invoker.run(
                function,
                request,
                f"{scope['method']} /{path}",
                headers.get("traceparent", ""),
                headers.get("tracestate", ""),
            )
        except FunctionFailed:  # logged by the invoker; the platform, too, tells the caller nothing
            return _empty(500)
        try:
            return encode_http_response(http_result(function, result))
        except TypeError as error:
            logger.error("%s: %s: return a func.HttpResponse", function.name, error)
            return _empty(500)

    async def _administer(self, scope: Scope, receive: Receive, name: str) -> Answer:
        """`POST /admin/functions/{name}`: run a function that HTTP does not start, as on the platform.

        Answers 202 at once; with `Prefer: wait` (RFC 7240) it answers when the
        function has run: 200, or 500 with what it raised.
        """
        headers = _headers(scope)
        if scope["method"] != "POST":
            return _empty(404)
        if not self._allowed("admin", headers, _params(scope["query_string"].decode("latin-1"))):
            return _empty(401)
        # A page in a browser cannot send this type to another origin without asking first.
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _json(415, error="send 'Content-Type: application/json'")
        try:
            document = json.loads(await _body(receive, headers) or b"{}")
            given = str(document.get("input") or "")
        except (ValueError, AttributeError, BodyTooLarge):
            return _json(400, error='send {"input": "..."}')
        function = self._functions.get(name)
        if function is None:
            return _json(404, error=f"there is no function {name}: {', '.join(self._functions)}")
        if function.answers_http:
            return _json(400, error=f"{name} is started by HTTP: call its address")
        run = asyncio.ensure_future(self._run_now(name, given))
        self._background.add(run)
        run.add_done_callback(self._forget)
        if "wait" not in headers.get("prefer", ""):
            return _empty(202)
        try:
            await asyncio.shield(run)
        except FunctionFailed as error:
            return _json(500, error=str(error))
        return _json(200, outcome="succeeded")

    def _forget(self, run: asyncio.Task[None]) -> None:
        self._background.discard(run)
        if not run.cancelled():
            run.exception()  # logged by the invoker; taken here so that asyncio does not log it again

    def _landing(self, scope: Scope) -> Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return _empty(404)
        if self._router.find("GET", PAGE) is not None:
            return Answer(302, [("location", f"/{PAGE}")], b"")
        lines = "".join(
            f"<li><code>{html.escape(' '.join(sorted(route.methods)) or 'ANY')} "
            f"/{html.escape(route.template.text)}</code></li>"
            for route in self._router.routes
        )
        page = f"<!doctype html><title>Functions</title><p>This Function App serves:</p><ul>{lines}</ul>"
        return Answer(200, [("content-type", "text/html; charset=utf-8")], page.encode())

    def _allowed(self, level: str, headers: Mapping[str, str], params: Mapping[str, str]) -> bool:
        return self._keys is None or self._keys.allow(
            level, headers.get("x-functions-key") or params.get("code", "")
        )


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ","
        headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    return headers


def _params(query: str) -> dict[str, str]:
    """Return the query's parameters; empty ones are dropped and repeated ones joined, as on the platform."""
    params: dict[str, str] = {}
    for name, value in parse_qsl(query) if query else ():
        params[name] = f"{params[name]},{value}" if name in params else value
    return params


async def _body(receive: Receive, headers: Mapping[str, str]) -> bytes:
    if int(headers.get("content-length", 0)) > LARGEST_BODY:
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(chunks)
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST_BODY:
            raise BodyTooLarge
        if not message.get("more_body"):
            return b"".join(chunks)


def _empty(status: int) -> Answer:
    return Answer(status, [], b"")


def _json(status: int, **content: str) -> Answer:
    return Answer(status, [("content-type", "application/json")], json.dumps(content).encode())
