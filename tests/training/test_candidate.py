"""``python -m sentiment step train``, through its real door: alone, killed and resumed, in two processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sentiment.__main__ import main
from sentiment.classifier import Classifier
from sentiment.evaluation.data import read_tweets
from sentiment.evaluation.feedback_rows import read_feedback
from sentiment.manifest import WEIGHTS, read_manifest, verify
from tests.training.conftest import ROOT, run
from tests.training.cycle import praise, write_cycle

pytestmark = pytest.mark.training

_DEADLINE = 300.0

#: For a champion of two narrow layers, whose embeddings are random numbers.
_SETTINGS = [
    *("--max-tokens", "48", "--batch-size", "32", "--epochs", "5", "--learning-rate", "0.003"),
    *("--layer-decay", "1", "--freeze-embeddings", "false", "--replay", "200", "--precision", "float32"),
]


@pytest.fixture(scope="session")
def data(champion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder; tests that change it copy it."""
    return write_cycle(tmp_path_factory.mktemp("cycle") / "data", champion)


@pytest.fixture(scope="session")
def candidate(data: Path, tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate trained in one go."""
    out = tmp_path_factory.mktemp("candidate") / "model"
    done = run(_command(data, out, tracking_uri))
    assert done.returncode == 0, done.stderr
    return out


def _command(data: Path, out: Path, tracking_uri: str, *more: str | Path) -> list[str]:
    files = ["--data", data, "--out", out, "--tracking-uri", tracking_uri]
    return [sys.executable, "-m", "sentiment", "step", "train", *map(str, files), *_SETTINGS, *map(str, more)]


def _accuracy(model: Path, texts: tuple[str, ...] | list[str], labels: list[int]) -> float:
    said = Classifier.load(model).probabilities(list(texts)).argmax(axis=1).tolist()
    return sum(one == other for one, other in zip(said, labels, strict=True)) / len(labels)


def _difference(one: Path, other: Path) -> float:
    """Return the largest difference between the weights of two model folders."""
    from safetensors.numpy import load_file

    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert first.keys() == second.keys()
    return max(
        float(abs(weight.astype(float) - second[name].astype(float)).max()) for name, weight in first.items()
    )


def test_it_learns_from_feedback_and_forgets_nothing(champion: Path, data: Path, candidate: Path) -> None:
    """Held-out texts of the new domain are right now, those of the old one still are."""
    new = praise(100, 5)
    assert _accuracy(champion, new, [2] * 100) < 0.3
    assert _accuracy(candidate, new, [2] * 100) > 0.9
    validation = read_tweets(data / "validation.tsv")
    assert _accuracy(candidate, validation.texts, validation.labels.tolist()) > 0.9


def test_the_folder_says_where_it_comes_from(champion: Path, data: Path, candidate: Path) -> None:
    """The champion, the data, the settings: in the manifest and on the card; nothing is left beside it."""
    record, _ = read_manifest(candidate)
    verify(candidate, record)
    parent, _ = read_manifest(champion)
    assert (record.recipe, record.parent) == ("relearn", parent.version)
    assert record.data == {
        "feedback": read_feedback(data / "feedback.jsonl").fingerprint,
        "base": read_tweets(data / "base.tsv").fingerprint,
        "validation": read_tweets(data / "validation.tsv").fingerprint,
    }
    assert record.settings["replay"] == 200
    card = (candidate / "model-card.md").read_text(encoding="utf-8")
    assert record.version in card
    assert parent.version in card
    assert json.loads((candidate / "metrics.json").read_bytes())["validation"]["macro_recall"] > 0.9
    assert [path.name for path in candidate.parent.iterdir()] == ["model"]


def test_a_killed_run_goes_on_and_ends_where_it_would_have(
    data: Path, candidate: Path, tracking_uri: str, tmp_path: Path
) -> None:
    """SIGKILL at two moments; the weights are those of the run that was left alone."""
    out, checkpoints = tmp_path / "model", tmp_path / "checkpoints"
    command = _command(data, out, tracking_uri, "--checkpoints", checkpoints, "--checkpoint-seconds", "0")
    for saves in (4, 20):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_saves(process, checkpoints / "checkpoint.pt", saves)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert not out.exists()
    done = run(command)
    assert done.returncode == 0, done.stderr
    # float16 on disk; sums over threads may differ in their last bits.
    assert _difference(out, candidate) < 2e-3
    assert not checkpoints.exists()


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


def test_two_processes_train_the_model_that_one_trains(data: Path, tracking_uri: str, tmp_path: Path) -> None:
    """As Azure ML starts them; only the first writes, and both end well."""
    nothing_random = ["--dropout", "0", "--token-dropout", "0", "--epochs", "1"]
    alone = tmp_path / "alone"
    done = run(_command(data, alone, tracking_uri, *nothing_random))
    assert done.returncode == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        folder = tmp_path / str(rank)
        folder.mkdir()
        # Without --tracking-uri MLflow would write into the folder it is started in.
        command = [
            *(sys.executable, "-m", "sentiment", "step", "train", "--data", str(data), "--out", "model"),
            *(*_SETTINGS, *nothing_random),
        ]
        environ = {
            **os.environ,
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "PYTHONPATH": str(ROOT),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        environ.pop("MLFLOW_TRACKING_URI", None)
        if rank == 0:
            environ["MLFLOW_TRACKING_URI"] = tracking_uri
        processes.append(
            subprocess.Popen(
                command, cwd=folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    for process in processes:
        said, _ = process.communicate(timeout=_DEADLINE)
        assert process.returncode == 0, said
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["model"]
    assert list((tmp_path / "1").iterdir()) == []
    assert _difference(tmp_path / "0" / "model", alone) < 2e-3


# --- what is refused, before anything is trained ----------------------------


def _no_feedback(data: Path) -> None:
    (data / "feedback.jsonl").write_bytes(b"")


def _no_champion(data: Path) -> None:
    shutil.rmtree(data / "champion")


def _altered_champion(data: Path) -> None:
    weights = data / "champion" / WEIGHTS
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)


def _no_neutral_base(data: Path) -> None:
    lines = (data / "base.tsv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("neutral")]
    (data / "base.tsv").write_text("\n".join(kept) + "\n", encoding="utf-8")


def _no_cycle(data: Path) -> None:
    (data / "cycle.json").unlink()


def _broken_cycle(data: Path) -> None:
    (data / "cycle.json").write_text("{", encoding="utf-8")


def _no_held_out(data: Path) -> None:
    (data / "heldout.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_feedback, "feedback.jsonl: has no rows: there is nothing to learn"),
        (_no_champion, "champion: manifest.json: is missing"),
        (_altered_champion, f"champion: {WEIGHTS}: "),
        (_no_neutral_base, "base.tsv: has no neutral tweets"),
        (_no_cycle, "cycle.json: cannot be read"),
        (_broken_cycle, "cycle.json: is no record of a cycle"),
        (_no_held_out, "heldout.jsonl: cannot be read"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    """By name, and nothing is written."""
    spoiled = shutil.copytree(data, tmp_path / "data")
    spoil(spoiled)
    assert main(["step", "train", "--data", str(spoiled), "--out", str(tmp_path / "model")]) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "0"], "--epochs '0': Expected `float` > 0"),
        (["--distillation", "1.5"], "--distillation '1.5': Expected `float` <= 1.0"),
        (["--kept", "1"], "--kept '1': Expected `float` < 1.0"),
        (["--replay", "many"], "--replay 'many': Expected `int`"),
    ],
)
def test_settings_out_of_range_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    """With the value that was given."""
    assert main(["step", "train", "--data", str(data), "--out", str(tmp_path / "model"), *more]) == 1
    assert message in capsys.readouterr().err


def test_a_model_that_is_there_is_not_overwritten(
    data: Path, candidate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody may need it."""
    before = read_manifest(candidate)
    assert main(["step", "train", "--data", str(data), "--out", str(candidate)]) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert read_manifest(candidate) == before


def test_a_champion_without_a_head_to_go_on_with_is_refused(
    data: Path, tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path
) -> None:
    """What recipe linear has made would be loaded with random numbers in its place."""
    linear = tmp_path / "linear"
    done = run(
        [
            *(sys.executable, "-m", "sentiment", "train", "--recipe", "linear", "--base", str(tiny_base)),
            *("--train", str(tweets[0]), "--validation", str(tweets[1]), "--tracking-uri", tracking_uri),
            *("--max-tokens", "48", "--inverse-penalty", "0.1", "--out", str(linear)),
        ]
    )
    assert done.returncode == 0, done.stderr
    done = run(_command(write_cycle(tmp_path / "data", linear), tmp_path / "model", tracking_uri))
    assert done.returncode == 1
    assert "config.json: is of no DistilBertForSequenceClassification" in done.stderr


def test_without_the_training_packages_it_says_which_to_install(data: Path, tmp_path: Path) -> None:
    """A Function App has none of them."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from sentiment.__main__ import main\n"
        f"sys.exit(main(['step', 'train', '--data', {str(data)!r}, '--out', {str(tmp_path / 'model')!r}]))"
    )
    done = run([sys.executable, "-c", program])
    assert done.returncode == 1
    assert "needs the training packages (torch is missing)" in done.stderr
    assert "requirements-train.txt" in done.stderr
