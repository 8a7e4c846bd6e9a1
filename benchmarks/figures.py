"""What is measured of each contender, and what the figures have to reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

OURS = "classifier"
PIPELINE = "pipeline"
LIMIT = "onnxruntime"
DOOR = "localhost"
MLFLOW = "mlflow"

#: How tables name them, in the order in which they are shown.
TITLES: dict[str, str] = {
    OURS: "our classifier",
    LIMIT: "ONNX Runtime alone, tokens ready",
    PIPELINE: "transformers pipeline, torch",
    DOOR: "our HTTP door, under localhost",
    MLFLOW: "mlflow models serve, tokens ready",
}


class Samples(Struct):
    """What one contender was timed at, round by round; it grows while the benchmark runs.

    `singles` are milliseconds a tweet, `batches` tweets a second of one batch,
    `cold_starts` seconds from the start of the process to the first answer,
    `labels` what it said of each tweet by the tweet's position.
    """

    singles: list[float]
    batches: list[float]
    cold_starts: list[float]
    labels: dict[int, str]
    peak_memory_mb: float = 0.0


class Figures(Struct, frozen=True, kw_only=True):
    """One row of the table.

    `agreement` is the share of tweets that get the same label as from our
    classifier. Memory is the highest resident set of the processes (MiB).
    """

    name: str
    title: str
    single_p50_ms: float
    single_p99_ms: float
    batch_tweets_per_second: float
    cold_start_seconds: float
    peak_memory_mb: float
    agreement: float
    singles: int
    batches: int
    cold_starts: int


class Target(Struct, frozen=True, kw_only=True):
    """One thing to reach: `value` has to be at least or at most `limit`; None was not measured."""

    name: str
    value: float | None
    relation: Literal["at least", "at most"]
    limit: float
    unit: str
    met: bool | None


def summarise(samples: Mapping[str, Samples]) -> dict[str, Figures]:
    """Return the figures of every contender that was measured, in the order of `TITLES`."""
    reference = samples[OURS].labels
    return {
        name: Figures(
            name=name,
            title=title,
            single_p50_ms=percentile(samples[name].singles, 50),
            single_p99_ms=percentile(samples[name].singles, 99),
            batch_tweets_per_second=statistics.median(samples[name].batches),
            cold_start_seconds=statistics.median(samples[name].cold_starts),
            peak_memory_mb=samples[name].peak_memory_mb,
            agreement=agreement(samples[name].labels, reference),
            singles=len(samples[name].singles),
            batches=len(samples[name].batches),
            cold_starts=len(samples[name].cold_starts),
        )
        for name, title in TITLES.items()
        if name in samples
    }


def percentile(values: Sequence[float], share: int) -> float:
    """Return the `share`-th percentile (1 to 99) of `values`, interpolated between neighbours."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def agreement(labels: Mapping[int, str], reference: Mapping[int, str]) -> float:
    """Return the share of the tweets that both labelled on which they say the same."""
    common = labels.keys() & reference.keys()
    return sum(labels[tweet] == reference[tweet] for tweet in common) / len(common) if common else 0.0


def compare(figures: Mapping[str, Figures], pull_seconds: float | None) -> list[Target]:
    """Hold the figures against what they have to reach on two cores.

    `pull_seconds` is how long it takes to pull, verify and load the model from
    Azurite; None if that was not measured.
    """
    ours = figures[OURS]

    def against(name: str, measure: Callable[[Figures], float]) -> float | None:
        return measure(figures[name]) if name in figures else None

    return [
        _at_least(
            4.5,
            "x",
            "one tweet, p50: faster than the pipeline",
            against(PIPELINE, lambda other: other.single_p50_ms / ours.single_p50_ms),
        ),
        _at_least(
            2.8,
            "x",
            "batches of 32: throughput over the pipeline's",
            against(PIPELINE, lambda other: ours.batch_tweets_per_second / other.batch_tweets_per_second),
        ),
        _at_most(
            1.2,
            "x",
            "one tweet, p50: our time over ONNX Runtime's alone",
            against(LIMIT, lambda other: ours.single_p50_ms / other.single_p50_ms),
        ),
        _at_most(
            1.2,
            "x",
            "batches of 32: our time over ONNX Runtime's alone",
            against(LIMIT, lambda other: other.batch_tweets_per_second / ours.batch_tweets_per_second),
        ),
        _at_most(
            4.0,
            "ms",
            "one tweet, p50: what the HTTP door adds",
            against(DOOR, lambda other: other.single_p50_ms - ours.single_p50_ms),
        ),
        _at_least(
            10.0,
            "x",
            "cold start: faster than the pipeline",
            against(PIPELINE, lambda other: other.cold_start_seconds / ours.cold_start_seconds),
        ),
        _at_most(
            45.0,
            "%",
            "peak memory: share of the pipeline's",
            against(PIPELINE, lambda other: 100.0 * ours.peak_memory_mb / other.peak_memory_mb),
        ),
        _at_most(2.0, "s", "pull, verify and load from Azurite", pull_seconds),
    ]


def _at_least(limit: float, unit: str, name: str, value: float | None) -> Target:
    met = None if value is None else value >= limit
    return Target(name=name, value=value, relation="at least", limit=limit, unit=unit, met=met)


def _at_most(limit: float, unit: str, name: str, value: float | None) -> Target:
    met = None if value is None else value <= limit
    return Target(name=name, value=value, relation="at most", limit=limit, unit=unit, met=met)
