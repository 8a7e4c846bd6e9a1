"""How long it takes to get a model out of Blob Storage: pull, verify, load."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.processes import PROGRAMS, ContenderFailed


def time_pulls(model: Path, work: Path, pulls: int) -> list[float]:
    """Publish `model` in an Azurite of its own, and return the seconds of each of `pulls`.

    Each starts with an empty cache and ends with a classifier that is ready. The
    modules are imported beforehand: what they cost is part of the cold start.

    Raises:
        ContenderFailed: Azurite cannot be installed or started.
    """
    from localhost.azurite import Azurite
    from localhost.errors import LocalhostError

    try:
        with Azurite(None, install_folder=PROGRAMS) as azurite:
            return _time_pulls(model, work, pulls, azurite.connection_string)
    except LocalhostError as error:
        raise ContenderFailed(str(error)) from error


def _time_pulls(model: Path, work: Path, pulls: int, connection_string: str) -> list[float]:
    from sentiment.classifier import Classifier
    from sentiment.services import Services
    from sentiment.settings import Settings

    seconds = []
    for number in range(pulls):
        settings = Settings.from_env(
            {
                "AzureWebJobsStorage": connection_string,
                "MODEL_CACHE_FOLDER": str(work / f"cache-{number}"),
                "FEEDBACK_SIGNING_KEYS": "nothing is signed here",
            }
        )
        services = Services(settings)
        # The same version each time: publishing it again uploads nothing.
        version = services.registry.publish(model)
        start = time.perf_counter()
        Classifier.load(services.registry.fetch(version), threads=settings.predict_threads)
        seconds.append(time.perf_counter() - start)
        services.close()
    return seconds
