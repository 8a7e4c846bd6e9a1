"""HTTP requests become function calls, and results answers, as on the platform."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from localhost.http_door import LARGEST_BODY, Keys
from tests.localhost.apps import DEADLINE_SECONDS, ServedApp, until

Serve = Callable[..., ServedApp]

ECHO = """
import json
@app.route(route="echo/{id?}")
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps({
            "method": req.method, "url": req.url, "params": dict(req.params), "route": dict(req.route_params),
            "headers": dict(req.headers), "size": len(req.get_body()), "name": context.function_name,
            "trace": context.trace_context.trace_parent,
        }),
        mimetype="application/json",
    )
"""


def test_a_function_gets_the_request_as_the_platform_gives_it(serve: Serve) -> None:
    """Method, address, parameters, headers in lower case, body as bytes."""
    app = serve(ECHO)
    answer = app.request(
        "POST",
        "/api/echo/7?a=1&a=2&empty=&b=%C3%A9",
        body=b"\x00\xff",
        headers={"X-Thing": "One", "traceparent": "00-a-b-01"},
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said["method"] == "POST"
    assert said["url"] == f"http://127.0.0.1:{app.port}/api/echo/7?a=1&a=2&empty=&b=%C3%A9"
    assert said["params"] == {"a": "1,2", "b": "é"}
    assert said["route"] == {"id": "7"}
    assert said["headers"]["x-thing"] == "One"
    assert said["size"] == 2
    assert said["name"] == "echo"
    assert said["trace"] == "00-a-b-01"


def test_answers_carry_status_headers_type_and_cookies(serve: Serve) -> None:
    """What a function says is what the caller gets."""
    app = serve(
        """
@app.route(route="full")
def full(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse(
        "h\u00e9", status_code=201, headers={"X-A": "1"}, mimetype="text/html", charset="latin-1"
    )
    answer.headers.add("Set-Cookie", "a=1; Path=/")
    answer.headers.add("Set-Cookie", "b=2; HttpOnly")
    return answer
@app.route(route="text")
def text(req) -> str: return "plain"
@app.route(route="nothing")
def nothing(req) -> func.HttpResponse: return func.HttpResponse(status_code=204)
@app.route(route="out")
@app.generic_output_binding(arg_name="res", type="http")
def out(req, res: func.Out[func.HttpResponse]) -> str:
    res.set(func.HttpResponse("through the parameter", status_code=202))
    return "by value"
""",
        {"extensions": {"http": {"customHeaders": {"X-Everywhere": "yes"}}}},
    )
    full = app.get("/api/full")
    assert (full.status, full.body) == (201, "hé".encode("latin-1"))
    assert full.headers["content-type"] == "text/html; charset=latin-1"
    assert full.headers["x-a"] == "1"
    assert full.headers["x-everywhere"] == "yes"
    assert full.headers.get_all("set-cookie") == ["a=1; Path=/", "b=2; HttpOnly"]
    text = app.get("/api/text")
    assert (text.body, text.headers["content-type"]) == (b"plain", "text/plain; charset=utf-8")
    nothing = app.get("/api/nothing")
    assert (nothing.status, nothing.body, nothing.headers["content-length"]) == (204, b"", None)


BROKEN = """
@app.route(route="raises")
def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise KeyError("what was wrong")
@app.route(route="exits")
def exits(req: func.HttpRequest) -> func.HttpResponse:
    raise SystemExit(3)
@app.route(route="none")
def none(req: func.HttpRequest) -> func.HttpResponse:
    return None
@app.route(route="header")
def header(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse("x")
    answer.headers._list.append(("X-Bad", "a\\r\\nX-Injected: 1"))
    return answer
@app.route(route="fine")
def fine(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine")
"""


@pytest.mark.parametrize("path", ["raises", "exits", "none", "header"])
def test_a_function_that_fails_is_a_500_and_the_log_says_why(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """The caller learns nothing of the inside; the host goes on."""
    app = serve(BROKEN)
    answer = app.get(f"/api/{path}")
    assert (answer.status, answer.body) == (500, b"")
    assert "x-injected" not in answer.headers
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert path in errors[0].getMessage()
    if path == "raises":
        assert errors[0].exc_info is not None
        assert "what was wrong" in str(errors[0].exc_info[1])
    assert app.get("/api/fine").status == 200


def test_what_no_function_takes_is_a_404(serve: Serve) -> None:
    """Also a method that none takes, as on the platform: it belongs to the route."""
    app = serve(
        """
@app.route(route="only", methods=["POST"])
def only(req: func.HttpRequest) -> func.HttpResponse: return func.HttpResponse("yes")
@app.route(route="heads", methods=["GET", "HEAD"])
def heads(req: func.HttpRequest) -> func.HttpResponse: return func.HttpResponse("0123456789")
"""
    )
    assert app.get("/api/nowhere").status == 404
    assert app.get("/only").status == 404
    assert app.get("/api/only").status == 404
    assert app.request("OPTIONS", "/api/only").status == 404
    assert app.request("POST", "/api/only").body == b"yes"
    head = app.request("HEAD", "/api/heads")
    assert (head.status, head.headers["content-length"], head.body) == (200, "10", b"")
    assert app.request("HEAD", "/api/only").status == 404


def test_the_front_page_lists_what_is_served(serve: Serve) -> None:
    """Where the app has a page, `/` leads there."""
    plain = serve(ECHO).get("/")
    assert plain.status == 200
    assert b"/api/echo/{id?}" in plain.body
    paged = serve('@app.route(route="app")\ndef page(req): return func.HttpResponse("the page")').get("/")
    assert (paged.status, paged.headers["location"]) == (302, "/api/app")


def test_large_and_chunked_bodies_arrive_whole(serve: Serve) -> None:
    """Two megabytes, in one piece and in many."""
    app = serve(ECHO)
    body = bytes(range(256)) * 8192
    assert app.request("POST", "/api/echo", body=body).json()["size"] == len(body)
    chunks = (body[start : start + 70_000] for start in range(0, len(body), 70_000))
    assert app.request("POST", "/api/echo", body=chunks).json()["size"] == len(body)


def test_a_body_beyond_the_platforms_limit_is_refused_unread(serve: Serve) -> None:
    """100 MB, known from the header alone."""
    app = serve(ECHO)
    with socket.create_connection(("127.0.0.1", app.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(
            f"POST /api/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST_BODY + 1}\r\n\r\n".encode()
        )
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")


def test_many_callers_and_a_slow_one(serve: Serve) -> None:
    """A caller that dawdles holds nobody up, and a connection serves many requests."""
    app = serve(ECHO, PYTHON_THREADPOOL_THREAD_COUNT="4")
    slow = socket.create_connection(("127.0.0.1", app.port), timeout=DEADLINE_SECONDS)
    slow.sendall(b"POST /api/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")

    def call(_: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=DEADLINE_SECONDS)
        try:
            statuses = []
            for _ in range(5):
                connection.request("POST", "/api/echo", body=b"x" * 2000)
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            return statuses
        finally:
            connection.close()

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(call, range(40))) == [[200] * 5] * 40
    slow.sendall(b" done!")
    assert slow.recv(15) == b"HTTP/1.1 200 OK"
    slow.close()


def test_blocking_functions_run_in_threads_and_asynchronous_ones_on_the_loop(serve: Serve) -> None:
    """Three blocking calls meet at a barrier only if they run at once; async ones share one thread."""
    app = serve(
        """
import asyncio, threading
barrier = threading.Barrier(3)
@app.route(route="block")
def block(req) -> str: return str(barrier.wait(10))
@app.route(route="wait")
async def wait(req) -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name
""",
        PYTHON_THREADPOOL_THREAD_COUNT="3",
    )
    with ThreadPoolExecutor(3) as pool:
        bodies = pool.map(lambda _: app.get("/api/block").body, range(3))
    assert sorted(bodies) == [b"0", b"1", b"2"]
    assert app.get("/api/wait").body == b"host"


LEVELS = """
@app.route(route="open", auth_level=func.AuthLevel.ANONYMOUS)
def anyone(req) -> str: return "open"
@app.route(route="closed", auth_level=func.AuthLevel.FUNCTION)
def closed(req) -> str: return "closed"
@app.route(route="locked", auth_level=func.AuthLevel.ADMIN)
def locked(req) -> str: return "locked"
@app.timer_trigger(arg_name="t", schedule="0 0 3 1 1 *")
def yearly(t: func.TimerRequest) -> None: seen.append(t.past_due)
@app.timer_trigger(arg_name="t", schedule="0 0 3 1 1 *")
def failing(t: func.TimerRequest) -> None: raise RuntimeError("out of luck")
"""


@pytest.mark.parametrize(
    ("path", "opens"),
    [
        ("open", {"none", "wrong", "function", "master"}),
        ("closed", {"function", "master"}),
        ("locked", {"master"}),
    ],
)
def test_with_keys_each_level_asks_for_its_own(serve: Serve, path: str, opens: set[str]) -> None:
    """In the header or in the query; without keys everything is open."""
    keys = Keys(function="function-key", master="master-key")
    app = serve(LEVELS, keys=keys)
    shown = {"none": "", "wrong": "other", "function": keys.function, "master": keys.master}
    for name, key in shown.items():
        expected = 200 if name in opens else 401
        assert app.get(f"/api/{path}", **{"x-functions-key": key}).status == expected, name
        assert app.get(f"/api/{path}?code={key}").status == expected, name
    assert serve(LEVELS).get(f"/api/{path}").status == 200


def test_functions_are_run_on_demand(serve: Serve) -> None:
    """The platform's admin endpoint: 202 at once, or the outcome for who asks to wait."""
    app = serve(LEVELS)
    assert (app.run_now("yearly").status, app.seen) == (200, [False])
    failed = app.run_now("failing")
    assert (failed.status, failed.json()["error"]) == (500, "failing failed: RuntimeError: out of luck")
    headers = {"Content-Type": "application/json"}
    assert app.request("POST", "/admin/functions/yearly", b"{}", headers).status == 202
    until(lambda: app.seen == [False, False], "the run that nobody waits for")
    assert app.request("POST", "/admin/functions/yearly", b"{}").status == 415
    assert app.request("POST", "/admin/functions/yearly", b"[]", headers).status == 400
    assert app.run_now("nobody").status == 404
    assert app.run_now("closed").status == 400
    assert app.get("/admin/functions/yearly").status == 404
    locked = serve(LEVELS, keys=Keys("function-key", "master-key"))
    assert locked.run_now("yearly", **{"x-functions-key": "function-key"}).status == 401
    assert locked.run_now("yearly", **{"x-functions-key": "master-key"}).status == 200


def test_requests_in_flight_finish_when_the_host_stops(serve: Serve) -> None:
    """No caller is cut off by Ctrl-C."""
    app = serve(
        """
import threading
go = threading.Event()
@app.route(route="slow")
def slow(req) -> str:
    seen.append("started")
    return str(go.wait(10))
"""
    )
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.get, "/api/slow")
        until(lambda: app.seen, "the request to be under way")
        app.loop.call_soon_threadsafe(app.stopping.set)
        until(lambda: not _accepts(app.port), "the host to take no more requests")
        app.module.go.set()
        assert answer.result().body == b"True"
    app.stop()
    assert app.unfinished == []


def test_a_function_that_never_ends_does_not_keep_the_host(serve: Serve) -> None:
    """After the grace the host stops and names what it left behind."""
    app = serve(
        """
import threading
go = threading.Event()
@app.route(route="stuck")
def stuck(req) -> str:
    seen.append("started")
    return str(go.wait(20))
""",
        grace_seconds=0.5,
    )
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.get, "/api/stuck")
        until(lambda: app.seen, "the request to be under way")
        app.stop()
        assert answer.result().status == 503
    assert app.unfinished == ["stuck"]
    app.module.go.set()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
