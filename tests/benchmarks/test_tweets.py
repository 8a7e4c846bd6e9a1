"""The invented tweets are what normalisation and the tokenizer have to work on."""

from __future__ import annotations

import statistics

from benchmarks.tweets import generate_tweets
from sentiment.text import normalise


def test_the_same_seed_gives_the_same_tweets() -> None:
    """Two runs measure on the same tweets; another seed gives others."""
    assert generate_tweets(50) == generate_tweets(50)
    assert generate_tweets(50) != generate_tweets(50, seed=1)


def test_they_are_as_long_and_as_messy_as_tweets() -> None:
    """Length, and the share of what normalisation replaces, are those of real tweets."""
    tweets = generate_tweets(2_000)
    assert 15 <= statistics.median(len(tweet.split()) for tweet in tweets) <= 25
    assert all(0 < len(tweet) <= 280 for tweet in tweets)
    assert len(set(tweets)) > 1_900
    shares = {mark: sum(mark in tweet for tweet in tweets) / len(tweets) for mark in ("@", "#", "&", "http")}
    assert 0.25 < shares["@"] < 0.4
    assert 0.1 < shares["#"] < 0.25
    assert 0.03 < shares["&"] < 0.1
    assert 0.01 < shares["http"] < 0.1
    assert any(normalise(tweet) != tweet for tweet in tweets if not tweet.isascii())
