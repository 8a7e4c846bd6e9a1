"""The steps as the pipeline runs them: through the command line, with an environment and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from sentiment.manifest import read_manifest
from sentiment.retrain.cycles import read_outcome, write_manifest
from sentiment.retrain.preparation import is_held_out, read_fingerprints
from sentiment.services import Services
from sentiment.settings import Settings
from tests.conftest import INSTALL_FOLDER
from tests.models import make_model_folder
from tests.retrain.cycles import (
    BASE,
    GOLDEN,
    NOW,
    VALIDATION,
    correction,
    cycle_manifest,
    write_gate,
    write_tsv,
)

ROOT = Path(__file__).parents[2]
TEXT = next(text for number in range(99) if not is_held_out(text := f"the gate was closed again at {number}"))


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An account of its own: the tables' names are fixed."""
    with Azurite(None, install_folder=INSTALL_FOLDER) as running:
        yield {
            "AzureWebJobsStorage": running.connection_string,
            "MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        }


def _step(environ: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sentiment", "step", *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_cycle_is_prepared_and_published_from_the_command_line(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Preparing needs no key: it adds no correction."""
    services = Services(Settings.from_env(environ | {"FEEDBACK_PSEUDONYM_KEY": "k" * 16}))
    champion = make_model_folder(tmp_path / "tiny-1", "tiny-1")
    services.registry.publish(champion)
    services.registry.promote("tiny-1", by="test", reason="first")
    services.corrections.add(correction("one", TEXT), now=NOW)
    manifest = cycle_manifest(champion, "one")
    services.retrain_blobs.create_container()
    write_manifest(services.retrain_blobs, manifest)
    files: list[str | Path] = []
    for name, rows in (("base", BASE), ("validation", VALIDATION), ("golden", GOLDEN)):
        files += [f"--{name}", write_tsv(tmp_path / f"{name}.tsv", rows)]
    data = tmp_path / "data"
    done = _step(environ, "prepare", "--cycle", str(manifest.cycle), *files, "--out", data)
    assert done.returncode == 0, done.stderr
    assert "feedback.jsonl         1 rows" in done.stdout
    assert read_fingerprints(data).champion_sha256 == read_manifest(champion)[1]
    candidate = make_model_folder(tmp_path / "tiny-2", "tiny-2", "negative", parent="tiny-1")
    folders: list[str | Path] = ["--data", data, "--model", candidate, "--gate", write_gate(tmp_path)]
    done = _step(environ, "publish", *folders, "--mode", "direct")
    assert done.returncode == 0, done.stderr
    assert "cycle 1: tiny-2 promoted" in done.stdout
    outcome = read_outcome(services.retrain_blobs, 1)
    assert outcome is not None
    assert outcome.verdict == "promoted"
    assert services.registry.champion().champion.version == "tiny-2"
    services.close()
    missing = _step(environ, "prepare", "--cycle", "9", *files, "--out", tmp_path / "other")
    assert missing.returncode == 1
    assert "cycles/9/manifest.json" in missing.stderr
