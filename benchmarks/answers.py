"""How a contender answers, and the one way in which all of them are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: Tweets in a batch, for every contender.
BATCH = 32


class Answers(NamedTuple):
    """`single` answers one tweet by its position, `batch` one batch by its number.

    `label` reads what `single` returned, after the clock has stopped.
    """

    single: Callable[[int], Any]
    batch: Callable[[int], Any]
    label: Callable[[Any], str]


class TimedSingles(NamedTuple):
    """Seconds and label of each tweet that was asked for."""

    seconds: list[float]
    labels: list[str]


def time_singles(answers: Answers, tweets: Sequence[int]) -> TimedSingles:
    """Answer each of `tweets` on its own, one after the other."""
    seconds, labels = [], []
    for tweet in tweets:
        start = time.perf_counter()
        answer = answers.single(tweet)
        seconds.append(time.perf_counter() - start)
        labels.append(answers.label(answer))
    return TimedSingles(seconds, labels)


def time_batches(answers: Answers, batches: Sequence[int]) -> list[float]:
    """Answer each of `batches`, and return the seconds that each took."""
    seconds = []
    for number in batches:
        start = time.perf_counter()
        answers.batch(number)
        seconds.append(time.perf_counter() - start)
    return seconds
