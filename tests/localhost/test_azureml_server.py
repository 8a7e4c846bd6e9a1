"""What the local Azure ML answers to whom, over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localhost.azureml.listing import describe_job, describe_jobs, read_log
from localhost.azureml.server import AzureMLServer
from localhost.errors import LocalhostError
from tests.localhost.apps import until
from tests.workspace import Workspace

JOBS = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/localhost"
    "/providers/Microsoft.MachineLearningServices/workspaces/localhost/jobs"
)
VERSION = "?api-version=2024-04-01"

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def server(workspace: Workspace) -> Iterator[AzureMLServer]:
    with workspace.serve() as server:
        yield server


@pytest.fixture
def ask(server: AzureMLServer) -> Iterator[Ask]:
    """Ask on one connection that is kept: a doubled answer would be seen."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def send(method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"Authorization": f"Bearer {token or server.token}"})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said else None

    yield send
    connection.close()


@pytest.fixture
def body(workspace: Workspace, server: AzureMLServer) -> dict[str, Any]:
    client = workspace.pipelines(server)
    client.close()
    return client.body(workspace.inputs)


def _code(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


def test_a_job_is_created_read_listed_and_cancelled(ask: Ask, body: dict[str, Any]) -> None:
    """With the statuses of Azure ML: 201 and then 200, 202 for what has begun to end."""
    status, job = ask("PUT", f"{JOBS}/one{VERSION}", body)
    assert (status, job["name"], job["properties"]["componentId"]) == (
        201,
        "one",
        body["properties"]["componentId"],
    )
    assert ask("PUT", f"{JOBS}/one{VERSION}", body)[0] == 200
    assert ask("GET", f"{JOBS}/one{VERSION}")[1]["properties"]["status"] in ("Queued", "Running")
    assert [each["name"] for each in ask("GET", f"{JOBS}{VERSION}")[1]["value"]] == ["one"]
    assert ask("POST", f"{JOBS}/one/cancel{VERSION}")[0] in (200, 202)
    until(lambda: ask("GET", f"{JOBS}/one{VERSION}")[1]["properties"]["status"] == "Canceled", "its end")
    assert ask("POST", f"{JOBS}/one/cancel{VERSION}") == (200, None)


def test_another_job_of_the_same_name_is_refused(ask: Ask, body: dict[str, Any]) -> None:
    """As Azure ML words it."""
    ask("PUT", f"{JOBS}/one{VERSION}", body)
    body["properties"]["experimentName"] = "other"
    status, answer = ask("PUT", f"{JOBS}/one{VERSION}", body)
    assert status == 409
    assert answer["error"]["code"] == "UserError"
    assert "A job with this name already exists" in answer["error"]["message"]


def test_who_has_no_token_learns_nothing(ask: Ask) -> None:
    """Not even whether there is such a job; nor can it order faults."""
    for method, path in (("GET", f"{JOBS}/one{VERSION}"), ("GET", "/"), ("POST", "/_faults")):
        assert _code(ask(method, path, token="another")) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{JOBS}/one{VERSION}", 404, "UserError"),
        ("POST", f"{JOBS}/one/cancel{VERSION}", 404, "UserError"),
        ("GET", f"{JOBS}/one", 400, "MissingApiVersionParameter"),
        (
            "GET",
            f"{JOBS.replace('workspaces/localhost', 'workspaces/other')}/one{VERSION}",
            404,
            "ResourceNotFound",
        ),
        ("GET", f"/{VERSION}", 404, "InvalidResourceType"),
        ("DELETE", f"{JOBS}/one{VERSION}", 405, "MethodNotAllowed"),
        ("PUT", f"{JOBS}/a%2F..%2Fb{VERSION}", 400, "UserError"),
        ("PUT", f"{JOBS}/..{VERSION}", 400, "UserError"),
        ("PUT", f"{JOBS}/one{VERSION}", 400, "BadRequest"),
    ],
)
def test_what_cannot_be_answered_says_why(ask: Ask, method: str, path: str, status: int, code: str) -> None:
    """In the shape of Azure Resource Manager's errors."""
    assert _code(ask(method, path)) == (status, code)


def test_faults_are_ordered_over_http(ask: Ask) -> None:
    """And countermanded."""
    assert ask("POST", "/_faults", {"status": 429, "times": 2, "retry_after": 1})[0] == 204
    assert _code(ask("GET", f"{JOBS}/one{VERSION}")) == (429, "OnDemand")
    assert ask("DELETE", "/_faults")[0] == 204
    assert ask("GET", f"{JOBS}/one{VERSION}")[0] == 404
    assert _code(ask("POST", "/_faults", {"stauts": 429})) == (400, "BadRequest")


def test_a_person_reads_what_became_of_jobs(
    workspace: Workspace, server: AzureMLServer, ask: Ask, body: dict[str, Any]
) -> None:
    """Also after the server has gone: from the disk."""
    folders = server.runner.folders
    ask("PUT", f"{JOBS}/one{VERSION}", body)
    with pytest.raises(LocalhostError, match="one has no step gate: there are copy, wait"):
        read_log(folders, "one", "gate")
    workspace.go.touch()
    until(lambda: ask("GET", f"{JOBS}/one{VERSION}")[1]["properties"]["status"] == "Completed", "its end")
    (line,) = describe_jobs(folders)
    assert line.startswith("one  Completed")
    assert "2 of 2 steps" in line
    lines = list(describe_job(folders, "one"))
    assert lines[0] == "one: Completed"
    assert "  cycle = 7" in lines
    assert read_log(folders, "one", "wait").startswith("waiting\n")
    with pytest.raises(LocalhostError, match="there is no job two"):
        list(describe_job(folders, "two"))
