"""Candidates handed to GitHub and Azure DevOps, as both answer in truth, in anger and not at all."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
import pytest

from sentiment.errors import DeploymentError, DeploymentRefused, DeploymentUnavailable
from sentiment.retrain.deployment import Limits, deploy
from sentiment.retrain.records import Outcome
from sentiment.settings import DevopsDeployment, GithubDeployment

QUICK = Limits(timeout=0.5, tries=3, pause=0.01, longest_pause=0.05)
TOKEN = "ghp_secretsecretsecret"
OUTCOME = Outcome(
    cycle=7,
    verdict="published",
    version="tiny-2",
    sha256="ab" * 32,
    champion="tiny-1",
    reasons=(),
    at="2025-01-01T00:00:00+00:00",
)
PAYLOAD = {"cycle": "7", "version": "tiny-2", "sha256": "ab" * 32, "champion": "tiny-1"}


class Asked(NamedTuple):
    """One request as the service has seen it."""

    path: str
    headers: dict[str, str]
    body: Any


class Service:
    """Answers as it is told to: (status, headers, body) in turn, the last for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(204, {}, b"")]
        #: Seconds before each byte of an answer.
        self.drip = 0.0
        self._stopping = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.asked.append(Asked(self.path, headers, json.loads(raw)))
                status, more, body = (
                    service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
                )
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                if service.drip:
                    self._drip()
                    return
                self.end_headers()
                self.wfile.write(body)

            def _drip(self) -> None:
                try:
                    for byte in b"X-Slow: " + b"x" * 1000:
                        self.wfile.write(bytes([byte]))
                        if service._stopping.wait(service.drip):
                            return
                except OSError:
                    return

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def github(service: Service) -> GithubDeployment:
    return GithubDeployment(endpoint=service.endpoint, repository="us/tweets", token=TOKEN)


@pytest.fixture
def devops(service: Service) -> DevopsDeployment:
    service.answers = [(200, {"Content-Type": "application/json"}, b'{"id": 12, "state": "inProgress"}')]
    return DevopsDeployment(
        endpoint=service.endpoint, organization="us", project="our tweets", pipeline=3, token=TOKEN
    )


def test_github_is_sent_a_repository_dispatch(service: Service, github: GithubDeployment) -> None:
    """As its documentation has it."""
    deploy(OUTCOME, github, QUICK)
    (asked,) = service.asked
    assert asked.path == "/repos/us/tweets/dispatches"
    assert asked.body == {"event_type": "model-candidate", "client_payload": PAYLOAD}
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["accept"] == "application/vnd.github+json"
    assert asked.headers["x-github-api-version"] == "2022-11-28"
    assert asked.headers["user-agent"]


def test_azure_devops_is_asked_for_a_run(service: Service, devops: DevopsDeployment) -> None:
    """Parameters of a template are strings, all of them; the project's name may have spaces."""
    deploy(OUTCOME, devops, QUICK)
    (asked,) = service.asked
    assert asked.path == "/us/our%20tweets/_apis/pipelines/3/runs?api-version=7.1"
    assert asked.body == {"templateParameters": PAYLOAD}
    scheme, _, credentials = asked.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", f":{TOKEN}".encode())


def test_without_a_deployment_a_person_has_to_promote(service: Service) -> None:
    """The pipeline ran with another mode than the app: nobody would ever promote it."""
    with pytest.raises(DeploymentRefused, match="models promote tiny-2 --cycle 7"):
        deploy(OUTCOME, None, QUICK)
    assert service.asked == []


@pytest.mark.parametrize("verdict", ["refused", "promoted"])
def test_only_what_waits_for_a_deployment_is_handed_over(
    service: Service, github: GithubDeployment, verdict: str
) -> None:
    """A refused candidate never is."""
    with pytest.raises(DeploymentRefused, match=verdict):
        deploy(msgspec.structs.replace(OUTCOME, verdict=verdict), github, QUICK)
    assert service.asked == []


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (401, {}, "DEPLOY_GITHUB_TOKEN is wrong or has expired"),
        (403, {}, "write access to the repository's contents"),
        (404, {}, "check DEPLOY_GITHUB_REPOSITORY"),
        (422, {}, "takes no dispatches"),
        (301, {"Location": "https://api.github.com/repositories/1"}, "has moved"),
        (418, {}, "answers 418"),
    ],
)
def test_what_github_refuses_is_said_with_what_to_do(
    service: Service, github: GithubDeployment, status: int, headers: dict[str, str], says: str
) -> None:
    """Once: asking again changes nothing, and the token follows no redirection."""
    service.answers = [(status, headers, json.dumps({"message": f"No\nway {TOKEN}"}).encode())]
    with pytest.raises(DeploymentRefused, match=says) as caught:
        deploy(OUTCOME, github, QUICK)
    assert "No way ***" in str(caught.value)
    assert "us/tweets" in caught.value.operation
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "must declare the parameters cycle, version, sha256, champion"),
        (401, "DEPLOY_DEVOPS_TOKEN is wrong"),
        (203, "DEPLOY_DEVOPS_TOKEN is wrong"),
        (302, "DEPLOY_DEVOPS_TOKEN is wrong"),
        (403, "Queue builds"),
        (404, "DEPLOY_DEVOPS_PIPELINE_ID"),
    ],
)
def test_what_azure_devops_refuses_is_said_with_what_to_do(
    service: Service, devops: DevopsDeployment, status: int, says: str
) -> None:
    """Also where it shows its page for signing in instead of saying so."""
    service.answers = [(status, {"Location": "/_signin"}, b"<html>Sign in</html>")]
    with pytest.raises(DeploymentRefused, match=says):
        deploy(OUTCOME, devops, QUICK)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry-After": "1"}),
        (403, {"x-ratelimit-remaining": "0"}),
        (403, {"Retry-After": "60"}),
        (500, {}),
        (503, {}),
        (408, {}),
    ],
)
def test_what_passes_is_tried_again(
    service: Service, github: GithubDeployment, status: int, headers: dict[str, str]
) -> None:
    """A few times; then it is the next tick's."""
    trouble = (status, headers, b'{"message": "slow down"}')
    service.answers = [trouble, trouble, (204, {}, b"")]
    deploy(OUTCOME, github, QUICK)
    assert len(service.asked) == 3
    service.answers = [trouble]
    with pytest.raises(DeploymentUnavailable, match="slow down"):
        deploy(OUTCOME, github, QUICK)
    assert len(service.asked) == 6


def test_a_service_that_drips_is_hung_up_on(service: Service, github: GithubDeployment) -> None:
    """However small its bytes, and however often they come."""
    service.drip = 0.02
    started = time.monotonic()
    with pytest.raises(DeploymentUnavailable, match="no answer"):
        deploy(OUTCOME, github, QUICK)
    assert time.monotonic() - started < 5
    assert len(service.asked) == 3


def test_where_nobody_listens_it_says_so() -> None:
    """With the address, so that a wrong one is seen."""
    nowhere = GithubDeployment(endpoint="http://127.0.0.1:9", repository="us/tweets", token=TOKEN)
    with pytest.raises(DeploymentUnavailable, match=r"no answer from 127\.0\.0\.1:9"):
        deploy(OUTCOME, nowhere, QUICK)


def test_the_token_stays_out_of_messages_and_logs(
    service: Service, github: GithubDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the service answers."""
    caplog.set_level(logging.DEBUG)
    for status in (204, 401, 500):
        service.answers = [(status, {}, json.dumps({"message": f"token {TOKEN}"}).encode())]
        try:
            deploy(OUTCOME, github, QUICK)
        except DeploymentError as error:
            assert TOKEN not in str(error)
    assert caplog.records
    assert TOKEN not in caplog.text
