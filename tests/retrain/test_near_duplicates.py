"""Near-duplicates: exactly the pairs that a comparison of every text with every other finds."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.retrain.near_duplicates import SHINGLE, near_duplicate_pairs, near_duplicates
from sentiment.text import normalise

TWEET = "My flight to Boston was cancelled again and nobody at the gate could tell me why"


def _shingles(text: str) -> set[str]:
    normalised = normalise(text)
    words = re.sub(r"(?i)@user\b|\bhttp\b", " ", normalised)
    words = re.sub(r"[\W_]+", " ", words).strip().casefold() or normalised or " "
    return {words[start : start + SHINGLE] for start in range(max(1, len(words) - SHINGLE + 1))}


def _jaccard(one: str, other: str) -> float:
    return len(_shingles(one) & _shingles(other)) / len(_shingles(one) | _shingles(other))


@pytest.mark.parametrize(
    "other",
    [
        TWEET,
        TWEET.upper(),
        f"RT @anna: {TWEET}!!! https://t.co/abc",
        TWEET.replace(" ", "  "),
        TWEET.replace("again", "agian"),
    ],
)
def test_the_same_tweet_in_nearly_the_same_words_is_found(other: str) -> None:
    """Sent again, shouted, with a link, with a slip of the finger."""
    assert near_duplicates([other], ["something else", TWEET]).tolist() == [True]


@pytest.mark.parametrize(
    "other", ["", "@user", "I love it", "My flight to Denver was early, thank you", TWEET[:40]]
)
def test_another_tweet_is_not(other: str) -> None:
    assert near_duplicates([other], [TWEET]).tolist() == [False]


def test_mentions_and_links_alone_make_no_two_tweets_alike() -> None:
    """They are the same placeholder everywhere."""
    handles = "@a @b @c @d @e https://x.y/z"
    assert not near_duplicates([f"{handles} awful"], [f"{handles} lovely"]).any()
    assert near_duplicates(["@a @b"], ["@c @d"]).all()


def test_nothing_is_near_to_nothing() -> None:
    assert near_duplicates([], [TWEET]).tolist() == []
    assert near_duplicates([TWEET, ""], []).tolist() == [False, False]


words = st.sampled_from(
    ["a", "bus", "late", "love", "hate", "@user", "http", "ééé", "😀", "日本語", "!", "soooo"]
)
texts = st.lists(st.lists(words, max_size=8).map(" ".join) | st.text(max_size=12), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(texts, texts, st.sampled_from([0.1, 0.5, 0.8, 1.0]))
def test_the_pairs_are_those_of_the_definition(left: list[str], right: list[str], threshold: float) -> None:
    """Against every pair, counted one by one."""
    found = near_duplicate_pairs(left, right, threshold)
    expected = [
        (i, j)
        for i, one in enumerate(left)
        for j, other in enumerate(right)
        if _jaccard(one, other) >= threshold - 1e-9
    ]
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected
    assert near_duplicates(left, right, threshold).tolist() == [
        i in {pair[0] for pair in expected} for i in range(len(left))
    ]


def test_many_texts_are_compared_with_many() -> None:
    """In one go, without comparing each with each: 10,000 with 2,000, of which 200 come back changed."""
    chosen = random.Random(1)
    vocabulary = ["".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(3000)]
    tweets = [" ".join(chosen.choices(vocabulary, k=15)) for _ in range(10_000)]
    of = [" ".join(chosen.choices(vocabulary, k=15)) for _ in range(1_800)]
    of += [f"@anna {tweet}!" for tweet in tweets[:200]]
    assert near_duplicates(tweets, of).nonzero()[0].tolist() == list(range(200))
