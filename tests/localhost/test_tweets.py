"""The data of a machine that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from localhost.errors import LocalhostError
from localhost.tweets import FILES, data_file, fetch_tweets, label, read_ratings, write_files
from sentiment.evaluation.data import read_tweets
from sentiment.feedback.messages import text_key


def test_every_tweet_lands_in_one_file_and_always_in_the_same(tmp_path: Path) -> None:
    """By its normalised text, whatever stands beside it; the shares are about as planned."""
    ratings = [(number % 9 - 4.0, f"tweet number {number}") for number in range(2000)]
    write_files(tmp_path / "a", ratings)
    write_files(tmp_path / "b", [*reversed(ratings), (4.0, "TWEET number 7"), (0.0, "one more")])
    texts = {name: set(read_tweets(data_file(tmp_path / "a", name)).texts) for name in FILES}
    assert sum(map(len, texts.values())) == 2000
    for name, share in FILES.items():
        assert len(texts[name]) == pytest.approx(20 * share, rel=0.25)
        again = {text_key(text) for text in read_tweets(data_file(tmp_path / "b", name)).texts}
        assert {text_key(text) for text in texts[name]} <= again


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        (-4, "negative"),
        (-1, "negative"),
        (-0.9, "neutral"),
        (0, "neutral"),
        (0.9, "neutral"),
        (1, "positive"),
    ],
)
def test_who_is_rated_less_than_slightly_is_neutral(rating: float, expected: str) -> None:
    """The scale says 1 for "slightly positive"."""
    assert label(rating) == expected


def test_an_archive_that_has_changed_is_refused() -> None:
    """Before anything in it is looked at."""
    with pytest.raises(LocalhostError, match="has changed: its SHA-256 is"):
        read_ratings(b"something else")


def test_what_is_there_is_not_fetched(tmp_path: Path) -> None:
    """Once a machine has the tweets, it needs no network."""
    write_files(tmp_path, [(0.0, "one")])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fetch_tweets(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_an_index_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-made is left."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(LocalhostError, match=r"vaderSentiment==3.3.2 cannot be fetched: .*RETRAIN_BASE_DATA"):
        fetch_tweets(tmp_path / "data")
    assert not (tmp_path / "data").exists()
