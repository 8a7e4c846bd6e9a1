"""The MLflow registry: one version for each candidate, its lineage, and aliases that say what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.training,
    # Warnings of MLflow's own: how it uses its database, and how it is used by itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

pytest.importorskip("mlflow")

import mlflow  # noqa: E402

from sentiment.__main__ import main  # noqa: E402
from sentiment.errors import SentimentError  # noqa: E402
from sentiment.manifest import read_manifest  # noqa: E402
from sentiment.records import LABELS, DataFingerprint  # noqa: E402
from sentiment.retrain.preparation import CYCLE, FINGERPRINTS, Fingerprints  # noqa: E402
from sentiment.retrain.records import CycleManifest  # noqa: E402
from sentiment.retrain.state import encode  # noqa: E402
from sentiment.training.registration import ALIAS, DIGEST, mark, register  # noqa: E402
from tests.models import make_model_folder  # noqa: E402


@pytest.fixture
def step(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, int]]:
    """Run the step on a candidate; returns the registered model's name and the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZUREML_RUN_ID", "job-7")
    name = f"sentiment-{tmp_path.name}"
    data = tmp_path / "data"
    data.mkdir()
    manifest = CycleManifest(
        cycle=7,
        created_at="",
        reason="",
        champion="tiny-1",
        champion_sha256="0" * 64,
        errors=(),
        confirmations=(),
        predictions={},
        corrected={},
    )
    (data / CYCLE).write_bytes(encode(manifest))
    fingerprint = DataFingerprint(name="base.tsv", sha256="b" * 64, rows=dict.fromkeys(LABELS, 1))
    (data / FINGERPRINTS).write_bytes(
        encode(
            Fingerprints(
                cycle=7,
                champion="tiny-1",
                champion_sha256="0" * 64,
                manifest_sha256="",
                files={"base.tsv": fingerprint},
                sources={},
                removed={},
            )
        )
    )

    def run(version: str, verdict: str = "promote", *more: str) -> tuple[str, int]:
        model, gate = tmp_path / version, tmp_path / "gate"
        if not model.exists():
            make_model_folder(model, version, parent="tiny-1")
        gate.mkdir(exist_ok=True)
        (gate / "gate.json").write_text(json.dumps({"verdict": verdict, "reasons": ["because"]}))
        folders = ["--data", str(data), "--model", str(model), "--gate", str(gate)]
        return name, main(
            ["step", "register", *folders, "--tracking-uri", tracking_uri, "--name", name, *more]
        )

    return run


def _aliases(tracking_uri: str, name: str) -> dict[str, str]:
    client = mlflow.MlflowClient(tracking_uri)
    aliases = client.get_registered_model(name).aliases
    return {
        alias: client.get_model_version(name, number).tags["version"] for alias, number in aliases.items()
    }


def test_a_candidate_is_entered_once_with_its_lineage(
    step: Callable[..., tuple[str, int]], tracking_uri: str, tmp_path: Path
) -> None:
    """Whoever looks finds what it was made from, and its files; the step can be repeated."""
    for _ in range(2):
        name, code = step("tiny-2")
        assert code == 0
    client = mlflow.MlflowClient(tracking_uri)
    (version,) = client.search_model_versions(f"name='{name}'")
    digest = read_manifest(tmp_path / "tiny-2")[1]
    assert version.tags == {
        DIGEST: digest,
        ALIAS: "champion",
        "version": "tiny-2",
        "cycle": "7",
        "parent": "tiny-1",
        "champion": "tiny-1",
        "champion_sha256": "0" * 64,
        "gate": "promote",
        "gate_reasons": "because",
        "job": "job-7",
        "base.tsv_sha256": "b" * 64,
    }
    fetched = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version.version}"))
    assert read_manifest(fetched)[1] == digest


def test_the_aliases_follow_the_verdict_and_the_mode(
    step: Callable[..., tuple[str, int]], tracking_uri: str, tmp_path: Path
) -> None:
    """Where a deployment promotes, `champion` waits for it."""
    step("tiny-2")
    name, _ = step("tiny-3", "refuse")
    assert _aliases(tracking_uri, name) == {"champion": "tiny-2", "candidate": "tiny-3", "rejected": "tiny-3"}
    step("tiny-4", "promote", "--mode", "github")
    assert _aliases(tracking_uri, name)["champion"] == "tiny-2"
    assert _aliases(tracking_uri, name)["candidate"] == "tiny-4"
    digest = read_manifest(tmp_path / "tiny-4")[1]
    assert mark(digest, "champion", tracking_uri=tracking_uri, name=name)
    assert _aliases(tracking_uri, name)["champion"] == "tiny-4"
    assert not mark("f" * 64, "champion", tracking_uri=tracking_uri, name=name)


def test_a_refusal_of_mlflow_is_one_of_ours(tmp_path: Path, tracking_uri: str) -> None:
    with pytest.raises(SentimentError, match="registered model"):
        register(tmp_path, "0" * 64, {}, tracking_uri=tracking_uri, name="a/b:c")
