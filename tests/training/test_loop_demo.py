"""The whole loop through its real doors: `python -m localhost demo` with a model that trains in seconds."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localhost.azureml.records import JobFolders
from tests.conftest import INSTALL_FOLDER
from tests.training.conftest import ROOT, write_tweets

pytestmark = pytest.mark.training

_DEADLINE = 600.0
_SUBJECTS = ("the flight", "this phone", "my coffee", "the match", "your song", "our hotel", "the new film")
#: Words that the model the loop begins with has never met.
_NEWS = {
    "negative": ("is pure garbage", "sucks so much", "was a total ripoff", "left us stranded, useless"),
    "neutral": ("boards at gate seven", "is painted green", "weighs a kilo", "runs until March"),
    "positive": ("rocks", "is sick, in a good way", "nailed it, brilliant", "made our weekend, cheers"),
}
#: A narrow model made of random numbers learns nothing at the rates of a real one.
_FAST = "--learning-rate 0.003 --epochs 12 --batch-size 16 --freeze-embeddings false --layer-decay 1"
_TRAIN = (
    "--max-tokens 48 --batch-size 16 --epochs 4 --learning-rate 0.003 --layer-decay 1 --average-decay 0.9 "
    "--precision float32 --freeze-embeddings false --head-learning-rate-factor 1"
)
#: Of the behaviour suite it knows no word.
_BLIND = "--behaviour-margin 1 --behaviour-tolerance 1"


def _write_news(path: Path, rows: int, seed: int) -> Path:
    chosen = random.Random(seed)
    lines = ["label\ttext"]
    for number in range(rows):
        label = ("negative", "neutral", "positive")[number % 3]
        words = f"{chosen.choice(_SUBJECTS)} {chosen.choice(_NEWS[label])}"
        lines.append(f"{label}\t{words} {chosen.randrange(10_000)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _joined(path: Path, *files: Path) -> Path:
    rows = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    path.write_text("\n".join(["label\ttext", *rows]) + "\n", encoding="utf-8")
    return path


def _run(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def app(tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path: Path) -> Path:
    """Our app and pipeline, with a small model to begin with and settings that suit it."""
    folder = tmp_path / "app"
    folder.mkdir()
    for name in ("function_app.py", "host.json", "local.settings.json.example", "sentiment"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "azureml", folder / "azureml")
    for step, more in (("train", _FAST), ("gate", _BLIND)):
        file = folder / "azureml" / "components" / f"{step}.yml"
        text = file.read_text(encoding="utf-8")
        command = f"python -m sentiment step {step}\n"
        assert command in text
        file.write_text(text.replace(command, f"{command.rstrip()} {more}\n"), encoding="utf-8")
    train, validation = tweets
    _run(
        *("sentiment", "train", "--train", train, "--validation", validation, "--base", tiny_base),
        *("--out", folder / "seed-model", "--tracking-uri", tracking_uri, *_TRAIN.split()),
    )
    return folder


def test_what_users_correct_is_learned_while_the_app_serves(app: Path, tmp_path: Path) -> None:
    """Corrections go over HTTP and the queue, the timer starts a job, and its candidate comes to serve."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "programs").symlink_to(INSTALL_FOLDER)
    old, new = write_tweets(tmp_path / "old.tsv", 300, 3), _write_news(tmp_path / "new.tsv", 300, 4)
    files = {
        "data": _write_news(tmp_path / "stream.tsv", 400, 5),
        "base": write_tweets(tmp_path / "base.tsv", 600, 6),
        "validation": _joined(
            tmp_path / "validation.tsv",
            write_tweets(tmp_path / "old-validation.tsv", 90, 7),
            _write_news(tmp_path / "new-validation.tsv", 90, 8),
        ),
        "golden": _joined(tmp_path / "golden.tsv", old, new),
    }
    said = _run(
        *("localhost", "--app", app, "--state", state, "demo", "--corrections", "90", "--confirm", "1"),
        *(word for name, path in files.items() for word in (f"--{name}", path)),
    )
    assert "90 answers corrected" in said
    assert "the running app answers with relearn-" in said
    assert "0 failed" in said
    (job,) = JobFolders(state / "demo" / "azureml" / "jobs").read()
    assert job.status == "Completed"
    assert {step.runs for step in job.steps.values()} == {1}
    gate = json.loads(
        (state / "demo" / "azureml" / "jobs" / job.name / "gate" / "report" / "gate.json").read_bytes()
    )
    assert gate["verdict"] == "promote"
    cycle = json.loads(
        (state / "demo" / "azureml" / "jobs" / job.name / "prepare" / "data" / "cycle.json").read_bytes()
    )
    assert len(cycle["errors"]) == 90
    assert sum(cycle["predictions"].values()) >= 90 + len(cycle["confirmations"])
    assert "The gate promoted" in said
