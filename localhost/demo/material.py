"""What the demonstration works with: tweets to send, tweets to measure on, files for the pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from msgspec import Struct

from localhost.tweets import data_file, fetch_tweets
from sentiment.evaluation.data import read_tweets
from sentiment.feedback.messages import text_key
from sentiment.records import LABELS, Label

#: Of a file, the last part, which is only measured on.
HELD_OUT_SHARE = 0.2

#: What the pipeline reads.
PIPELINE_FILES = ("base", "validation", "golden")


class Tweet(Struct, frozen=True):
    """A tweet and what people say it is."""

    text: str
    label: Label


class Material(Struct, frozen=True):
    """The tweets of one demonstration; no text is in two of the three places."""

    #: Sent and corrected, in this order.
    stream: tuple[Tweet, ...]
    #: Neither sent nor corrected.
    held_out: tuple[Tweet, ...]
    #: `PIPELINE_FILES` -> where they are.
    files: dict[str, Path]


def gather(data: Path | None, given: dict[str, Path | None], folder: Path) -> Material:
    """Return the tweets of `data`, or those that the package index has, and the files of the pipeline.

    What is not `given` of the pipeline's files comes from the package index, and
    is kept in `folder`.

    Raises:
        DataError: a file cannot be used.
        LocalhostError: the package index does not give the tweets.
    """
    if data is None or not all(given.get(name) for name in PIPELINE_FILES):
        fetch_tweets(folder)
    files = {name: (given.get(name) or data_file(folder, name)).resolve() for name in PIPELINE_FILES}
    if data is None:
        stream, held_out = _read(data_file(folder, "stream")), _read(data_file(folder, "heldout"))
    else:
        stream, held_out = split(_read(data))
    known = {text_key(tweet.text) for path in files.values() for tweet in _read(path)}
    return Material(stream=distinct(stream, known), held_out=unseen(held_out, stream, known), files=files)


def split(tweets: list[Tweet]) -> tuple[list[Tweet], list[Tweet]]:
    """Return the first part and the last: what measures is later than what is learned from."""
    end = len(tweets) - round(len(tweets) * HELD_OUT_SHARE)
    return tweets[:end], tweets[end:]


def distinct(tweets: Iterable[Tweet], known: Collection[str] = ()) -> tuple[Tweet, ...]:
    """Return each text once, once normalised, and none whose key is in `known`."""
    seen = set(known)
    found = []
    for tweet in tweets:
        key = text_key(tweet.text)
        if key not in seen:
            seen.add(key)
            found.append(tweet)
    return tuple(found)


def unseen(tweets: Iterable[Tweet], sent: Iterable[Tweet], known: Collection[str]) -> tuple[Tweet, ...]:
    """Return of `tweets` what is neither sent nor in `known`."""
    return distinct(tweets, {*known, *(text_key(tweet.text) for tweet in sent)})


def write(tweets: Iterable[Tweet], path: Path) -> None:
    """Write a file that `read_tweets` reads; texts are on one line."""
    lines = [f"{tweet.label}\t{' '.join(tweet.text.split())}" for tweet in tweets]
    path.write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")


def _read(path: Path) -> list[Tweet]:
    tweets = read_tweets(path)
    return [Tweet(text, LABELS[label]) for text, label in zip(tweets.texts, tweets.labels, strict=True)]
