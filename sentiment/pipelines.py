"""Start and follow pipeline jobs of Azure ML, through its REST API.

The calls are those of https://learn.microsoft.com/rest/api/azureml/jobs. A job runs
the pipeline component that is registered in the workspace (`azureml/pipeline.yml`):
it is named by id, so that neither the YAML nor the Azure ML SDK is needed here.

A job's name is immutable. So a job is asked for before it is put, an answer that is
lost is asked for again, and "a job with this name already exists" means submitted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from azure.core import PipelineClient
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, HeadersPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from msgspec import Struct

from sentiment.errors import PipelineError, PipelineRefused, PipelineUnavailable
from sentiment.settings import AzureML

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.rest import HttpResponse

#: The newest stable version when this was written that names a pipeline component by id.
API_VERSION = "2024-04-01"
SCOPE = "https://management.azure.com/.default"
#: The name under which the workspace lists the runs.
EXPERIMENT = "sentiment-retrain"

JobState = Literal["running", "completed", "failed", "canceled"]

_FINAL: dict[str, JobState] = {"Completed": "completed", "Failed": "failed", "Canceled": "canceled"}
_DATA_INPUTS = ("base_data", "validation_data", "golden_data")
_CONNECTION_SECONDS = 5.0
_LONGEST_ANSWER_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 20.0
# What is said where the subscription, the group or the workspace is not there: no word about a job.
_NO_WORKSPACE = (
    "SubscriptionNotFound",
    "InvalidSubscriptionId",
    "ResourceGroupNotFound",
    "ResourceNotFound",
    "InvalidResourceType",
    "InvalidResourceNamespace",
)


class Job(Struct, frozen=True, kw_only=True):
    """A pipeline job as Azure ML last told it."""

    name: str
    state: JobState
    #: Azure ML's own word for the state and, where it gave one, the reason.
    said: str
    #: Where a person sees it; empty where Azure ML named no place.
    url: str


class Pipelines:
    """The jobs of one workspace; safe to share between threads.

    Every method raises `PipelineUnavailable` where Azure ML does not answer within
    `AZUREML_TIMEOUT_SECONDS` (worth another try), and `PipelineRefused` where it
    will go on refusing.
    """

    def __init__(
        self,
        settings: AzureML,
        credential: TokenCredential | None,
        *,
        inputs: Mapping[str, str] | None = None,
        first_pause: float = _FIRST_PAUSE_SECONDS,
    ) -> None:
        """Take `inputs` for every job, beside the data; `credential` is not used where there is a token."""
        self._settings = settings
        self._inputs = dict(inputs or {})
        self._first_pause = first_pause
        self._workspace = (
            f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace}"
        )
        signing: Any
        if settings.token is not None:
            signing = HeadersPolicy({"Authorization": f"Bearer {settings.token}"})
        elif credential is not None:
            signing = BearerTokenCredentialPolicy(credential, SCOPE)
        else:
            raise ValueError("there is neither a token nor a credential")
        self._client: PipelineClient[Any, Any] = PipelineClient(
            settings.endpoint,
            policies=[UserAgentPolicy("tweet-sentiment"), signing],
            # Never through a proxy to this machine, which plain http always is.
            transport=RequestsTransport(use_env_settings=settings.endpoint.startswith("https:")),
        )

    def submit(self, name: str, inputs: Mapping[str, str]) -> Job:
        """Have Azure ML run the pipeline under `name`, once however often this is called.

        `inputs` are the pipeline's, beside those that every job is given.
        """
        operation = f"submit the job {name}"
        tries = self._tries(operation)
        body = self.body({**self._inputs, **inputs})
        while True:
            # Asked for first: what was lost of the last try is an answer, perhaps no job.
            job = self._find(name, tries)
            if job is not None:
                return job
            try:
                answer = self._send("PUT", name, tries, body)
            except _Passing as passing:
                tries.pause(passing)
                continue
            if answer.status_code in (200, 201):
                return _job(name, answer, operation)
            if answer.status_code != 409 and "already exists" not in _said(answer):
                raise self._refused(operation, answer)
            # Another one submitted it between the two calls, or an answer of ours was lost.
            job = self._find(name, tries)
            if job is not None:
                return job
            tries.pause(_Passing(_said(answer)))

    def find(self, name: str) -> Job | None:
        """Return the job, or None where the workspace has none of this name."""
        return self._find(
            name, _Tries(f"find the job {name}", self._settings.timeout_seconds, self._first_pause)
        )

    def cancel(self, name: str) -> None:
        """Ask Azure ML to end the job; one that has ended, or that is not there, is no error."""
        operation = f"cancel the job {name}"
        tries = self._tries(operation)
        answer = self._patiently("POST", name, tries)
        if answer.status_code in (200, 202, 204) or self._is_missing(answer):
            return
        if answer.status_code in (400, 409):
            job = self._find(name, tries)
            if job is None or job.state != "running":
                return
        raise self._refused(operation, answer)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def body(self, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return what is PUT: the component by id and its inputs, as azure-ai-ml's REST models have them."""
        settings = self._settings
        data = {name: getattr(settings, name) for name in _DATA_INPUTS}
        literals = {
            name: {"jobInputType": "literal", "value": value} for name, value in inputs.items() if value
        }
        files = {name: {"jobInputType": "uri_file", "uri": self._asset_id(uri)} for name, uri in data.items()}
        component, _, version = settings.component.partition(":")
        run_settings = {"_source": "REMOTE.WORKSPACE.JOB"}
        if settings.compute is not None:
            run_settings["default_compute"] = f"{self._workspace}/computes/{settings.compute}"
        return {
            "properties": {
                "jobType": "Pipeline",
                "componentId": f"{self._workspace}/components/{component}/versions/{version}",
                "experimentName": EXPERIMENT,
                "isArchived": False,
                "inputs": {**files, **literals},
                "jobs": {},
                "outputs": {},
                "settings": run_settings,
            }
        }

    def _tries(self, operation: str) -> _Tries:
        return _Tries(operation, self._settings.timeout_seconds, self._first_pause)

    def _asset_id(self, uri: str) -> str:
        """Return the id of a data asset named as `azureml:name:version`; an address is its own."""
        scheme, _, rest = uri.partition(":")
        name, separator, version = rest.partition(":")
        if scheme != "azureml" or not separator or "/" in rest:
            return uri
        return f"{self._workspace}/data/{name}/versions/{version}"

    def _find(self, name: str, tries: _Tries) -> Job | None:
        answer = self._patiently("GET", name, tries)
        if self._is_missing(answer):
            return None
        if answer.status_code != 200:
            raise self._refused(tries.operation, answer)
        return _job(name, answer, tries.operation)

    def _patiently(self, method: str, name: str, tries: _Tries) -> HttpResponse:
        while True:
            try:
                return self._send(method, name, tries)
            except _Passing as passing:
                tries.pause(passing)

    def _send(self, method: str, name: str, tries: _Tries, body: object = None) -> HttpResponse:
        """Send one request.

        Raises:
            _Passing: it may go through later.
            PipelineRefused: the app cannot sign in.
        """
        path = f"{self._workspace}/jobs/{quote(name, safe='')}{'/cancel' if method == 'POST' else ''}"
        request = HttpRequest(
            method, self._client.format_url(path), params={"api-version": API_VERSION}, json=body
        )
        seconds = min(_LONGEST_ANSWER_SECONDS, tries.left())
        try:
            answer = _in_time(
                seconds,
                lambda: self._client.send_request(
                    request, connection_timeout=min(_CONNECTION_SECONDS, seconds), read_timeout=seconds
                ),
            )
        except ClientAuthenticationError as error:
            raise PipelineRefused(
                tries.operation,
                f"the app cannot sign in: {_first_line(error)}; give the Function App a managed identity",
            ) from error
        except AzureError as error:
            raise _Passing(_first_line(error)) from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise _Passing(f"{answer.status_code}: {_said(answer)}", _retry_after(answer))
        return answer

    def _is_missing(self, answer: HttpResponse) -> bool:
        """Return whether the workspace says that it has no such job, which no other 404 does."""
        if answer.status_code != 404:
            return False
        code, message = _error(answer)
        return bool(code) and not (code in _NO_WORKSPACE and "/jobs/" not in message)

    def _refused(self, operation: str, answer: HttpResponse) -> PipelineError:
        settings = self._settings
        said = f"{answer.status_code}: {_said(answer)}"
        match answer.status_code:
            case 401 | 403:
                advice = f"give the app's identity the role AzureML Data Scientist on {settings.workspace}"
            case 404:
                advice = "check AZUREML_SUBSCRIPTION_ID, AZUREML_RESOURCE_GROUP and AZUREML_WORKSPACE"
            case 400:
                advice = f"check AZUREML_COMPONENT ({settings.component}), AZUREML_COMPUTE and RETRAIN_*_DATA"
            case _:
                advice = "see the workspace in Azure ML studio"
        return PipelineRefused(operation, f"{said}; {advice}")


class _Passing(Exception):
    """A try that failed for now, and how many seconds the other side asks to wait."""

    def __init__(self, said: str, wait: float | None = None) -> None:
        super().__init__(said)
        self.wait = wait


class _Tries:
    """How often and until when one operation is tried."""

    def __init__(
        self,
        operation: str,
        seconds: float,
        first_pause: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.operation = operation
        self._now, self._sleep = now, sleep
        self._deadline = now() + seconds
        self._pause = first_pause

    def left(self) -> float:
        """Return the seconds that are left, at least a moment."""
        return max(0.1, self._deadline - self._now())

    def pause(self, passing: _Passing) -> None:
        """Wait before the next try.

        Raises:
            PipelineUnavailable: the wait would go past the deadline.
        """
        wait = self._pause if passing.wait is None else max(passing.wait, self._pause)
        if self._now() + wait >= self._deadline:
            asked = f" (it asks to wait {passing.wait:.0f} s)" if passing.wait else ""
            raise PipelineUnavailable(self.operation, f"{passing}{asked}") from passing.__cause__
        self._sleep(wait)
        self._pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause)


def _in_time(seconds: float, send: Callable[[], HttpResponse]) -> HttpResponse:
    """Return what `send` returns, if it does so in time.

    A timeout of the SDK's is for one byte: an answer that comes slowly enough never ends.

    Raises:
        _Passing: it does not; it goes on in a thread that nobody waits for.
    """
    answer: Future[HttpResponse] = Future()

    def work() -> None:
        try:
            answer.set_result(send())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="azureml-request", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        raise _Passing(f"no whole answer within {seconds:.1f} s") from error


def _job(name: str, answer: HttpResponse, operation: str) -> Job:
    try:
        properties = answer.json()["properties"]
        status = str(properties.get("status") or "Unknown")
        # Azure names the reason of a failure in the studio only, the local server here too.
        reason = (properties.get("error") or {}).get("message")
        url = str(((properties.get("services") or {}).get("Studio") or {}).get("endpoint") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineUnavailable(operation, f"the answer is no job: {answer.text()[:200]!r}") from error
    return Job(
        name=name,
        state=_FINAL.get(status, "running"),
        said=f"{status}: {reason}" if reason else status,
        url=url,
    )


def _error(answer: HttpResponse) -> tuple[str, str]:
    """Return code and message of an error as ARM writes it, both empty where it is something else."""
    try:
        error = answer.json()["error"]
        return str(error["code"]), str(error.get("message") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _said(answer: HttpResponse) -> str:
    code, message = _error(answer)
    if not code:
        return (answer.text().strip().splitlines() or [answer.reason or "no reason"])[0][:200]
    return f"{code}: {(message.splitlines() or [''])[0]}"


def _retry_after(answer: HttpResponse) -> float | None:
    try:
        return max(0.0, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
