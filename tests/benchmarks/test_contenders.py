"""Contenders answer from processes of their own, and those on the same graph agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.answers import BATCH
from benchmarks.contenders import TOKENISE, TWEETS_FILE
from benchmarks.figures import LIMIT, OURS
from benchmarks.measuring import Child, start_child
from benchmarks.processes import ContenderFailed
from tests.models import WORDS, make_model_folder

TWEETS = [f"{word} {'bus ' * (number % 3)}" for number, word in enumerate([*WORDS, "nothing"] * 10)][
    : 2 * BATCH
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model, and beside it the tweets that contenders read."""
    (tmp_path / TWEETS_FILE).write_text(json.dumps(TWEETS), encoding="utf-8")
    return make_model_folder(tmp_path / "model")


def test_ours_and_the_limit_agree(model: Path, tmp_path: Path) -> None:
    """ONNX Runtime alone runs what our classifier feeds it: the labels are the same, tweet by tweet."""
    with start_child(TOKENISE, model, tmp_path) as tokenise:
        tokenise.answer()
    labels = {}
    for name in (OURS, LIMIT):
        child = Child(name, model, tmp_path)
        try:
            timed = child.singles(range(len(TWEETS)))
            assert len(child.batches([0, 1])) == 2
            assert min(timed.seconds) > 0.0
            assert child.first == timed.labels[0] == "negative"
            assert child.cold_start > 0.0
            assert child.peak_memory_mb() > 0.0
            labels[name] = timed.labels
        finally:
            child.stop()
    assert labels[OURS] == labels[LIMIT]
    assert set(labels[OURS]) == {"negative", "neutral", "positive"}


def test_a_contender_that_cannot_load_says_why(model: Path, tmp_path: Path) -> None:
    """The reason reaches whoever started it, not a broken pipe."""
    (model / "tokenizer.json").unlink()
    with pytest.raises(ContenderFailed, match=r"tokenizer\.json: is missing"):
        Child(OURS, model, tmp_path)
