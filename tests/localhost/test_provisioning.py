"""What the app finds in storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from localhost.azurite import Azurite
from localhost.host_json import read_host_json
from localhost.loading import load_functions
from localhost.provisioning import create_stores, ensure_champion
from sentiment.services import Services, use_services
from sentiment.settings import Settings
from tests.localhost.apps import write_app
from tests.models import make_model_folder


@pytest.fixture
def fresh(azurite: Azurite) -> Iterator[Azurite]:
    """An emulator of the test's own: the names are fixed."""
    with Azurite(None, install_folder=azurite.install_folder) as running:
        yield running


def test_everything_that_is_bound_is_created_and_a_champion_published_once(
    fresh: Azurite, tmp_path: Path
) -> None:
    """Twice makes no difference."""
    environ = {
        "AzureWebJobsStorage": fresh.connection_string,
        "FEEDBACK_SIGNING_KEYS": "a-key-of-some-length",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "JOBS": "jobs",
    }
    write_app(
        tmp_path,
        """
@app.queue_trigger(arg_name="msg", queue_name="%JOBS%", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="out", queue_name="done", connection="AzureWebJobsStorage")
def work(msg: str, out: func.Out[str]) -> None: ...
""",
    )
    options = read_host_json(tmp_path, environ)
    functions = load_functions(tmp_path, options, environ)
    assert ensure_champion(tmp_path) == "no seed-model/ to publish"
    make_model_folder(tmp_path / "seed-model", "tiny-7")
    services = Services(Settings.from_env(environ))
    try:
        with use_services(services):
            create_stores(functions, options, environ)
            assert ensure_champion(tmp_path) == "published seed-model/ as tiny-7, now champion"
            create_stores(functions, options, environ)
            assert ensure_champion(tmp_path) == "tiny-7 is champion"
        assert services.registry.champion().champion.by == "localhost"
    finally:
        services.close()
    with QueueServiceClient.from_connection_string(fresh.connection_string) as queues:
        names = {queue.name for queue in queues.list_queues()}
    assert names == {"jobs", "jobs-poison", "done", "corrections", "corrections-poison"}
    with TableServiceClient.from_connection_string(fresh.connection_string) as tables:
        assert [table.name for table in tables.list_tables()] == ["corrections", "quarantine"]
    with BlobServiceClient.from_connection_string(fresh.connection_string) as blobs:
        assert [container.name for container in blobs.list_containers()] == ["models"]
