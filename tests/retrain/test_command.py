"""``python -m sentiment retrain``: a process with arguments, words for people, and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from sentiment.records import CorrectionMessage
from sentiment.retrain.records import State
from sentiment.retrain.state import STATE, encode, read_state
from sentiment.services import Services
from sentiment.settings import Settings
from tests.models import make_model_folder

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def emulator(azurite: Azurite) -> Iterator[Azurite]:
    """Storage of its own, because the names of tables are fixed."""
    with Azurite(None, install_folder=azurite.install_folder) as running:
        yield running


@pytest.fixture
def environ(emulator: Azurite, tmp_path: Path) -> dict[str, str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith("AZUREML_")}
    return {
        **names,
        "AzureWebJobsStorage": emulator.connection_string,
        "FEEDBACK_SIGNING_KEYS": "a-key-of-some-length",
        "FEEDBACK_USER_CAP": "1",
        "RETRAIN_THRESHOLD": "3",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
    }


def _run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sentiment", "retrain", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_commands_say_where_the_loop_stands(environ: dict[str, str], tmp_path: Path) -> None:
    """From an empty store to a running cycle and back, without a workspace to run it in."""
    services = Services(Settings.from_env(environ))
    try:
        nothing = _run(environ, "status")
        assert nothing.returncode == 0, nothing.stderr
        assert "collecting; no cycle has been started yet" in nothing.stdout
        assert "0 accepted errors of 3" in nothing.stdout
        assert "3 more accepted errors are missing" in nothing.stdout
        assert "no ticks in the past two weeks" in nothing.stdout
        # Looking creates nothing.
        assert services.retrain_blobs.names() == []

        services.registry.publish(make_model_folder(tmp_path / "seed", "seed"))
        services.registry.promote("seed", by="test", reason="the first")
        now = datetime.now(UTC)
        for number in range(3):
            message = CorrectionMessage(
                schema=1,
                id=f"id{number}",
                text=f"tweet {number}",
                predicted="positive",
                corrected="negative",
                model_version="seed",
                source="test",
                created_at=now,
            )
            services.corrections.add(message, now=now)
        ticked = _run(environ, "tick")
        assert ticked.returncode == 0, ticked.stderr
        assert "3 accepted errors of 3; not started, because AZUREML_WORKSPACE is not set" in ticked.stdout
        started = _run(environ, "start", "--reason", "to try")
        assert started.returncode == 1
        assert started.stderr.startswith("error: AZUREML_WORKSPACE is not set")
        cancelled = _run(environ, "cancel")
        assert cancelled.returncode == 1
        assert cancelled.stderr == "error: no cycle is running: the state is collecting\n"
        assert _run(environ, "start").returncode == 2

        running = State(
            phase="running",
            cycle=7,
            job="a-job",
            reason="to see",
            started_at=(now - timedelta(hours=1)).isoformat(),
        )
        content = services.retrain_blobs.read(STATE)
        assert content is not None
        assert services.retrain_blobs.replace(STATE, encode(running), content.etag)
        looked = _run(environ, "tick")
        assert looked.returncode == 1
        assert "error: AZUREML_WORKSPACE is not set: there is no workspace to retrain in" in looked.stdout
        status = _run(environ, "status").stdout
        assert "cycle 7 running" in status
        assert "a-job" in status
        assert "command  cycle 7 running: cycle 7 is running" in status
        told = json.loads(_run(environ, "status", "--json", "--ticks", "1").stdout)
        assert told["state"]["cycle"] == 7
        assert told["counts"]["errors"] == 3
        assert told["decision"] == {
            "start": False,
            "reason": "cycle 7 is running",
            "not_before": None,
            "missing": 0,
        }
        (tick,) = told["ticks"]
        assert tick["before"] == tick["after"] == "running"
        assert read_state(services.retrain_blobs) == running
    finally:
        services.close()
