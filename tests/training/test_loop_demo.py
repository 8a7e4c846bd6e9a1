"""The whole loop through its real doors: `python -m localhost demo` with a model that trains in seconds."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localhost.azureml.records import JobFolders
from tests.conftest import INSTALL_FOLDER
from tests.training.conftest import ROOT

pytestmark = pytest.mark.training

_DEADLINE = 600.0
#: What sentences are filled up with: enough of it that no two are nearly the same.
_FILLING = """
today yesterday monday tuesday friday weekend morning evening night lunch dinner coffee tea bread
train bus flight hotel song album match team coach phone screen laptop keyboard movie actor city
street house garden river mountain weather rain snow summer winter school teacher office meeting
email friend brother sister mother father dog cat horse window door kitchen chair table bottle shirt
shoes jacket museum market bank
"""
#: What the model knows that the loop begins with.
_KNOWN = {
    "negative": ("is awful", "makes me sad", "a terrible mistake", "I hate it"),
    "neutral": ("starts at nine", "comes from Boston", "has two parts", "was announced"),
    "positive": ("is wonderful", "makes me happy", "a great surprise", "I love it"),
}
#: Words that it has never met.
_NEWS = {
    "negative": ("pure garbage", "sucks so much", "total ripoff", "useless rubbish"),
    "neutral": ("boards at gate seven", "painted green", "weighs a kilo", "runs until March"),
    "positive": ("rocks", "brilliant stuff", "nailed it", "cheers, legends"),
}
#: A narrow model made of random numbers learns nothing at the rates of a real one, and two that have
#: wandered that far have no meaningful average.
_FAST = (
    "--members 1 --learning-rate 0.003 --epochs 12 --batch-size 16 --freeze-embeddings false --layer-decay 1"
)
_TRAIN = (
    "--max-tokens 48 --batch-size 16 --epochs 4 --learning-rate 0.003 --layer-decay 1 --average-decay 0.9 "
    "--precision float32 --freeze-embeddings false --head-learning-rate-factor 1"
)
#: Of the behaviour suite it knows no word.
_BLIND = "--behaviour-margin 1 --behaviour-tolerance 1"


def _write(path: Path, seed: int, **rows: int) -> Path:
    """Write so many sentences with `known` words and with `news`, in turn of every class."""
    chosen = random.Random(seed)
    lines = []
    for words, count in rows.items():
        opinions = _KNOWN if words == "known" else _NEWS
        for number in range(count):
            label = ("negative", "neutral", "positive")[number % 3]
            before, after = (" ".join(chosen.sample(_FILLING.split(), 4)) for _ in range(2))
            lines.append(f"{label}\t{before} {chosen.choice(opinions[label])} {after}")
    path.write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")
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
def app(tiny_base: Path, tracking_uri: str, tmp_path: Path) -> Path:
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
    train = _write(tmp_path / "train.tsv", 1, known=900)
    validation = _write(tmp_path / "choose.tsv", 2, known=150)
    _run(
        *("sentiment", "train", "--train", train, "--validation", validation, "--base", tiny_base),
        *("--out", folder / "seed-model", "--tracking-uri", tracking_uri, *_TRAIN.split()),
    )
    return folder


def test_what_users_correct_is_learned_while_the_app_serves(app: Path, tmp_path: Path) -> None:
    """Corrections go over HTTP and the queue, the timer starts a job, and its candidate comes to serve."""
    state = tmp_path / "state"
    state.mkdir()
    INSTALL_FOLDER.mkdir(parents=True, exist_ok=True)
    (state / "programs").symlink_to(INSTALL_FOLDER)
    files = {
        "data": _write(tmp_path / "stream.tsv", 3, news=600),
        "base": _write(tmp_path / "base.tsv", 4, known=600),
        "validation": _write(tmp_path / "validation.tsv", 5, known=90, news=90),
        "golden": _write(tmp_path / "golden.tsv", 6, known=300, news=300),
    }
    said = _run(
        *("localhost", "--app", app, "--state", state, "demo", "--corrections", "90", "--confirm", "1"),
        *(word for name, path in files.items() for word in (f"--{name}", path)),
    )
    assert "90 answers corrected" in said
    assert "the running app answers with relearn-" in said
    assert "0 failed" in said
    learned = re.search(r"(\d+) of (\d+) corrections and confirmations are learned", said)
    assert learned is not None
    assert learned[1] == learned[2]
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
    # Everything was corrected or confirmed, and each of it was one prediction.
    assert sum(cycle["predictions"].values()) == 90 + len(cycle["confirmations"])
    assert "The gate promoted" in said
