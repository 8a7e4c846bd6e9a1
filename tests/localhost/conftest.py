"""Sample Function Apps, served by the real host on real storage."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localhost.azurite import Azurite
from localhost.host import Host, bind
from localhost.host_json import read_host_json
from localhost.http_door import Keys
from localhost.loading import load_functions
from tests.localhost.apps import ServedApp, run_in_thread, write_app


@pytest.fixture
def serve(azurite: Azurite, tmp_path: Path) -> Iterator[Callable[..., ServedApp]]:
    """Serve Function Apps written as text; queues named by the settings JOBS and DONE are the test's own."""
    served: list[ServedApp] = []

    def start(
        source: str,
        host_json: Mapping[str, Any] | None = None,
        keys: Keys | None = None,
        state: Path | None = None,
        grace_seconds: float = 5.0,
        **settings: str,
    ) -> ServedApp:
        folder = tmp_path / f"app{len(served)}"
        folder.mkdir()
        write_app(folder, source, host_json)
        environ = {
            "AzureWebJobsStorage": azurite.connection_string,
            "JOBS": f"jobs-{uuid.uuid4().hex}",
            "DONE": f"done-{uuid.uuid4().hex}",
            **settings,
        }
        options = read_host_json(folder, environ)
        functions = load_functions(folder, options, environ)
        module = sys.modules["function_app"]
        host = Host(
            functions,
            options,
            environ,
            listening=bind(0),
            state_folder=state or folder / "state",
            keys=keys,
            grace_seconds=grace_seconds,
        )
        app = run_in_thread(host, module, environ, state or folder / "state")
        served.append(app)
        for setting in ("JOBS", "DONE"):
            with app.queue(setting) as queue:
                queue.create_queue()
        return app

    try:
        yield start
    finally:
        for app in served:
            app.stop()
