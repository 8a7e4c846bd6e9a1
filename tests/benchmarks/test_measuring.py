"""Contenders take turns fairly, on the same tweets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.answers import TimedSingles
from benchmarks.figures import LIMIT, OURS, PIPELINE, TITLES, Samples
from benchmarks.measuring import Contender, Effort, measure_cold_starts, measure_rounds
from benchmarks.processes import ContenderFailed

NAMES = (OURS, LIMIT, PIPELINE)
EFFORT = Effort(tweets=64, rounds=4, singles=20, batches=1, cold_starts=2)


class Scripted:
    """A contender that answers at once and writes down who was asked for what."""

    first = "neutral"
    cold_start = 0.25

    def __init__(self, name: str, diary: list[tuple[str, str, tuple[int, ...]]]) -> None:
        self.name = name
        self.diary = diary

    def singles(self, tweets: Sequence[int]) -> TimedSingles:
        """Take a millisecond a tweet."""
        self.diary.append((self.name, "singles", tuple(tweets)))
        return TimedSingles([0.001] * len(tweets), ["neutral"] * len(tweets))

    def batches(self, numbers: Sequence[int]) -> list[float]:
        """Take half a second a batch."""
        self.diary.append((self.name, "batches", tuple(numbers)))
        return [0.5] * len(numbers)

    def peak_memory_mb(self) -> float:
        """Take little."""
        return 12.0

    def stop(self) -> None:
        """Write it down."""
        self.diary.append((self.name, "stop", ()))


def _empty() -> dict[str, Samples]:
    return {name: Samples([], [], [], {}) for name in NAMES}


def test_rounds_ask_everyone_the_same_and_rotate_who_is_first() -> None:
    """In each round all get the same tweets and batches; the first is another each time."""
    diary: list[tuple[str, str, tuple[int, ...]]] = []
    samples = _empty()
    contenders: dict[str, Contender] = {name: Scripted(name, diary) for name in NAMES}
    measure_rounds(contenders, samples, EFFORT, lambda message: None)
    timed = [(name, items) for name, what, items in diary if what == "singles" and len(items) == 20]
    rounds = [timed[start : start + 3] for start in range(0, len(timed), 3)]
    assert [found[0][0] for found in rounds] == [OURS, LIMIT, PIPELINE, OURS]
    for found in rounds:
        assert {name for name, _ in found} == set(NAMES)
        assert len({items for _, items in found}) == 1
    assert rounds[3][0][1] == (*range(60, 64), *range(16)), "the tweets start over when they are used up"
    for name in NAMES:
        assert samples[name].singles == pytest.approx([1.0] * 80)
        assert samples[name].batches == [64.0] * 4
        assert samples[name].labels.keys() == set(range(64))
        assert samples[name].peak_memory_mb == 12.0


def test_cold_starts_alternate_and_leave_nothing_running() -> None:
    """Each contender is started, timed and stopped before the next one starts."""
    diary: list[tuple[str, str, tuple[int, ...]]] = []
    samples = _empty()
    measure_cold_starts(NAMES, lambda name: Scripted(name, diary), samples, EFFORT, lambda message: None)
    assert [name for name, what, _ in diary if what == "stop"] == [*NAMES, *NAMES]
    assert all(samples[name].cold_starts == [0.25, 0.25] for name in NAMES)


def test_a_contender_that_fails_is_named() -> None:
    """The message says which of them it was."""

    class Broken(Scripted):
        def batches(self, numbers: Sequence[int]) -> list[float]:
            """End instead."""
            raise ContenderFailed("ended with -9")

    contenders: dict[str, Contender] = {OURS: Scripted(OURS, []), PIPELINE: Broken(PIPELINE, [])}
    with pytest.raises(ContenderFailed, match=f"{TITLES[PIPELINE]}: ended with -9"):
        measure_rounds(contenders, _empty(), EFFORT, lambda message: None)
