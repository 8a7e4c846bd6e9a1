"""Builds what the doors need, once and when it is first asked for; the only place that makes clients."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentiment.errors import SettingsError
from sentiment.feedback import PredictionSigner
from sentiment.registry import ModelRegistry
from sentiment.serving import ClassifierLike, ModelEvent, ModelLoaded, ModelRefused, Serving
from sentiment.settings import Settings
from sentiment.telemetry import Telemetry

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

# The SDK's own defaults keep a request waiting for minutes when storage is gone:
# 20 s to connect, 60 s for every read, three more tries after 15 to 40 s each.
# With these it is under 10 s where nothing listens or nothing gets through, and
# under 20 s where a connection is accepted and then never answers.
_CONNECTION_SECONDS = 2
_READ_SECONDS = 5
_TRIES_MORE = 2
_PAUSE_SECONDS = 1

# A file that is sent in one request is there entirely or not at all; staged in
# blocks, two uploads of one name could mix. More than any model we know has.
_LARGEST_PUT = 512 * 1024 * 1024


class Services:
    """What serves requests, built from settings; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._clients: list[Any] = []
        self._registry: ModelRegistry | None = None
        self._serving: Serving | None = None
        self._signer: PredictionSigner | None = None
        self._telemetry: Telemetry | None = None

    @property
    def registry(self) -> ModelRegistry:
        """The model versions in Blob Storage.

        Raises:
            SettingsError: the settings lead to no storage account.
        """
        with self._lock:
            if self._registry is None:
                container = self._blob_service().get_container_client(self.settings.model_container)
                self._registry = ModelRegistry(container, self.settings.model_cache_folder)
            return self._registry

    @property
    def serving(self) -> Serving:
        """The champion in this process.

        Raises:
            SettingsError: the settings lead to no storage account.
        """
        with self._lock:
            if self._serving is None:
                self._serving = Serving(
                    self.registry,
                    self._load,
                    refresh_seconds=self.settings.model_refresh_seconds,
                    on_event=_tell(self.telemetry),
                )
            return self._serving

    @property
    def signer(self) -> PredictionSigner:
        """What signs predictions.

        Raises:
            SettingsError: there are no keys to sign with.
        """
        with self._lock:
            if self._signer is None:
                if not self.settings.signing_keys:
                    raise SettingsError("FEEDBACK_SIGNING_KEYS", "is not set: predictions cannot be signed")
                self._signer = PredictionSigner(self.settings.signing_keys)
            return self._signer

    @property
    def telemetry(self) -> Telemetry:
        """What tells Application Insights; does nothing without a connection string."""
        with self._lock:
            if self._telemetry is None:
                settings = self.settings
                self._telemetry = Telemetry(
                    settings.ingestion, sampling=settings.telemetry_sampling, text=settings.telemetry_text
                )
            return self._telemetry

    def close(self) -> None:
        """Stop what runs in the background and close connections; asked again, it all begins anew."""
        with self._lock:
            if self._serving is not None:
                self._serving.close()
            while self._clients:
                self._clients.pop().close()
            if self._telemetry is not None:
                self._telemetry.close()
            self._serving = self._registry = self._telemetry = None

    def _load(self, folder: Path) -> ClassifierLike:
        # Imported with the first model: the runtime is most of what a start costs.
        from sentiment.classifier import Classifier

        return Classifier.load(folder, threads=self.settings.predict_threads)

    def _blob_service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient, LinearRetry

        _quieten_sdk()
        options: dict[str, Any] = {
            "connection_timeout": _CONNECTION_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retry_policy": LinearRetry(
                backoff=_PAUSE_SECONDS, retry_total=_TRIES_MORE, random_jitter_range=_PAUSE_SECONDS
            ),
            "max_single_put_size": _LARGEST_PUT,
        }
        settings = self.settings
        try:
            if settings.storage_connection_string is not None:
                client = BlobServiceClient.from_connection_string(
                    settings.storage_connection_string, **options
                )
            else:
                # Imported only where an identity signs in.
                from azure.identity import DefaultAzureCredential

                credential = DefaultAzureCredential()
                self._clients.append(credential)
                client = BlobServiceClient(str(settings.blob_service_uri), credential=credential, **options)
        except ValueError as error:
            key = "AzureWebJobsStorage"
            if settings.storage_connection_string is None:
                key += "__blobServiceUri"
            raise SettingsError(key, f"cannot be used: {error}") from error
        self._clients.append(client)
        return client


def _tell(telemetry: Telemetry) -> Callable[[ModelEvent], None]:
    def tell(event: ModelEvent) -> None:
        match event:
            case ModelLoaded():
                telemetry.model_loaded(
                    version=event.version,
                    sha256=event.sha256,
                    replaced=event.replaced,
                    seconds=event.seconds,
                )
            case ModelRefused():
                telemetry.model_refused(
                    version=event.version, sha256=event.sha256, reason=event.reason, serving=event.serving
                )

    return tell


def _quieten_sdk() -> None:
    # The SDK logs every request with its headers at INFO, which is what a Function
    # App's logs show. Whoever wants them sets this logger's level before.
    sdk = logging.getLogger("azure")
    if sdk.level == logging.NOTSET:
        sdk.setLevel(logging.WARNING)


_lock = threading.Lock()
_services: Services | None = None


def get_services() -> Services:
    """Return this process's services, built from its environment at the first call.

    Raises:
        SettingsError: a setting is missing or malformed.
    """
    global _services
    with _lock:
        if _services is None:
            _services = Services(Settings.from_env(os.environ))
        return _services


def close_services() -> None:
    """Close this process's services, if there are any: what still waits to be sent is sent."""
    with _lock:
        services = _services
    if services is not None:
        services.close()


@contextmanager
def use_services(services: Services) -> Iterator[Services]:
    """Have `get_services` return these while the context lasts; closing them is up to the caller."""
    global _services
    with _lock:
        before, _services = _services, services
    try:
        yield services
    finally:
        with _lock:
            _services = before
