"""``python -m sentiment train``, through its real door, killed and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentiment.classifier import Classifier
from sentiment.evaluation.data import read_tweets
from sentiment.evaluation.metrics import evaluate
from sentiment.manifest import WEIGHTS, read_manifest, verify
from tests.training.conftest import ROOT

pytestmark = pytest.mark.training

_DEADLINE = 300.0


def _command(tweets: tuple[Path, Path], out: Path, tracking_uri: str, *more: str | Path) -> list[str]:
    train, validation = tweets
    files = ["--train", train, "--validation", validation, "--out", out, "--tracking-uri", tracking_uri]
    return [sys.executable, "-m", "sentiment", "train", *map(str, files), *map(str, more)]


def _fine_tuning(base: Path) -> list[str | Path]:
    return [
        *("--base", base, "--max-tokens", "48", "--batch-size", "16", "--epochs", "4", "--members", "2"),
        *(
            "--learning-rate",
            "0.003",
            "--layer-decay",
            "1",
            "--average-decay",
            "0.9",
            "--precision",
            "float32",
        ),
        # The base is made of random numbers: there is nothing in its embeddings to keep.
        *("--freeze-embeddings", "false", "--head-learning-rate-factor", "1"),
    ]


def _train(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE)


@pytest.fixture(scope="module")
def trained(
    tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model trained in one go."""
    out = tmp_path_factory.mktemp("trained") / "model"
    done = _train(_command(tweets, out, tracking_uri, *_fine_tuning(tiny_base)))
    assert done.returncode == 0, done.stderr
    return out


def test_training_learns_and_the_folder_is_complete(trained: Path, tweets: tuple[Path, Path]) -> None:
    """What was measured at the end of training is what the folder does."""
    record, _ = read_manifest(trained)
    verify(trained, record)
    validation = read_tweets(tweets[1])
    metrics = evaluate(Classifier.load(trained).probabilities(validation.texts), validation.labels)
    assert metrics.macro_recall > 0.9
    reported = json.loads((trained / "metrics.json").read_bytes())
    assert reported["validation"]["macro_recall"] == pytest.approx(metrics.macro_recall, abs=1e-9)
    assert record.data["train"] == read_tweets(tweets[0]).fingerprint
    assert record.settings["learning_rate"] == 0.003
    assert record.version in (trained / "model-card.md").read_text(encoding="utf-8")
    assert not (trained.parent / f".{trained.name}-checkpoints").exists()


def test_a_killed_run_goes_on_and_ends_where_it_would_have(
    trained: Path, tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path
) -> None:
    """SIGKILL at two moments; the weights are those of the run that was left alone."""
    out, checkpoints = tmp_path / "model", tmp_path / "checkpoints"
    command = _command(
        tweets,
        out,
        tracking_uri,
        *_fine_tuning(tiny_base),
        "--checkpoints",
        checkpoints,
        "--checkpoint-seconds",
        "0",
    )
    for saves in (5, 40):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_saves(process, checkpoints / "checkpoint.pt", saves)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert not out.exists()
    done = _train(command)
    assert done.returncode == 0, done.stderr

    from safetensors.numpy import load_file

    resumed, straight = load_file(out / WEIGHTS), load_file(trained / WEIGHTS)
    for name, weight in straight.items():
        # float16 on disk; sums over threads may differ in their last bits.
        assert abs(weight.astype(float) - resumed[name].astype(float)).max() < 2e-3, name


def _wait_for_saves(process: subprocess.Popen[bytes], checkpoint: Path, saves: int) -> None:
    """Poll until the checkpoint has been replaced so many times."""
    seen: set[int] = set()
    deadline = time.monotonic() + _DEADLINE
    while len(seen) < saves:
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint came in time"
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.005)


def test_a_checkpoint_of_another_run_is_not_gone_on_with(
    tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path
) -> None:
    """Other settings, other run: the checkpoint is named and left alone."""
    from sentiment.training.checkpoint import save_checkpoint

    checkpoints = tmp_path / "checkpoints"
    save_checkpoint(checkpoints, "another run", {"members": [], "run": None})
    done = _train(
        _command(
            tweets, tmp_path / "model", tracking_uri, *_fine_tuning(tiny_base), "--checkpoints", checkpoints
        )
    )
    assert done.returncode == 1
    assert "checkpoint.pt" in done.stderr
    assert "other data or settings" in done.stderr
    assert (checkpoints / "checkpoint.pt").exists()


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_the_mlflow_run_holds_settings_curves_and_model(trained: Path, tracking_uri: str) -> None:
    """What a run was can be looked up later."""
    import mlflow
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name("tweet-sentiment")
    assert experiment is not None
    record, _ = read_manifest(trained)
    (run,) = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.version = '{record.version}'"
    )[-1:]
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.003"
    for member in (1, 2):
        curve = client.get_metric_history(run.info.run_id, f"member{member}_validation_macro_recall")
        assert len(curve) >= 2
    assert run.data.metrics["served_macro_recall"] > 0.9
    mlflow.set_tracking_uri(tracking_uri)
    model = mlflow.onnx.load_model(f"runs:/{run.info.run_id}/model")
    assert [output.name for output in model.graph.output] == ["probabilities"]


def test_the_linear_recipe_serves_through_the_same_door(
    tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path
) -> None:
    """Another recipe, the same folder and the same classifier."""
    out = tmp_path / "linear"
    done = _train(
        _command(
            tweets, out, tracking_uri, "--recipe", "linear", "--base", tiny_base, "--max-tokens", "48",
            "--inverse-penalty", "0.1",
        )
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record, _ = read_manifest(out)
    assert record.recipe == "linear"
    validation = read_tweets(tweets[1])
    assert (
        evaluate(Classifier.load(out).probabilities(validation.texts), validation.labels).macro_recall > 0.6
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning-rate", "fast"], "--learning-rate 'fast': Expected `float`"),
        (["--epochs", "-1"], "--epochs '-1': Expected `float` > 0"),
        (["--recipe", "linear", "--epochs", "2"], "--epochs is no setting of recipe linear"),
        (["--base", "no/such/base"], "--base must be 'minilm', a model folder or a DistilBERT"),
    ],
)
def test_a_bad_setting_is_named(
    tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path, more: list[str], message: str
) -> None:
    """Before anything is trained."""
    done = _train(_command(tweets, tmp_path / "model", tracking_uri, *more))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_existing_folder_is_never_overwritten(
    trained: Path, tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str
) -> None:
    """A model that took hours is not lost to a typing error."""
    done = _train(_command(tweets, trained, tracking_uri, *_fine_tuning(tiny_base)))
    assert done.returncode == 1
    assert "exists and is not empty" in done.stderr


def test_a_class_without_tweets_is_refused(
    tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path
) -> None:
    """A model cannot learn what it never sees."""
    two = tmp_path / "two.tsv"
    two.write_text("label\ttext\npositive\tgood\nneutral\tbus\n", encoding="utf-8")
    done = _train(_command((two, tweets[1]), tmp_path / "model", tracking_uri))
    assert done.returncode == 1
    assert "has no negative tweets" in done.stderr
