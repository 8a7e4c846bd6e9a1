"""The settings, and the only place that reads an environment."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Struct

from sentiment.errors import SettingsError

T = TypeVar("T")


class Ingestion(Struct, frozen=True):
    """Where telemetry goes: the parts of a connection string of Application Insights."""

    instrumentation_key: str
    endpoint: str


class RetrainPolicy(Struct, frozen=True, kw_only=True):
    """When a retraining cycle starts, and how long each part of it may take."""

    #: Accepted errors that start a cycle.
    threshold: int
    #: How old the oldest may become before fewer do, and how many that must be.
    max_age_days: float
    min_errors: int
    #: Between two starts; also what the wait after a failure or refusal begins with.
    cooldown_hours: float
    #: How long a job may run before it is cancelled.
    job_timeout_hours: float
    #: How long a published version may wait for its deployment.
    deploy_timeout_hours: float


class GithubDeployment(Struct, frozen=True, kw_only=True):
    """The repository whose workflow promotes, and what to sign in with."""

    #: Of the API; another one for GitHub Enterprise Server.
    endpoint: str
    #: owner/name
    repository: str
    token: str


class DevopsDeployment(Struct, frozen=True, kw_only=True):
    """The Azure Pipelines pipeline that promotes, and what to sign in with."""

    endpoint: str
    organization: str
    project: str
    pipeline: int
    token: str


class AzureML(Struct, frozen=True, kw_only=True):
    """Where retraining runs: a workspace of Azure ML, and what its pipeline is given."""

    subscription_id: str
    resource_group: str
    workspace: str
    endpoint: str
    #: Sent instead of a token of the app's identity; None: the identity signs in.
    token: str | None
    #: The registered pipeline component, as `name:version`.
    component: str
    #: What steps run on that name no compute of their own; None: as the component says.
    compute: str | None
    #: Data assets of the workspace (`azureml:name:version`) or addresses.
    base_data: str
    validation_data: str
    golden_data: str
    #: For one operation, with all its tries.
    timeout_seconds: float


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set from outside, checked."""

    #: Connection string of the storage account, or its blob endpoint when the app
    #: signs in with its identity. Exactly one of the two is set.
    storage_connection_string: str | None
    blob_service_uri: str | None
    queue_service_uri: str | None
    table_service_uri: str | None
    model_container: str
    model_refresh_seconds: float
    model_cache_folder: Path
    predict_threads: int
    #: Newest first; empty where nothing has to be signed (the command line).
    signing_keys: tuple[str, ...]
    #: None: nothing is sent.
    ingestion: Ingestion | None
    #: The part of predictions that become events, from 0 to 1.
    telemetry_sampling: float
    #: Whether the text of a correction is sent.
    telemetry_text: bool
    #: What users' names are hashed with; None where neither it nor a signing key is set.
    pseudonym_key: str | None
    feedback_max_age_hours: float
    #: The largest share of one user in what a cycle learns from, 0 to 1.
    feedback_user_cap: float
    #: 0 keeps corrections for ever.
    feedback_retention_days: int
    #: The part of predictions whose text is kept to learn from, from 0 to 1.
    sample_predictions: float
    retrain_container: str
    retrain: RetrainPolicy
    #: Who moves the champion pointer to a candidate that passed the gate: the pipeline
    #: itself, or the deployment below.
    deploy_mode: Literal["direct", "github", "devops"]
    deployment: GithubDeployment | DevopsDeployment | None
    #: How long a promotion is watched, 0: not at all.
    watch_hours: float
    #: None: nothing is retrained.
    azureml: AzureML | None

    @property
    def storage_account(self) -> str | None:
        """The account's name where the app signs in with its identity; None with a connection string."""
        return (
            (urlsplit(self.blob_service_uri).hostname or "").split(".")[0] if self.blob_service_uri else None
        )

    @property
    def pipeline_inputs(self) -> dict[str, str]:
        """What every job of the pipeline is given: on its cluster it sees none of these settings."""
        containers = {"model_container": self.model_container, "retrain_container": self.retrain_container}
        return {
            "deploy_mode": self.deploy_mode,
            **({} if self.storage_account is None else {"storage_account": self.storage_account}),
            **{name: value for name, value in containers.items() if value != _CONTAINERS[name]},
        }

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from `environ` (usually `os.environ`).

        Raises:
            SettingsError: a setting is missing or malformed; the message names it,
                what it must be and what it is.
        """
        deploy_mode = _read(environ, "DEPLOY_MODE", "direct", _deploy_mode)
        connection_string = environ.get("AzureWebJobsStorage") or None
        blob_service_uri = environ.get("AzureWebJobsStorage__blobServiceUri") or None
        account_name = environ.get("AzureWebJobsStorage__accountName")
        if blob_service_uri is None and account_name:
            blob_service_uri = f"https://{account_name}.blob.core.windows.net"
        if connection_string is None and blob_service_uri is None:
            raise SettingsError(
                "AzureWebJobsStorage",
                "is not set: give the connection string of the storage account, or "
                "AzureWebJobsStorage__accountName to sign in with the app's identity",
            )
        keys = _read(environ, "FEEDBACK_SIGNING_KEYS", "", _keys)
        pseudonym_key = _read(environ, "FEEDBACK_PSEUDONYM_KEY", "", _keys)
        if connection_string == "UseDevelopmentStorage=true":
            connection_string = DEVELOPMENT_STORAGE
        return cls(
            storage_connection_string=connection_string,
            blob_service_uri=None if connection_string else blob_service_uri,
            queue_service_uri=environ.get("AzureWebJobsStorage__queueServiceUri")
            or _beside(blob_service_uri, "queue"),
            table_service_uri=environ.get("AzureWebJobsStorage__tableServiceUri")
            or _beside(blob_service_uri, "table"),
            model_container=environ.get("MODEL_CONTAINER") or _CONTAINERS["model_container"],
            model_refresh_seconds=_read(environ, "MODEL_REFRESH_SECONDS", "30", _positive_number),
            model_cache_folder=_read(
                environ, "MODEL_CACHE_FOLDER", str(Path(tempfile.gettempdir()) / "sentiment-models"), Path
            ),
            predict_threads=_read(environ, "PREDICT_THREADS", "0", _count),
            ingestion=_read(environ, "APPLICATIONINSIGHTS_CONNECTION_STRING", "", _ingestion),
            telemetry_sampling=_read(environ, "TELEMETRY_SAMPLING", "1", _part),
            telemetry_text=_read(environ, "TELEMETRY_TEXT", "0", _switch),
            signing_keys=keys,
            # The oldest key is the one that was there before any rotation.
            pseudonym_key=next(iter(pseudonym_key), None) or (keys[-1] if keys else None),
            feedback_max_age_hours=_read(environ, "FEEDBACK_MAX_AGE_HOURS", "168", _hours),
            feedback_user_cap=_read(environ, "FEEDBACK_USER_CAP", "0.2", _share),
            feedback_retention_days=_read(environ, "FEEDBACK_RETENTION_DAYS", "365", _days),
            sample_predictions=_read(environ, "SAMPLE_PREDICTIONS", "0", _part),
            retrain_container=environ.get("RETRAIN_CONTAINER") or _CONTAINERS["retrain_container"],
            retrain=RetrainPolicy(
                threshold=_read(environ, "RETRAIN_THRESHOLD", "200", _positive_count),
                max_age_days=_read(environ, "RETRAIN_MAX_AGE_DAYS", "7", _long_days),
                min_errors=_read(environ, "RETRAIN_MIN_ERRORS", "50", _positive_count),
                cooldown_hours=_read(environ, "RETRAIN_COOLDOWN_HOURS", "24", _hours),
                job_timeout_hours=_read(environ, "RETRAIN_JOB_TIMEOUT_HOURS", "24", _hours),
                deploy_timeout_hours=_read(environ, "RETRAIN_DEPLOY_TIMEOUT_HOURS", "72", _hours),
            ),
            deploy_mode=deploy_mode,
            deployment=_deployment(environ, deploy_mode),
            watch_hours=_read(environ, "WATCH_HOURS", "24", _hours_or_none),
            azureml=_azureml(environ),
        )


#: What ``UseDevelopmentStorage=true`` stands for: Azurite's published account and key
#: (the same on every machine, no secret) on its default ports.
DEVELOPMENT_STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)

_CONTAINERS = {"model_container": "models", "retrain_container": "retrain"}
_DEPLOY_MODES: tuple[Literal["direct", "github", "devops"], ...] = ("direct", "github", "devops")
_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
_SHORTEST_KEY = 16
_INGESTION_SUFFIX = "services.visualstudio.com"
_LONGEST_DAYS = 36_500


def _read(environ: Mapping[str, str], key: str, default: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(environ.get(key, "").strip() or default)
    except ValueError as error:
        raise SettingsError(key, str(error)) from error


def _positive_number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise ValueError(f"must be a positive number, got {value!r}")
    return number


def _deploy_mode(value: str) -> Literal["direct", "github", "devops"]:
    for mode in _DEPLOY_MODES:
        if value == mode:
            return mode
    raise ValueError(f"must be {', '.join(_DEPLOY_MODES[:-1])} or {_DEPLOY_MODES[-1]}, got {value!r}")


def _deployment(environ: Mapping[str, str], mode: str) -> GithubDeployment | DevopsDeployment | None:
    """Read what `mode` needs, all of it; what another mode would need is not looked at."""

    def needed(value: str) -> str:
        if not value:
            raise ValueError(f"is not set, and DEPLOY_MODE is {mode}")
        return value

    def secret(value: str) -> str:
        # A line break would end the header it travels in; the value stays out of the message.
        if not (needed(value).isascii() and value.isprintable() and " " not in value):
            raise ValueError("must be a token: printable characters without spaces")
        return value

    if mode == "github":
        return GithubDeployment(
            endpoint=_read(environ, "DEPLOY_ENDPOINT", "https://api.github.com", _endpoint),
            repository=_read(
                environ, "DEPLOY_GITHUB_REPOSITORY", "", lambda value: _repository(needed(value))
            ),
            token=_read(environ, "DEPLOY_GITHUB_TOKEN", "", secret),
        )
    if mode == "devops":
        return DevopsDeployment(
            endpoint=_read(environ, "DEPLOY_ENDPOINT", "https://dev.azure.com", _endpoint),
            organization=_read(environ, "DEPLOY_DEVOPS_ORGANIZATION", "", needed),
            project=_read(environ, "DEPLOY_DEVOPS_PROJECT", "", needed),
            pipeline=_read(
                environ, "DEPLOY_DEVOPS_PIPELINE_ID", "", lambda value: _positive_count(needed(value))
            ),
            token=_read(environ, "DEPLOY_DEVOPS_TOKEN", "", secret),
        )
    return None


def _repository(value: str) -> str:
    if not _REPOSITORY.fullmatch(value):
        raise ValueError(f"must be owner/name, got {value!r}")
    return value


def _hours_or_none(value: str) -> float:
    return 0.0 if value == "0" else _hours(value)


def _share(value: str) -> float:
    number = _positive_number(value)
    if number > 1:
        raise ValueError(f"must be a share above 0 and at most 1, got {value!r}")
    return number


def _hours(value: str) -> float:
    hours = _positive_number(value)
    if hours > 24 * _LONGEST_DAYS:
        raise ValueError(f"must be at most {24 * _LONGEST_DAYS:,} hours, got {value!r}")
    return hours


def _days(value: str) -> int:
    days = _count(value)
    if days > _LONGEST_DAYS:
        raise ValueError(f"must be at most {_LONGEST_DAYS:,} days, got {value!r}")
    return days


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"must be a whole number, 0 or more, got {value!r}")
    return int(value)


def _positive_count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ValueError(f"must be a positive whole number, got {value!r}")
    return int(value)


def _long_days(value: str) -> float:
    days = _positive_number(value)
    if days > _LONGEST_DAYS:
        raise ValueError(f"must be at most {_LONGEST_DAYS:,} days, got {value!r}")
    return days


def _part(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"must be a number from 0 to 1, got {value!r}")
    return number


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError(f"must be 0 or 1, got {value!r}")
    return value == "1"


def _ingestion(value: str) -> Ingestion | None:
    """Take a connection string of Application Insights apart.

    As in https://learn.microsoft.com/azure/azure-monitor/app/connection-strings:
    parts `Key=value` separated by semicolons, in any case and order.
    """
    if not value:
        return None
    # The string stays out of the messages: they end up in logs.
    parts: dict[str, str] = {}
    for part in filter(None, map(str.strip, value.split(";"))):
        key, equals, given = part.partition("=")
        if not equals:
            raise ValueError("must be Key=value parts separated by semicolons, and one has no '='")
        parts[key.strip().lower()] = given.strip()
    try:
        key = str(UUID(parts.get("instrumentationkey", "")))
    except ValueError:
        raise ValueError("must have an InstrumentationKey, which is a GUID") from None
    suffix = parts.get("endpointsuffix")
    endpoint = parts.get("ingestionendpoint") or f"https://dc.{suffix or _INGESTION_SUFFIX}"
    try:
        address = urlsplit(endpoint)
        # Reading the port is what checks it.
        usable = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        usable = False
    if not usable or address.query or address.fragment or address.username:
        raise ValueError(
            "must have an IngestionEndpoint that is an http(s) address, without a name or a query"
        )
    return Ingestion(key, endpoint.rstrip("/"))


def _azureml(environ: Mapping[str, str]) -> AzureML | None:
    """Return the workspace that the settings name, None when they name none."""
    named = ("AZUREML_SUBSCRIPTION_ID", "AZUREML_RESOURCE_GROUP", "AZUREML_WORKSPACE")
    if not any(environ.get(key, "").strip() for key in named):
        return None
    token = _read(environ, "AZUREML_TOKEN", "", str) or None
    endpoint = _read(environ, "AZUREML_ENDPOINT", "https://management.azure.com", _endpoint)
    if endpoint.startswith("http:") and token is None:
        raise SettingsError(
            "AZUREML_TOKEN",
            "is not set: the app's identity signs in over https only, and the endpoint is http",
        )
    return AzureML(
        subscription_id=_read(environ, "AZUREML_SUBSCRIPTION_ID", "", _one_part),
        resource_group=_read(environ, "AZUREML_RESOURCE_GROUP", "", _one_part),
        workspace=_read(environ, "AZUREML_WORKSPACE", "", _one_part),
        endpoint=endpoint,
        token=token,
        component=_read(environ, "AZUREML_COMPONENT", "sentiment_retrain:1", _versioned),
        compute=_read(environ, "AZUREML_COMPUTE", "", str) or None,
        base_data=_read(environ, "RETRAIN_BASE_DATA", "azureml:sentiment-base:1", _data),
        validation_data=_read(environ, "RETRAIN_VALIDATION_DATA", "azureml:sentiment-validation:1", _data),
        golden_data=_read(environ, "RETRAIN_GOLDEN_DATA", "azureml:sentiment-golden:1", _data),
        timeout_seconds=_read(environ, "AZUREML_TIMEOUT_SECONDS", "60", _positive_number),
    )


def _endpoint(value: str) -> str:
    try:
        address = urlsplit(value)
        here = address.hostname in ("localhost", "127.0.0.1", "::1")
        # Reading the port is what checks it. A token goes over plain http to this machine only.
        usable = address.hostname and address.port != 0 and (address.scheme == "https" or here)
    except ValueError:
        usable = False
    if not usable or address.scheme not in ("http", "https") or address.query or address.username:
        raise ValueError(f"must be an https address (http on this machine only), got {value!r}")
    return value.rstrip("/")


def _one_part(value: str) -> str:
    if not re.fullmatch(r"[\w.()-]+", value):
        raise ValueError(
            f"must be a name without slashes or spaces, got {value!r}"
            if value
            else "is not set: retraining needs AZUREML_SUBSCRIPTION_ID, AZUREML_RESOURCE_GROUP and "
            "AZUREML_WORKSPACE, or none of them"
        )
    return value


def _versioned(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+:[\w.-]+", value):
        raise ValueError(f"must be a component's name:version, got {value!r}")
    return value


def _data(value: str) -> str:
    if not re.fullmatch(r"azureml:[\w.-]+:[\w.-]+", value) and not urlsplit(value).path.startswith("/"):
        raise ValueError(f"must be azureml:name:version or an address, got {value!r}")
    return value


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in value.split(",")) if value else ()
    # The keys themselves stay out of the message: it ends up in logs.
    if any(len(key) < _SHORTEST_KEY for key in keys):
        raise ValueError(
            f"must be secret keys of at least {_SHORTEST_KEY} characters, "
            "separated by commas, the newest first"
        )
    return keys


def _beside(blob_service_uri: str | None, service: str) -> str | None:
    """Return the address of another service of the account that this blob endpoint belongs to."""
    return blob_service_uri.replace(".blob.", f".{service}.", 1) if blob_service_uri else None
