"""What the app finds in storage before its first request: queues, tables, containers and a model."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from azure.core.exceptions import ResourceExistsError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from localhost.functions import DEFAULT_CONNECTION, QUEUE_OUTPUT, QUEUE_TRIGGER, Binding, Function
from localhost.host_json import HostOptions
from localhost.queues import Queues

#: Names that the app reads from its code rather than from bindings. Queues need no
#: list: bindings name them all, save this one, which people may write to by hand.
TABLES = ("corrections", "quarantine")
QUEUE = Binding("corrections", QUEUE_TRIGGER, False, {"queueName": "corrections"})
CONTAINER_SETTING, CONTAINER = "MODEL_CONTAINER", "models"
SEED_MODEL = "seed-model"


def create_stores(functions: Sequence[Function], options: HostOptions, environ: Mapping[str, str]) -> None:
    """Create the queues that the functions are bound to, the tables and the model container.

    Raises:
        AzureError: storage does not answer.
    """
    queues = Queues(options.queues, environ)
    try:
        for binding in (
            QUEUE,
            *(one for function in functions for one in (function.trigger, *function.outputs)),
        ):
            if binding.type in (QUEUE_TRIGGER, QUEUE_OUTPUT):
                queues.create(binding)
            if binding.type == QUEUE_TRIGGER:
                queues.create(binding, "-poison")
    finally:
        queues.close()
    connection_string = environ[DEFAULT_CONNECTION]
    with TableServiceClient.from_connection_string(connection_string) as tables:
        for table in TABLES:
            tables.create_table_if_not_exists(table)
    blobs = BlobServiceClient.from_connection_string(connection_string)
    with blobs, contextlib.suppress(ResourceExistsError):
        blobs.create_container(environ.get(CONTAINER_SETTING) or CONTAINER)


def ensure_champion(folder: Path) -> str:
    """Publish `seed-model/` of `folder` and promote it if there is no champion; return what was done.

    Reads the settings from this process's environment, as the app does.

    Raises:
        SentimentError: a setting is wrong, the seed model is damaged, or storage does not answer.
    """
    seed = folder / SEED_MODEL
    if not seed.is_dir():
        return f"no {SEED_MODEL}/ to publish"
    # Not at the top: an app without a model does without the product's code as well.
    from sentiment.errors import ModelNotFound
    from sentiment.services import get_services

    registry = get_services().registry
    try:
        return f"{registry.champion().champion.version} is champion"
    except ModelNotFound:
        version = registry.publish(seed)
        registry.promote(version, by="localhost", reason="the model that a fresh clone starts with")
        return f"published {SEED_MODEL}/ as {version}, now champion"
