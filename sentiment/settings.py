"""The settings, and the only place that reads an environment."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from sentiment.errors import SettingsError

T = TypeVar("T")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set from outside, checked."""

    #: Connection string of the storage account, or its blob endpoint when the app
    #: signs in with its identity. Exactly one of the two is set.
    storage_connection_string: str | None
    blob_service_uri: str | None
    model_container: str
    model_refresh_seconds: float
    model_cache_folder: Path
    predict_threads: int
    #: Newest first; empty where nothing has to be signed (the command line).
    signing_keys: tuple[str, ...]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from `environ` (usually `os.environ`).

        Raises:
            SettingsError: a setting is missing or malformed; the message names it,
                what it must be and what it is.
        """
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
        if connection_string == "UseDevelopmentStorage=true":
            connection_string = DEVELOPMENT_STORAGE
        return cls(
            storage_connection_string=connection_string,
            blob_service_uri=None if connection_string else blob_service_uri,
            model_container=environ.get("MODEL_CONTAINER") or "models",
            model_refresh_seconds=_read(environ, "MODEL_REFRESH_SECONDS", "30", _positive_number),
            model_cache_folder=_read(
                environ, "MODEL_CACHE_FOLDER", str(Path(tempfile.gettempdir()) / "sentiment-models"), Path
            ),
            predict_threads=_read(environ, "PREDICT_THREADS", "0", _count),
            signing_keys=_read(environ, "FEEDBACK_SIGNING_KEYS", "", _keys),
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

_SHORTEST_KEY = 16


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


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"must be a whole number, 0 or more, got {value!r}")
    return int(value)


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in value.split(",")) if value else ()
    # The keys themselves stay out of the message: it ends up in logs.
    if any(len(key) < _SHORTEST_KEY for key in keys):
        raise ValueError(
            f"must be secret keys of at least {_SHORTEST_KEY} characters, "
            "separated by commas, the newest first"
        )
    return keys
