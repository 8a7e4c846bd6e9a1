"""Real processes, really killed: ticks against storage and the local Azure ML."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from localhost.azureml.runner import Runner
from localhost.azureml.server import AzureMLServer
from localhost.azurite import Azurite
from sentiment.records import CorrectionMessage
from sentiment.retrain.records import Outcome
from sentiment.retrain.state import STATE, encode, read_state
from sentiment.services import Services
from sentiment.settings import Settings
from tests.conftest import INSTALL_FOLDER
from tests.models import make_model_folder
from tests.stage import until

ROOT = Path(__file__).parent.parent.parent
KILLS = 5


@pytest.fixture
def emulator() -> Iterator[Azurite]:
    """Storage of its own, because the names of tables are fixed."""
    with Azurite(None, install_folder=INSTALL_FOLDER) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AzureMLServer]:
    """A workspace with a pipeline of one step, which ends once the file `go` is there."""
    go = tmp_path / "go"
    wait = (
        f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)\nprint('done')"
    )
    folder = tmp_path / "azureml"
    folder.mkdir()
    (folder / "wait.py").write_text(wait)
    inputs = {"cycle": {"type": "integer"}}
    inputs |= {f"{name}_data": {"type": "uri_file"} for name in ("base", "validation", "golden")}
    inputs |= {"deploy_mode": {"type": "string"}}
    step = {
        "type": "command",
        "inputs": {"cycle": {"type": "integer"}},
        "command": f"python {folder / 'wait.py'} ${{{{inputs.cycle}}}}",
    }
    pipeline = {
        "type": "pipeline",
        "name": "sentiment_retrain",
        "version": "1",
        "inputs": inputs,
        "jobs": {"wait": {"component": "./wait.yml", "inputs": {"cycle": "${{parent.inputs.cycle}}"}}},
    }
    # JSON is YAML.
    (folder / "wait.yml").write_text(json.dumps(step))
    (folder / "pipeline.yml").write_text(json.dumps(pipeline))
    with (
        Runner(tmp_path / "jobs", folder / "pipeline.yml", os.environ) as runner,
        AzureMLServer(runner) as running,
    ):
        yield running


def test_ticks_that_are_killed_at_any_moment_lose_nothing(
    emulator: Azurite, server: AzureMLServer, tmp_path: Path
) -> None:
    """One job, and everything learned once, however often a tick is killed on the way."""
    data = tmp_path / "data.tsv"
    data.write_text("label\ttext\n")
    environ = {
        **os.environ,
        **server.settings,
        **{f"RETRAIN_{name}_DATA": data.as_uri() for name in ("BASE", "VALIDATION", "GOLDEN")},
        "AzureWebJobsStorage": emulator.connection_string,
        "FEEDBACK_SIGNING_KEYS": "a-key-of-some-length",
        "FEEDBACK_USER_CAP": "1",
        "RETRAIN_THRESHOLD": "30",
        "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
    }
    services = Services(Settings.from_env(environ))
    try:
        _learn_under_fire(services, environ, tmp_path)
    finally:
        services.close()


def _learn_under_fire(services: Services, environ: dict[str, str], tmp_path: Path) -> None:
    services.registry.publish(make_model_folder(tmp_path / "seed", "seed"))
    services.registry.promote("seed", by="test", reason="the first")
    now = datetime.now(UTC)
    ids = [f"id{number}" for number in range(30)]
    for id in ids:
        message = CorrectionMessage(
            schema=1,
            id=id,
            text=f"tweet {id}",
            predicted="positive",
            corrected="negative",
            model_version="seed",
            source="test",
            created_at=now,
        )
        services.corrections.add(message, now=now)
    chance = random.Random(20250601)
    began = time.monotonic()
    _ended(environ, "status")
    takes = time.monotonic() - began
    for _ in range(KILLS):
        _killed(environ, chance.uniform(0.4, 1.3) * takes)
        _let_go(environ)
    _ended(environ, "tick")
    state = read_state(services.retrain_blobs)
    assert state.phase == "running"
    assert [folder.name for folder in (tmp_path / "jobs").iterdir() if folder.is_dir()] == [state.job]
    services.registry.publish(make_model_folder(tmp_path / "better", "better"))
    services.registry.promote("better", by="test", reason=f"cycle {state.cycle}: better")
    outcome = Outcome(
        cycle=state.cycle,
        verdict="promoted",
        version="better",
        sha256=None,
        champion="seed",
        reasons=("better",),
        at=now.isoformat(),
    )
    services.retrain_blobs.create(f"cycles/{state.cycle}/outcome.json", encode(outcome))
    (tmp_path / "go").touch()
    assert services.pipelines is not None
    jobs = services.pipelines
    until(lambda: getattr(jobs.find(state.job), "state", None) == "completed", "the job is completed")
    for _ in range(KILLS):
        _killed(environ, chance.uniform(0.6, 1.3) * takes)
        _let_go(environ)
    _ended(environ, "tick")
    after = read_state(services.retrain_blobs)
    assert (after.phase, after.cycle) == ("settled", state.cycle)
    assert {one.id: one.cycle for one in services.corrections.all()} == dict.fromkeys(ids, state.cycle)
    assert all(voice.learned for voice in services.corrections.voices())


def _command(action: str) -> list[str]:
    return [sys.executable, "-m", "sentiment", "retrain", action]


def _ended(environ: dict[str, str], action: str) -> None:
    done = subprocess.run(
        _command(action), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _killed(environ: dict[str, str], seconds: float) -> None:
    with subprocess.Popen(
        _command("tick"), cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()


def _let_go(environ: dict[str, str]) -> None:
    """What a minute does to the lease of a tick that was killed."""
    with (
        BlobServiceClient.from_connection_string(environ["AzureWebJobsStorage"]) as account,
        account.get_blob_client("retrain", STATE) as blob,
        suppress(ResourceNotFoundError),
    ):
        if blob.get_blob_properties().lease.state == "leased":
            BlobLeaseClient(blob).break_lease(0)
