"""Hands a candidate that passed the gate to the deployment that may promote it.

`direct`: the pipeline's last step moves the pointer itself, there is nobody to hand it to.
`github`: a repository dispatch `model-candidate` starts a workflow
(https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event).
`devops`: a run of a pipeline is queued
(https://learn.microsoft.com/rest/api/azure/devops/pipelines/runs/run-pipeline).

The same candidate may be handed over more than once: whoever calls may be killed
before it has noted that it did, and an answer may be lost. That is harmless: what
is started ends in `python -m sentiment models promote`, which changes nothing the
second time.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from msgspec import Struct

from sentiment.errors import DeploymentError, DeploymentRefused, DeploymentUnavailable
from sentiment.retrain.records import Outcome
from sentiment.settings import DevopsDeployment, GithubDeployment

logger = logging.getLogger(__name__)

EVENT_TYPE = "model-candidate"

_GITHUB_VERSION = "2022-11-28"
_DEVOPS_VERSION = "7.1"
_LARGEST_ANSWER = 1 << 16
_LONGEST_SAID = 200


class Limits(Struct, frozen=True, kw_only=True):
    """How long, in seconds, and how often."""

    #: One request, from its connection to the last byte of its answer.
    timeout: float = 10.0
    tries: int = 3
    #: Before the second try; twice as long before each further one.
    pause: float = 1.0
    #: No service is waited for longer than this, whatever it asks for.
    longest_pause: float = 15.0


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Request(NamedTuple):
    """What is asked of whom; `hints` say what to do about a status."""

    operation: str
    url: str
    authorization: str
    headers: dict[str, str]
    body: dict[str, object]
    done: frozenset[int]
    hints: dict[int, str]


def deploy(
    outcome: Outcome, deployment: GithubDeployment | DevopsDeployment | None, limits: Limits | None = None
) -> None:
    """Hand a published candidate to `deployment`, which is None in mode `direct`.

    Raises:
        DeploymentUnavailable: the service does not answer, or not now; worth another try.
        DeploymentRefused: it refuses, or there is nobody or no version to ask for.
    """
    if deployment is None:
        raise DeploymentRefused(
            f"deploy {outcome.version}",
            "DEPLOY_MODE is direct, and yet its pipeline left the promotion to a deployment: "
            f"run 'python -m sentiment models promote {outcome.version} --cycle {outcome.cycle}'",
        )
    if outcome.verdict != "published" or outcome.version is None or outcome.sha256 is None:
        raise DeploymentRefused(
            f"deploy cycle {outcome.cycle}", f"its outcome is {outcome.verdict}: no version waits for it"
        )
    payload = {
        "cycle": str(outcome.cycle),
        "version": outcome.version,
        "sha256": outcome.sha256,
        "champion": outcome.champion,
    }
    if isinstance(deployment, GithubDeployment):
        request = _dispatch(deployment, payload)
    else:
        request = _run(deployment, payload)
    _send(request, deployment.token, limits or Limits())
    logger.info(
        "%s: %s of cycle %d is with its deployment", request.operation, outcome.version, outcome.cycle
    )


def _dispatch(to: GithubDeployment, payload: dict[str, str]) -> _Request:
    """Return a repository dispatch; GitHub answers it with 204 and nothing else."""
    settings = "DEPLOY_GITHUB_TOKEN"
    return _Request(
        operation=f"dispatch {EVENT_TYPE} to {to.repository}",
        url=f"{to.endpoint}/repos/{to.repository}/dispatches",
        authorization=f"Bearer {to.token}",
        headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _GITHUB_VERSION},
        body={"event_type": EVENT_TYPE, "client_payload": payload},
        done=frozenset({204}),
        hints={
            401: f"{settings} is wrong or has expired: make a new one",
            403: f"{settings} lacks a right: give it write access to the repository's contents",
            404: f"there is no such repository, or {settings} may not see it: check DEPLOY_GITHUB_REPOSITORY "
            "and give the token write access to the repository's contents",
            422: "the repository takes no dispatches like this one: is it archived?",
            **dict.fromkeys(
                (301, 302, 307, 308),
                "the repository has moved: set DEPLOY_GITHUB_REPOSITORY to its new name",
            ),
        },
    )


def _run(to: DevopsDeployment, payload: dict[str, str]) -> _Request:
    """Return a run of the pipeline; Azure DevOps answers it with 200 and the run."""
    path = (
        f"{quote(to.organization, safe='')}/{quote(to.project, safe='')}/_apis/pipelines/{to.pipeline}/runs"
    )
    settings = "DEPLOY_DEVOPS_TOKEN"
    # Instead of 401, Azure DevOps may answer with its page for signing in.
    signing_in = f"{settings} is wrong or has expired: make a new one with Build: Read & execute"
    return _Request(
        operation=f"run pipeline {to.pipeline} of {to.organization}/{to.project}",
        url=f"{to.endpoint}/{path}?api-version={_DEVOPS_VERSION}",
        authorization="Basic " + base64.b64encode(f":{to.token}".encode()).decode(),
        headers={"Accept": "application/json"},
        body={"templateParameters": payload},
        done=frozenset({200}),
        hints={
            400: "the pipeline takes no such run: its YAML must declare the parameters " + ", ".join(payload),
            **dict.fromkeys((203, 301, 302, 307, 308, 401), signing_in),
            403: f"{settings} lacks a right: it needs Build: Read & execute, and its owner 'Queue builds'",
            404: "there is no such organization, project or pipeline, or the token may not see it: check "
            "DEPLOY_DEVOPS_ORGANIZATION, DEPLOY_DEVOPS_PROJECT and DEPLOY_DEVOPS_PIPELINE_ID",
        },
    )


def _send(request: _Request, token: str, limits: Limits) -> None:
    """Send a request until it is done, refused, or has been tried often enough."""
    for number in range(1, limits.tries + 1):
        asked = 0.0
        try:
            answer = _post(request, limits.timeout)
        except (OSError, http.client.HTTPException) as error:
            trouble: DeploymentError = DeploymentUnavailable(
                request.operation,
                f"no answer from {urlsplit(request.url).netloc}: {error!r:.{_LONGEST_SAID}}",
            )
            trouble.__cause__ = error
        else:
            if answer.status in request.done:
                return
            asked = _asked(answer)
            trouble = _judge(request, answer, token)
        if isinstance(trouble, DeploymentRefused) or number == limits.tries:
            raise trouble
        logger.warning("%s (try %d of %d)", trouble, number, limits.tries)
        time.sleep(min(limits.longest_pause, max(asked, limits.pause * 2 ** (number - 1))))


def _judge(request: _Request, answer: _Answer, token: str) -> DeploymentError:
    """Return what an answer other than success means."""
    # An answer should not repeat the token. If it does, the log must not.
    said = _said(answer).replace(token, "***")
    status = f"{urlsplit(request.url).netloc} answers {answer.status}{said and f' ({said})'}"
    throttled = answer.status == 403 and (
        "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"
    )
    if answer.status in (408, 429) or answer.status >= 500 or throttled:
        return DeploymentUnavailable(request.operation, status)
    hint = request.hints.get(answer.status, "")
    return DeploymentRefused(request.operation, f"{status}{hint and f'; {hint}'}")


def _said(answer: _Answer) -> str:
    """Return the service's own words; both put them into `message`."""
    try:
        message = json.loads(answer.body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return " ".join(str(message).split())[:_LONGEST_SAID]


def _asked(answer: _Answer) -> float:
    """Return how many seconds the service wants to be left alone."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _post(request: _Request, seconds: float) -> _Answer:
    """Return the answer.

    Raises:
        OSError, HTTPException: there was none within `seconds`.
    """
    address = urlsplit(request.url)
    host, port = address.hostname or "", address.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        if address.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    deadline = None
    try:
        connection.connect()
        # The connection's own timeout starts anew with every byte: somebody has to hang up.
        deadline = threading.Timer(seconds, _hang_up, [connection.sock])
        deadline.daemon = True
        deadline.start()
        headers = {
            **request.headers,
            "Authorization": request.authorization,
            "Content-Type": "application/json",
            "User-Agent": "sentiment-retrain",
            "Connection": "close",
        }
        target = address.path + (f"?{address.query}" if address.query else "")
        connection.request("POST", target, json.dumps(request.body).encode(), headers)
        with connection.getresponse() as response:
            body = response.read(_LARGEST_ANSWER)
            said = {name.lower(): value for name, value in response.getheaders()}
            return _Answer(response.status, said, body)
    finally:
        if deadline is not None:
            deadline.cancel()
        connection.close()


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
