"""Pipeline jobs against the local Azure ML over real HTTP: what it says, what it withholds, how it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from localhost.azureml.server import AzureMLServer, Fault
from localhost.ingestion import unused_port
from sentiment.errors import PipelineError, PipelineRefused, PipelineUnavailable
from sentiment.pipelines import Job, Pipelines
from sentiment.services import Services
from sentiment.settings import Settings
from tests.stage import until
from tests.workspace import STORAGE, Workspace, open_pipelines

NAME = "sentiment-retrain-00007-0123456789ab"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def server(workspace: Workspace) -> Iterator[AzureMLServer]:
    with workspace.serve() as server:
        yield server


@pytest.fixture
def pipelines(workspace: Workspace, server: AzureMLServer) -> Iterator[Pipelines]:
    client = workspace.pipelines(server)
    yield client
    client.close()


def _asked(server: AzureMLServer) -> list[str]:
    return [exchange.method for exchange in server.exchanges]


def _ended(pipelines: Pipelines, name: str = NAME) -> Job:
    job = pipelines.find(name)

    def has_ended() -> bool:
        nonlocal job
        job = pipelines.find(name)
        return job is not None and job.state != "running"

    until(has_ended, f"the end of {name}")
    assert job is not None
    return job


def test_a_job_is_put_followed_and_ends(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """It is asked for before it is put, and told with the word that Azure ML uses."""
    assert pipelines.find(NAME) is None
    job = pipelines.submit(NAME, workspace.inputs)
    assert (job.name, job.state) == (NAME, "running")
    assert _asked(server) == ["GET", "GET", "PUT"]
    assert job.url.startswith("file:///")
    workspace.go.touch()
    assert _ended(pipelines).said == "Completed"
    assert _ended(pipelines).state == "completed"


def test_submitted_again_it_is_the_same_job(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """Also after it has ended, and whatever the inputs: the name is what counts."""
    pipelines.submit(NAME, workspace.inputs)
    workspace.go.touch()
    _ended(pipelines)
    assert pipelines.submit(NAME, workspace.inputs | {"cycle": "8"}).state == "completed"
    assert _asked(server).count("PUT") == 1
    assert workspace.noted.count("copy") == 1


def test_two_that_submit_at_once_get_one_job(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """Whoever is first, and whatever either wanted."""
    server.misbehave(Fault(method="GET", seconds=0.2, times=2))
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(pipelines.submit, NAME, workspace.inputs | {"cycle": "8"})
        assert pipelines.submit(NAME, workspace.inputs).name == other.result().name
    assert len(server.runner.list()) == 1


def test_already_exists_means_submitted(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """Another one put it between our two calls."""
    pipelines.submit(NAME, workspace.inputs)
    server.misbehave(Fault(method="GET", status=404))
    assert pipelines.submit(NAME, workspace.inputs | {"cycle": "8"}).state == "running"
    assert [exchange.status for exchange in server.exchanges][-3:] == [404, 409, 200]


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, times=2, retry_after=0.05),
        Fault(status=500, times=3),
        Fault(status=503),
        Fault(status=408),
        Fault(answer="never", times=2),
        Fault(answer="twice", times=2),
        Fault(seconds=0.2),
    ],
    ids=lambda fault: f"{fault.status or ''}{fault.answer if fault.status is None else ''}-{fault.seconds:g}",
)
def test_what_passes_is_waited_for(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines, method: str, fault: Fault
) -> None:
    """Refused for now, lost, doubled or late: there is one job in the end, and it runs once."""
    server.misbehave(msgspec.structs.replace(fault, method=method))
    assert pipelines.submit(NAME, workspace.inputs).state == "running"
    workspace.go.touch()
    assert _ended(pipelines).state == "completed"
    assert len(server.runner.list()) == 1
    assert workspace.noted.count("copy") == 1


def test_a_lost_answer_is_asked_for_before_it_is_put_again(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """The job was made: there is no second PUT."""
    server.misbehave(Fault(method="PUT", answer="never"))
    pipelines.submit(NAME, workspace.inputs)
    assert _asked(server) == ["GET", "PUT", "GET"]


def test_the_other_side_says_how_long_to_wait(server: AzureMLServer, pipelines: Pipelines) -> None:
    """Retry-After counts where it is longer than our own pause."""
    server.misbehave(Fault(status=429, retry_after=0.5))
    started = time.monotonic()
    assert pipelines.find(NAME) is None
    assert time.monotonic() - started >= 0.5


def test_a_wait_past_the_deadline_is_not_begun(server: AzureMLServer, pipelines: Pipelines) -> None:
    """A tick of the timer does not sleep for an hour because it is told to."""
    server.misbehave(Fault(status=429, retry_after=3600))
    with pytest.raises(PipelineUnavailable, match=r"find the job .*429.*asks to wait 3600 s"):
        pipelines.find(NAME)


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500, times=1000), Fault(seconds=30, times=1000), Fault(answer="drip", times=1000)],
    ids=["refused for now", "late", "a byte at a time"],
)
def test_trying_ends(workspace: Workspace, server: AzureMLServer, fault: Fault) -> None:
    """With an error that says that it may be tried again."""
    pipelines = workspace.pipelines(server, seconds=0.5)
    server.misbehave(fault)
    started = time.monotonic()
    for call in (
        lambda: pipelines.find(NAME),
        lambda: pipelines.submit(NAME, workspace.inputs),
        lambda: pipelines.cancel(NAME),
    ):
        with pytest.raises(PipelineUnavailable) as caught:
            call()
        assert NAME in caught.value.operation
    assert time.monotonic() - started < 8
    pipelines.close()


def test_nobody_listens(workspace: Workspace, server: AzureMLServer) -> None:
    """A refused connection may be none the next time."""
    environ = workspace.environ(server) | {
        "AZUREML_ENDPOINT": f"http://127.0.0.1:{unused_port()}",
        "AZUREML_TIMEOUT_SECONDS": "0.2",
    }
    with pytest.raises(PipelineUnavailable, match="refused"):
        open_pipelines(environ, first_pause=0.01).find(NAME)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AZUREML_TOKEN": "another"}, "401: InvalidAuthenticationToken.*role AzureML Data Scientist"),
        ({"AZUREML_WORKSPACE": "other"}, "404: ResourceNotFound.*check AZUREML_SUBSCRIPTION_ID"),
        ({"AZUREML_COMPONENT": "sentiment_retrain:9"}, r"400: .*not registered.*check AZUREML_COMPONENT"),
        ({"RETRAIN_BASE_DATA": "azureml:base:1"}, None),
    ],
)
def test_what_will_not_heal_is_refused_with_what_to_do(
    workspace: Workspace, server: AzureMLServer, changes: dict[str, str], message: str | None
) -> None:
    """Once: trying again would not help. A workspace that is missing is no missing job."""
    pipelines = workspace.pipelines(server, **changes)
    if message is None:
        pipelines.submit(NAME, workspace.inputs)
        assert "data is file:///... on this machine" in _ended(pipelines).said
        return
    with pytest.raises(PipelineRefused, match=message):
        pipelines.submit(NAME, workspace.inputs)
    assert len(server.exchanges) <= 2
    if "COMPONENT" not in next(iter(changes)):
        with pytest.raises(PipelineRefused):
            pipelines.find(NAME)
        with pytest.raises(PipelineRefused):
            pipelines.cancel(NAME)
    pipelines.close()


@pytest.mark.parametrize("status", [403, 404])
def test_a_page_of_somebody_in_between_is_no_missing_job(
    server: AzureMLServer, pipelines: Pipelines, status: int
) -> None:
    """Only what speaks as Azure does is believed: a proxy's page must not lose a job."""
    server.misbehave(Fault(status=status, page="<html>who are you?</html>"))
    with pytest.raises(PipelineRefused, match=rf"{status}: <html>who are you"):
        pipelines.find(NAME)


def test_an_answer_that_is_no_job_is_no_job(server: AzureMLServer, pipelines: Pipelines) -> None:
    """A page with status 200 neither."""
    server.misbehave(Fault(status=200, page="<html>welcome</html>"))
    with pytest.raises(PipelineUnavailable, match="the answer is no job: '<html>welcome"):
        pipelines.find(NAME)


def test_cancelling_ends_it_and_can_be_repeated(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """Also what is not there, and what has ended, can be cancelled."""
    pipelines.cancel(NAME)
    pipelines.submit(NAME, workspace.inputs)
    until(lambda: any(line.startswith("wait") for line in workspace.noted), "the second step")
    server.misbehave(Fault(method="POST", status=500, times=2))
    server.misbehave(Fault(method="POST", answer="never"))
    pipelines.cancel(NAME)
    assert _ended(pipelines).state == "canceled"
    pipelines.cancel(NAME)
    assert "done" not in workspace.noted


def test_a_failure_comes_with_its_reason(
    workspace: Workspace, server: AzureMLServer, pipelines: Pipelines
) -> None:
    """As far as the other side tells it."""
    workspace.data.unlink()
    pipelines.submit(NAME, workspace.inputs)
    job = _ended(pipelines)
    assert job.state == "failed"
    assert job.said == f"Failed: input base_data: there is no {workspace.data}"


def test_every_error_of_the_border_is_one_of_ours() -> None:
    """The tick catches one class."""
    assert issubclass(PipelineUnavailable, PipelineError)
    assert issubclass(PipelineRefused, PipelineError)


def test_without_a_workspace_there_are_no_pipelines(workspace: Workspace, server: AzureMLServer) -> None:
    """The services say so, rather than fail; with one, they are made once and closed."""
    assert Services(Settings.from_env(STORAGE)).pipelines is None
    services = Services(Settings.from_env(workspace.environ(server)))
    assert services.pipelines is services.pipelines
    assert services.pipelines is not None
    assert services.pipelines.find(NAME) is None
    services.close()
