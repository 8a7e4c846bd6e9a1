"""The app through its front door: our host, real storage, real HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from localhost.azurite import Azurite
from localhost.host import Host, bind
from localhost.host_json import read_host_json
from localhost.loading import load_functions
from localhost.running import find_running
from sentiment import openapi
from sentiment.commands.predict import SEED_MODEL
from sentiment.manifest import ONNX, read_manifest
from sentiment.services import Services, use_services
from sentiment.settings import Settings
from tests.conftest import INSTALL_FOLDER
from tests.localhost.apps import run_in_thread, until
from tests.models import make_model_folder

ROOT = Path(__file__).parent.parent
JSON = {"Content-Type": "application/json"}
_START_SECONDS = 90.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class App(NamedTuple):
    """A running app: where it listens, and the services it uses."""

    netloc: str
    services: Services

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON
    ) -> Answer:
        return ask(self.netloc, method, path, body, headers)

    def predict(self, value: Any) -> Answer:
        return self.ask("POST", "predict", json.dumps(value).encode())


def ask(
    netloc: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON
) -> Answer:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection(netloc, timeout=30)
    try:
        connection.request(method, f"/api/{path}", body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, json.loads(response.read() or b"null"))
    finally:
        connection.close()


@pytest.fixture
def start_app(
    azurite: Azurite, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], App]]:
    """Start the product's functions on a store of their own, in this process."""
    environ = {
        "AzureWebJobsStorage": azurite.connection_string,
        "FEEDBACK_SIGNING_KEYS": "a-key-for-tests-only",
        "MODEL_CONTAINER": f"app-{abs(hash(request.node.nodeid)):x}",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "MODEL_REFRESH_SECONDS": "0.05",
        "RETRAIN_SCHEDULE": "0 0 3 1 1 *",
    }
    services = Services(Settings.from_env(environ))
    with use_services(services):
        options = read_host_json(ROOT, environ)
        functions = load_functions(ROOT, options, environ)
        host = Host(
            functions, options, environ, listening=bind(0), state_folder=tmp_path / "state", keys=None
        )
        served = run_in_thread(host, sys.modules["function_app"], environ, tmp_path / "state")
        try:
            yield lambda: App(urlsplit(host.url).netloc, services)
        finally:
            served.stop()
            services.close()


def _promote(app: App, folder: Path, version: str, bias: Any = "neutral") -> None:
    app.services.registry.publish(make_model_folder(folder / version, version, bias))
    app.services.registry.promote(version, by="test", reason="to see it serve")


@pytest.fixture
def empty(start_app: Callable[[], App]) -> App:
    """The app on an empty store."""
    return start_app()


@pytest.fixture
def app(empty: App, tmp_path: Path) -> App:
    """The app with a tiny model."""
    _promote(empty, tmp_path, "tiny-1")
    return empty


def test_one_text_is_answered(app: App) -> None:
    """Label, all three probabilities, token and version."""
    answer = app.predict({"text": "I love it"})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.body["label"] == "positive"
    assert sum(answer.body["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert answer.body["truncated"] is False
    assert answer.body["model_version"] == "tiny-1"
    assert answer.body["prediction"].count(".") >= 2


def test_a_batch_is_answered_document_by_document(app: App) -> None:
    """The good ones are classified, the bad ones named; ids tell which is which."""
    documents = [{"id": "a", "text": "hate"}, {"id": "b", "text": ""}, {"id": "c", "text": "love"}]
    answer = app.predict({"documents": documents})
    assert answer.status == 200
    assert [(one["id"], one["label"]) for one in answer.body["documents"]] == [
        ("a", "negative"),
        ("c", "positive"),
    ]
    assert [(one["id"], one["error"]["pointer"]) for one in answer.body["errors"]] == [
        ("b", "/documents/1/text")
    ]


def test_answers_are_what_the_openapi_document_promises(app: App) -> None:
    """The document that clients are generated from, held against real answers."""
    document = json.loads(openapi.document())

    def check(answer: Answer, path: str, method: str) -> None:
        content = document["paths"][path][method]["responses"][str(answer.status)]["content"]
        media_type = answer.headers["Content-Type"].split(";")[0]
        schema = content[media_type]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(answer.body)

    check(app.predict({"text": "love"}), "/predict", "post")
    check(app.predict({"documents": [{"id": "1", "text": "x"}, {"id": "2", "text": ""}]}), "/predict", "post")
    check(app.predict({}), "/predict", "post")
    check(app.ask("POST", "predict", b"x", {"Content-Type": "text/plain"}), "/predict", "post")
    check(app.ask("POST", "predict", b"x" * 1_100_000), "/predict", "post")
    for path in ("/model", "/health", "/ready"):
        check(app.ask("GET", path[1:]), path, "get")
    assert app.ask("GET", "openapi.json").body == document


def _bad_bodies() -> list[bytes]:
    good = json.dumps({"documents": [{"id": "1", "text": "café 😀"}]}, ensure_ascii=False).encode()
    wrong: list[Any] = [None, 0, -1, 1.5, True, False, [], ["a"], [None], {}, {"a": 1}]
    values: list[Any] = [*wrong, "", [[]], *({"text": value} for value in wrong)]
    values += [{"documents": value} for value in (None, 0, "a", [], {}, [None], [0], ["a"], [[]], [{}])]
    values += [
        {"text": text} for text in ("", " ", "\u0000", "\u200f", "\ud800", "x" * 5_001, "\U0001f602" * 5_001)
    ]
    values += [
        {"documents": [{"id": ident, "text": "a"}]} for ident in (None, 1, "", [], "x" * 101, "\udfff")
    ]
    bodies = [json.dumps(value).encode() for value in values]
    # Cut anywhere, or with any byte turned into one that UTF-8 never has.
    bodies += [good[:end] for end in range(len(good))]
    bodies += [good[:at] + b"\xff" + good[at + 1 :] for at in range(len(good))]
    bodies += [good[:at] + b"\x01" + good[at:] for at in range(len(good))]
    bodies += [b"[" * 50_000, b'{"text":' * 50_000, b"1" * 10_000, b"NaN", b"-Infinity", b"\xef\xbb\xbf{}"]
    return [*bodies, ("\U0001f602" * 100_000).encode(), b"\x00" * 100, b"{}" * 100]


def test_two_hundred_bad_requests_are_refused_by_name(app: App) -> None:
    """None of them is a 500, all of them say what was wrong and where; the app answers on."""
    bodies = _bad_bodies()
    assert len(bodies) >= 200
    connection = http.client.HTTPConnection(app.netloc, timeout=30)
    for body in bodies:
        connection.request("POST", "/api/predict", body, JSON)
        response = connection.getresponse()
        problem = json.loads(response.read())
        assert (response.status, response.headers["Content-Type"]) == (400, "application/problem+json"), body[
            :80
        ]
        assert problem["status"] == 400
        assert problem["type"].startswith("urn:sentiment:problem:")
        assert problem["detail"]
        assert all(fault["code"] and fault["detail"] for fault in problem["errors"])
    connection.close()
    assert app.predict({"text": "love"}).status == 200


def test_without_a_model_the_caller_is_told_to_come_back(empty: App, tmp_path: Path) -> None:
    """503 with Retry-After and what to do; once a model is promoted, answers."""
    for answer in (empty.predict({"text": "love"}), empty.ask("GET", "ready"), empty.ask("GET", "model")):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "promote" in answer.body["detail"]
    assert empty.ask("GET", "health").status == 200
    _promote(empty, tmp_path, "tiny-1")
    until(lambda: empty.predict({"text": "love"}).status == 200, "an answer from the new model")


def test_a_promotion_takes_effect_without_a_restart_or_a_failed_request(app: App, tmp_path: Path) -> None:
    """Clients ask all the while; every answer is whole and of one version or the other."""
    failures: list[Answer] = []
    versions: set[str] = set()
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answer = app.predict({"text": "nothing known"})
            label = {"tiny-1": "neutral", "tiny-2": "negative"}.get(answer.body.get("model_version", ""))
            if answer.status != 200 or answer.body["label"] != label:
                failures.append(answer)
            else:
                versions.add(answer.body["model_version"])

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        until(lambda: "tiny-1" in versions, "answers of the first version")
        _promote(app, tmp_path, "tiny-2", "negative")
        until(lambda: "tiny-2" in versions, "answers of the second version")
    finally:
        stop.set()
        for thread in clients:
            thread.join(timeout=30)
    assert not failures
    model = app.ask("GET", "model").body
    assert (model["version"], model["previous"], model["by"], model["reason"]) == (
        "tiny-2",
        "tiny-1",
        "test",
        "to see it serve",
    )
    assert model["metrics"]["validation"]["macro_recall"] == 0.5


def test_the_words_of_a_text_are_weighed(app: App) -> None:
    """Through the door: the same form, the same refusals, the words in their order."""
    answer = app.ask("POST", "explain", json.dumps({"text": "I love it"}).encode())
    assert (answer.status, answer.body["label"], answer.body["model_version"]) == (200, "positive", "tiny-1")
    words = answer.body["words"]
    assert [(word["text"], word["start"], word["end"]) for word in words] == [
        ("I", 0, 1),
        ("love", 2, 6),
        ("it", 7, 9),
    ]
    assert words[1]["weight"] > 0.5
    refused = app.ask("POST", "explain", b'{"text": " "}')
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, "/text")


def test_the_page_needs_no_model_and_is_kept_by_the_browser(empty: App) -> None:
    """Its policy and its tag pass through the host; the 304 has no body."""
    connection = http.client.HTTPConnection(empty.netloc, timeout=30)
    try:
        connection.request("GET", "/api/app")
        first = connection.getresponse()
        assert (first.status, first.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert first.read().startswith(b"<!doctype html>")
        assert "default-src 'none'" in first.headers["Content-Security-Policy"]
        connection.request("GET", "/api/app", headers={"If-None-Match": first.headers["ETag"]})
        again = connection.getresponse()
        assert (again.status, again.read()) == (304, b"")
        for path, status, location in (
            ("/", 302, "/api/app"),
            ("/api/app/", 308, "../app"),
            ("/api/app/none", 404, None),
        ):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Location"]) == (status, location)
    finally:
        connection.close()


def test_a_damaged_version_does_not_serve(app: App, tmp_path: Path) -> None:
    """Altered in the store after it was published: the last good one goes on."""
    assert app.predict({"text": "love"}).body["model_version"] == "tiny-1"
    registry = app.services.registry
    registry.publish(make_model_folder(tmp_path / "tiny-2", "tiny-2"))
    container = app.services.settings.model_container
    from azure.storage.blob import BlobServiceClient

    connection_string = str(app.services.settings.storage_connection_string)
    with BlobServiceClient.from_connection_string(connection_string) as blobs:
        blob = blobs.get_blob_client(container, f"tiny-2/{ONNX}")
        raw = blob.download_blob().readall()
        blob.upload_blob(raw[:-1] + bytes([raw[-1] ^ 1]), overwrite=True)
        registry.promote("tiny-2", by="test", reason="damaged")
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            answer = app.predict({"text": "love"})
            assert (answer.status, answer.body["model_version"]) == (200, "tiny-1")


def test_the_seed_model_serves_from_one_command(tmp_path: Path) -> None:
    """What `make run` does: an empty machine, one process, real predictions; Ctrl-C ends all of it."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "programs").symlink_to(INSTALL_FOLDER)
    command = [sys.executable, "-m", "localhost", "--port", "0", "--state", str(state), "--keys"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
        try:
            netloc = _netloc(process, state, tmp_path / "log")
            key = json.loads((state / "secrets.json").read_bytes())["function_key"]
            body = json.dumps({"text": "Worst flight ever, never again"}).encode()
            assert ask(netloc, "POST", "predict", body).status == 401
            answer = ask(netloc, "POST", "predict", body, JSON | {"x-functions-key": key})
            assert (answer.status, answer.body["label"]) == (200, "negative")
            assert answer.body["model_version"] == read_manifest(SEED_MODEL)[0].version
            assert ask(netloc, "GET", "ready").status == 200
            shell = 'eval "$($0 -m localhost --state $1 env)" && exec $0 -m sentiment models list'
            listed = subprocess.run(
                ["bash", "-c", shell, sys.executable, str(state)], cwd=ROOT, capture_output=True, text=True
            )
            assert listed.stdout.startswith(f"* {read_manifest(SEED_MODEL)[0].version}"), listed.stderr
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0, (tmp_path / "log").read_text()


def _netloc(process: subprocess.Popen[bytes], state: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if (running := find_running(state)) is not None:
            return urlsplit(running.url).netloc
        time.sleep(0.05)
    pytest.fail(f"the host did not start in time: {log.read_text()}")
