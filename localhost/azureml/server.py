"""The HTTP side: the calls of Azure ML's REST API that concern jobs, and faults on demand.

`PUT`, `GET` `.../workspaces/<w>/jobs/<name>`, `POST .../jobs/<name>/cancel` and `GET .../jobs`,
with a bearer token and an api-version, answered as Azure Resource Manager answers
(https://learn.microsoft.com/rest/api/azureml/jobs). `POST /_faults` has it misbehave: see `Fault`.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec import Struct

from localhost.azureml.records import JobRecord, is_job_name
from localhost.azureml.runner import Conflict, Runner
from localhost.errors import LocalhostError

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
RESOURCE_GROUP = "localhost"
WORKSPACE = "localhost"

_WORKSPACE_PATH = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
_JOBS = re.compile(
    r"(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+)"
    r"/jobs(?:/([^/]+)(/cancel)?)?",
    re.IGNORECASE,
)
_FAULTS = "/_faults"
_LARGEST_BODY = 1024 * 1024
_DRIP_SECONDS = 0.02


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next requests are answered, instead of properly."""

    #: How many requests; then it is over.
    times: int = 1
    #: Only requests of this method.
    method: str | None = None
    #: Answered with this status, and not carried out; None: carried out and answered properly.
    status: int | None = None
    #: Sent as the body instead of an error of Azure's, as something in between would.
    page: str | None = None
    #: Seconds that an answer with `status` asks to wait.
    retry_after: float | None = None
    #: Seconds before the answer begins.
    seconds: float = 0.0
    #: `twice` sends the whole answer two times, `never` closes the connection without one,
    #: `drip` sends it a byte at a time and never comes to the end.
    answer: Literal["once", "twice", "never", "drip"] = "once"


class Exchange(Struct, frozen=True):
    """A request that was answered; `status` is 0 where it was not."""

    method: str
    path: str
    status: int


class AzureMLServer:
    """Listens on a loopback port while it is a context; the jobs are the runner's."""

    def __init__(self, runner: Runner, port: int = 0, token: str | None = None) -> None:
        self.port = port
        self.token = token or secrets.token_urlsafe(32)
        #: What was asked so far, in order, but for faults.
        self.exchanges: list[Exchange] = []
        self.runner = runner
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._stopped = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._server = _Server(self, self.port)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="azureml-http", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead an app here."""
        return {
            "AZUREML_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZUREML_RESOURCE_GROUP": RESOURCE_GROUP,
            "AZUREML_WORKSPACE": WORKSPACE,
            "AZUREML_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AZUREML_TOKEN": self.token,
        }

    def misbehave(self, fault: Fault) -> None:
        """Answer the next requests so, after those that have been asked for before."""
        with self._lock:
            self._faults.append(fault)

    def behave(self) -> None:
        """Forget the faults that are still to come."""
        with self._lock:
            self._faults.clear()

    # --- in a thread for each connection ----------------------------------------

    def _handle(self, request: _Request) -> None:
        address = urlsplit(request.path)
        body = request.read_body()
        if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self.token}"):
            request.answer(401, _error("InvalidAuthenticationToken", "The access token is invalid."))
            return
        if address.path == _FAULTS:
            self._control(request, body)
            return
        fault = self._take(str(request.command))
        if fault.status is None:
            status, result = self._jobs(request.command, address.path, parse_qs(address.query), body)
        else:
            status, result = fault.status, _error("OnDemand", f"answered with {fault.status} on demand")
        with self._lock:
            lost = fault.answer == "never"
            self.exchanges.append(Exchange(request.command, address.path, 0 if lost else status))
        self._stopped.wait(fault.seconds)
        if lost:
            request.hang_up()
            return
        if fault.answer == "drip":
            request.drip(status, self._stopped)
            return
        for _ in range(2 if fault.answer == "twice" else 1):
            request.answer(status, result if fault.page is None else fault.page, fault.retry_after)

    def _control(self, request: _Request, body: bytes) -> None:
        if request.command == "DELETE":
            self.behave()
            request.answer(204, None)
            return
        try:
            self.misbehave(msgspec.json.decode(body, type=Fault))
        except msgspec.DecodeError as error:
            request.answer(400, _error("BadRequest", str(error)))
        else:
            request.answer(204, None)

    def _take(self, method: str) -> Fault:
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.method in (None, method):
                    if fault.times <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = msgspec.structs.replace(fault, times=fault.times - 1)
                    return fault
        return Fault()

    def _jobs(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, Any] | None]:
        match = _JOBS.fullmatch(path)
        if match is None:
            return 404, _error("InvalidResourceType", f"Nothing is known here of {path}.")
        if "api-version" not in query:
            return 400, _error("MissingApiVersionParameter", "The api-version query parameter is required.")
        if match[1].lower() != _WORKSPACE_PATH.lower():
            return 404, _error("ResourceNotFound", f"The Resource '{match[1]}' was not found.")
        name, cancels = unquote(match[2] or ""), match[3] is not None
        match method:
            case "GET" if not name:
                return 200, {
                    "value": [_job(job, self.runner.folders.of(job.name)) for job in self.runner.list()]
                }
            case "GET" if not cancels:
                job = self.runner.find(name)
            case "PUT" if name and not cancels:
                return self._put(name, body)
            case "POST" if cancels:
                job = self.runner.cancel(name)
            case _:
                return 405, _error("MethodNotAllowed", f"{method} is not answered here.")
        if job is None:
            return 404, _error("UserError", f"Job {name} not found.")
        if cancels:
            return (200 if job.final else 202), None
        return 200, _job(job, self.runner.folders.of(name))

    def _put(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if not is_job_name(name):
            return 400, _error("UserError", f"{name!r} is no name for a job: letters, digits, - and _.")
        try:
            properties = msgspec.json.decode(body, type=dict[str, dict[str, Any]])["properties"]
            job, new = self.runner.put(name, properties)
        except (msgspec.DecodeError, KeyError):
            return 400, _error("BadRequest", "The body must be JSON with an object `properties`.")
        except Conflict:
            return 409, _error("UserError", "A job with this name already exists. Use another name.")
        except LocalhostError as error:
            return 400, _error("UserError", str(error))
        return (201 if new else 200), _job(job, self.runner.folders.of(name))


def _job(job: JobRecord, folder: Path) -> dict[str, Any]:
    properties = {
        **job.properties,
        "status": job.status,
        "services": {"Studio": {"jobServiceType": "Studio", "endpoint": folder.resolve().as_uri()}},
    }
    if job.error is not None:
        # Azure ML keeps this for its studio; here there is none.
        properties["error"] = {"code": "UserError", "message": job.error}
    return {
        "id": f"{_WORKSPACE_PATH}/jobs/{job.name}",
        "name": job.name,
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "properties": properties,
        "systemData": {"createdAt": job.created_at},
    }


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # Those that wait on a kept-alive connection are not waited for.
    block_on_close = False

    def __init__(self, owner: AzureMLServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Request)

    def handle_error(self, *_: object) -> None:
        pass  # a client that went away


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def _handle(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.owner._handle(self)

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def read_body(self) -> bytes:
        """Return the body, empty where it is larger than any job."""
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 <= size <= _LARGEST_BODY:
            self.close_connection = True
            return b""
        return self.rfile.read(size)

    def answer(
        self, status: int, result: dict[str, Any] | str | None, retry_after: float | None = None
    ) -> None:
        text = result if isinstance(result, str) else json.dumps(result)
        body = b"" if result is None else text.encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", f"{retry_after:g}")
        if result is not None:
            kind = "text/html" if isinstance(result, str) else "application/json"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def drip(self, status: int, stopped: threading.Event) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", str(_LARGEST_BODY))
        self.end_headers()
        with contextlib.suppress(OSError):
            while not stopped.wait(_DRIP_SECONDS):
                self.wfile.write(b" ")

    def log_message(self, *_: object) -> None:
        pass
