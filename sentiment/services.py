"""Builds what the doors need, once and when it is first asked for; the only place that makes clients."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentiment.blobs import Blobs
from sentiment.errors import SettingsError
from sentiment.feedback import PredictionSigner
from sentiment.feedback.messages import Pseudonyms
from sentiment.feedback.quarantine import Quarantine
from sentiment.feedback.queue import MessageQueue
from sentiment.feedback.store import CorrectionReader, CorrectionStore
from sentiment.feedback.tables import Table
from sentiment.registry import ModelRegistry
from sentiment.samples import Samples
from sentiment.serving import ClassifierLike, ModelEvent, ModelLoaded, ModelRefused, Serving
from sentiment.settings import Settings
from sentiment.telemetry import Telemetry
from sentiment.usage import PredictionCounts

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableServiceClient
    from azure.storage.blob import BlobServiceClient

    from sentiment.pipelines import Pipelines

# The SDK's own defaults keep a request waiting for minutes when storage is gone:
# 20 s to connect, 60 s for every read, three more tries after 15 to 40 s each.
# With these it is under 10 s where nothing listens or nothing gets through, and
# under 20 s where a connection is accepted and then never answers.
_CONNECTION_SECONDS = 2
_READ_SECONDS = 5
_TRIES_MORE = 2
_PAUSE_SECONDS = 1

CORRECTIONS_TABLE = "corrections"
QUARANTINE_TABLE = "quarantine"
USAGE_TABLE = "usage"
SAMPLES_TABLE = "samples"
CORRECTIONS_QUEUE = "corrections"

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
        self._retrain_blobs: Blobs | None = None
        self._serving: Serving | None = None
        self._signer: PredictionSigner | None = None
        self._telemetry: Telemetry | None = None
        self._tables: TableServiceClient | None = None
        self._queues: dict[str, MessageQueue] = {}
        self._prediction_counts: PredictionCounts | None = None
        self._samples: Samples | None = None
        self._pipelines: Pipelines | None = None

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
    def retrain_blobs(self) -> Blobs:
        """The container of the retraining loop: its state, its cycles, its ticks.

        Raises:
            SettingsError: the settings lead to no storage account.
        """
        with self._lock:
            if self._retrain_blobs is None:
                container = self._blob_service().get_container_client(self.settings.retrain_container)
                self._retrain_blobs = Blobs(container)
            return self._retrain_blobs

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

    @property
    def pseudonyms(self) -> Pseudonyms:
        """What users' names are replaced by.

        Raises:
            SettingsError: there is no key to hash them with.
        """
        if self.settings.pseudonym_key is None:
            raise SettingsError("FEEDBACK_PSEUDONYM_KEY", "is not set, nor are FEEDBACK_SIGNING_KEYS")
        return Pseudonyms(self.settings.pseudonym_key)

    @property
    def corrections(self) -> CorrectionStore:
        """The correction store.

        Raises:
            SettingsError: the settings lead to no storage account, or there is no key for pseudonyms.
        """
        return CorrectionStore(self._table(CORRECTIONS_TABLE), self.pseudonyms)

    @property
    def correction_reader(self) -> CorrectionReader:
        """The correction store, to read: without a key for pseudonyms.

        Raises:
            SettingsError: the settings lead to no storage account.
        """
        return CorrectionReader(self._table(CORRECTIONS_TABLE))

    @property
    def quarantine(self) -> Quarantine:
        """The messages that can never be stored.

        Raises:
            SettingsError: the settings lead to no storage account, or there is no key for pseudonyms.
        """
        return Quarantine(self._table(QUARANTINE_TABLE), self.pseudonyms)

    @property
    def prediction_counts(self) -> PredictionCounts:
        """How many predictions were made, and of what."""
        with self._lock:
            if self._prediction_counts is None:
                self._prediction_counts = PredictionCounts(partial(self._table, USAGE_TABLE))
            return self._prediction_counts

    @property
    def samples(self) -> Samples:
        """The predictions that are kept, where SAMPLE_PREDICTIONS says so."""
        with self._lock:
            if self._samples is None:
                self._samples = Samples(partial(self._table, SAMPLES_TABLE), self.settings.sample_predictions)
            return self._samples

    @property
    def queue(self) -> MessageQueue:
        """The queue of corrections on their way to the store."""
        return self._queue(CORRECTIONS_QUEUE)

    @property
    def poison_queue(self) -> MessageQueue:
        """Where the platform puts messages that kept failing."""
        return self._queue(f"{CORRECTIONS_QUEUE}-poison")

    @property
    def pipelines(self) -> Pipelines | None:
        """The retraining jobs of Azure ML; None where the settings name no workspace."""
        # Imported with the first call: HTTP functions never make it.
        from sentiment.pipelines import Pipelines

        settings = self.settings
        with self._lock:
            if self._pipelines is None and settings.azureml is not None:
                _quieten_sdk()
                self._pipelines = Pipelines(
                    settings.azureml,
                    None if settings.azureml.token is not None else self._credential(),
                    inputs=settings.pipeline_inputs,
                )
                self._clients.append(self._pipelines)
            return self._pipelines

    def close(self) -> None:
        """Stop what runs in the background and close connections; asked again, it all begins anew."""
        # Without the lock, which they need to reach their tables.
        for writing in (self._prediction_counts, self._samples):
            if writing is not None:
                writing.close()
        with self._lock:
            self._prediction_counts = self._samples = None
            if self._serving is not None:
                self._serving.close()
            while self._clients:
                self._clients.pop().close()
            if self._telemetry is not None:
                self._telemetry.close()
            self._serving = self._registry = self._telemetry = self._tables = None
            self._retrain_blobs = None
            self._pipelines = None
            self._queues.clear()

    def _load(self, folder: Path) -> ClassifierLike:
        # Imported with the first model: the runtime is most of what a start costs.
        from sentiment.classifier import Classifier

        return Classifier.load(folder, threads=self.settings.predict_threads)

    def _table(self, name: str) -> Table:
        from azure.data.tables import TableServiceClient

        with self._lock:
            if self._tables is None:
                options = {"retry_total": _TRIES_MORE, "retry_backoff_factor": _PAUSE_SECONDS}
                self._tables = self._client(TableServiceClient, "table", options)
            return Table(self._tables.get_table_client(name))

    def _queue(self, name: str) -> MessageQueue:
        from azure.storage.queue import LinearRetry, QueueServiceClient

        with self._lock:
            if name not in self._queues:
                retry = LinearRetry(
                    backoff=_PAUSE_SECONDS, retry_total=_TRIES_MORE, random_jitter_range=_PAUSE_SECONDS
                )
                client: QueueServiceClient = self._client(
                    QueueServiceClient, "queue", {"retry_policy": retry}
                )
                self._queues[name] = MessageQueue(client.get_queue_client(name))
            return self._queues[name]

    def _blob_service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient, LinearRetry

        retry = LinearRetry(
            backoff=_PAUSE_SECONDS, retry_total=_TRIES_MORE, random_jitter_range=_PAUSE_SECONDS
        )
        client: BlobServiceClient = self._client(
            BlobServiceClient, "blob", {"retry_policy": retry, "max_single_put_size": _LARGEST_PUT}
        )
        return client

    def _credential(self) -> TokenCredential:
        """Return the app's identity."""
        # Imported only where an identity signs in.
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential()
        self._clients.append(credential)
        return credential

    def _client(self, kind: Any, service: str, options: dict[str, Any]) -> Any:
        """Make a client of one of the account's services, as the settings say how."""
        _quieten_sdk()
        options = {"connection_timeout": _CONNECTION_SECONDS, "read_timeout": _READ_SECONDS, **options}
        settings = self.settings
        try:
            if settings.storage_connection_string is not None:
                client = kind.from_connection_string(settings.storage_connection_string, **options)
            else:
                credential = self._credential()
                uri = {
                    "blob": settings.blob_service_uri,
                    "queue": settings.queue_service_uri,
                    "table": settings.table_service_uri,
                }[service]
                address = {"endpoint": str(uri)} if service == "table" else {"account_url": str(uri)}
                client = kind(**address, credential=credential, **options)
        except ValueError as error:
            key = "AzureWebJobsStorage"
            if settings.storage_connection_string is None:
                key += f"__{service}ServiceUri"
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
