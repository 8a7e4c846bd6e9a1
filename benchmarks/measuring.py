"""Contenders taking turns: cold starts first, then rounds of single tweets and batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from benchmarks.answers import BATCH, TimedSingles
from benchmarks.figures import TITLES, Samples
from benchmarks.processes import ContenderFailed, Talker, peak_memory_mb

# The first answers after the others had the machine are not like the rest, and the
# threads of some go on spinning for a fifth of a second after their last answer.
_WARM_UPS = 5
_SETTLING_SECONDS = 0.25


class Effort(Struct, frozen=True):
    """How much is measured: in each round, so many single tweets and batches of every contender."""

    tweets: int = 256
    rounds: int = 20
    singles: int = 40
    batches: int = 2
    cold_starts: int = 5
    pulls: int = 5


class Contender(Protocol):
    """Something that answers in another process; it said `first` after `cold_start` seconds."""

    first: str
    cold_start: float

    def singles(self, tweets: Sequence[int]) -> TimedSingles: ...

    def batches(self, numbers: Sequence[int]) -> list[float]: ...

    def peak_memory_mb(self) -> float: ...

    def stop(self) -> None: ...


class Child:
    """A contender of `benchmarks.contenders`, started and ready.

    Raises:
        ContenderFailed: it ended instead of answering.
    """

    def __init__(self, name: str, model: Path, work: Path) -> None:
        self._process = start_child(name, model, work)
        self.first: str = self._process.answer()
        self.cold_start = self._process.elapsed()

    def singles(self, tweets: Sequence[int]) -> TimedSingles:
        """Have each of `tweets` answered on its own."""
        return TimedSingles(*self._process.ask("singles", tweets))

    def batches(self, numbers: Sequence[int]) -> list[float]:
        """Have each batch answered, and return the seconds that each took."""
        seconds: list[float] = self._process.ask("batches", numbers)
        return seconds

    def peak_memory_mb(self) -> float:
        """Return what it took at most."""
        return peak_memory_mb(self._process.pid)

    def stop(self) -> None:
        """End it."""
        self._process.stop()


def start_child(name: str, model: Path, work: Path) -> Talker:
    """Start `benchmarks.contenders` in a fresh interpreter."""
    command = [sys.executable, "-m", "benchmarks.contenders", name, str(model), str(work)]
    return Talker(command, work / f"{name}.log")


def measure_cold_starts(
    names: Sequence[str],
    start: Callable[[str], Contender],
    samples: Mapping[str, Samples],
    effort: Effort,
    progress: Callable[[str], None],
) -> None:
    """Start each of `names` afresh and alone, in turns, as often as `effort` says."""
    for turn in range(effort.cold_starts):
        progress(f"cold starts, {turn + 1} of {effort.cold_starts}")
        for name in names:
            contender = start(name)
            samples[name].cold_starts.append(contender.cold_start)
            contender.stop()


def measure_rounds(
    contenders: Mapping[str, Contender],
    samples: Mapping[str, Samples],
    effort: Effort,
    progress: Callable[[str], None],
) -> None:
    """Let running contenders take turns; every round asks all of them for the same tweets."""
    names = list(contenders)
    for number in range(effort.rounds):
        progress(f"round {number + 1} of {effort.rounds}")
        tweets = _turn(number, effort.singles, effort.tweets)
        batches = _turn(number, effort.batches, effort.tweets // BATCH)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            try:
                _measure_turn(contenders[name], samples[name], tweets, batches)
            except ContenderFailed as error:
                raise ContenderFailed(f"{TITLES[name]}: {error}") from error
    for name, contender in contenders.items():
        samples[name].peak_memory_mb = contender.peak_memory_mb()


def _measure_turn(
    contender: Contender, sample: Samples, tweets: Sequence[int], batches: Sequence[int]
) -> None:
    time.sleep(_SETTLING_SECONDS)
    contender.singles(tweets[:_WARM_UPS])
    timed = contender.singles(tweets)
    sample.singles += [1e3 * seconds for seconds in timed.seconds]
    sample.labels.update(zip(tweets, timed.labels, strict=True))
    sample.batches += [BATCH / seconds for seconds in contender.batches(batches)]


def _turn(number: int, size: int, total: int) -> list[int]:
    """Return the positions of turn `number` when `size` of `total` are taken at a time, again and again."""
    return [position % total for position in range(number * size, (number + 1) * size)]
