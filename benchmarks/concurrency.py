"""Ways to share one model between concurrent requests: `python -m benchmarks.concurrency`.

Clients in threads ask for one tweet after the other, as a worker's requests do:
1, 4 and 16 at a time. The ways take turns, round after round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
from msgspec import Struct
from onnxruntime import InferenceSession

from benchmarks.figures import percentile
from benchmarks.machine import Machine, describe_machine
from benchmarks.microbatcher import MicroBatcher, PredictTexts
from benchmarks.processes import PROJECT
from benchmarks.report import align, write_json
from benchmarks.tweets import generate_tweets
from sentiment.classifier import Classifier, open_session
from sentiment.errors import SentimentError
from sentiment.records import LABELS, Prediction, Scores

CONCURRENCIES = (1, 4, 16)

PredictText = Callable[[str], Prediction]


class Turn(Struct, frozen=True):
    """One turn: the seconds of each request, and of all of them together."""

    latencies: list[float]
    seconds: float


class Way(Struct, frozen=True, kw_only=True):
    """How one way of sharing fares with so many requests at a time."""

    name: str
    concurrency: int
    p50_ms: float
    p99_ms: float
    tweets_per_second: float


class ConcurrencyReport(Struct, frozen=True, kw_only=True):
    """Everything one run found."""

    measured_at: str
    machine: Machine
    rounds: int
    requests: int
    ways: list[Way]


def open_ways(model: Path, stack: ExitStack) -> dict[str, PredictText]:
    """Return the ways to share the model in the folder `model`; `stack` closes them.

    Raises:
        InvalidModel: the folder is no model that serves.
    """
    classifier = Classifier.load(model)
    together = padded_batches(classifier, open_session(model, threads=0))
    waiting = stack.enter_context(MicroBatcher(together, wait_seconds=0.002))
    eager = stack.enter_context(MicroBatcher(together, wait_seconds=0.0))
    return {
        "each on its own, as served": lambda text: classifier.predict([text])[0],
        "each on its own, all cores": lambda text: together([text])[0],
        "micro-batches, waits 2 ms": waiting.predict,
        "micro-batches, waits for nothing": eager.predict,
    }


def padded_batches(classifier: Classifier, session: InferenceSession) -> PredictTexts:
    """Return a function that runs texts through the graph as one batch, padded to the longest."""

    def predict(texts: Sequence[str]) -> list[Prediction]:
        feeds = classifier.feeds(texts)
        width = max(feed["input_ids"].shape[1] for feed in feeds)
        batch = {
            name: np.concatenate(
                [np.pad(feed[name], ((0, 0), (0, width - feed[name].shape[1]))) for feed in feeds]
            )
            for name in feeds[0]
        }
        rows = session.run(["probabilities"], batch)[0].tolist()
        return [Prediction(LABELS[row.index(max(row))], Scores(*row), truncated=False) for row in rows]

    return predict


def time_turn(
    predict: Callable[[str], object], tweets: Sequence[str], requests: int, concurrency: int
) -> Turn:
    """Have `concurrency` clients send `requests` in all, each its next as soon as it has an answer."""
    # One counter for all: a client that is served late does not make the others wait at the end.
    tickets = count()
    latencies: list[float] = []
    barrier = threading.Barrier(concurrency + 1)

    def ask() -> None:
        barrier.wait()
        while (ticket := next(tickets)) < requests:
            start = time.perf_counter()
            predict(tweets[ticket % len(tweets)])
            latencies.append(time.perf_counter() - start)

    clients = [threading.Thread(target=ask) for _ in range(concurrency)]
    for client in clients:
        client.start()
    barrier.wait()
    start = time.perf_counter()
    for client in clients:
        client.join()
    return Turn(latencies, time.perf_counter() - start)


def measure(
    ways: dict[str, PredictText],
    tweets: Sequence[str],
    *,
    rounds: int,
    requests: int,
    progress: Callable[[str], None],
) -> list[Way]:
    """Let every way take its turn at every concurrency, `rounds` times, a different one first."""
    turns: dict[tuple[int, str], list[Turn]] = {(many, name): [] for many in CONCURRENCIES for name in ways}
    names = list(ways)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        shift = number % len(names)
        for concurrency in CONCURRENCIES:
            for name in names[shift:] + names[:shift]:
                ways[name](tweets[0])
                turns[concurrency, name].append(time_turn(ways[name], tweets, requests, concurrency))
    return [_summarise(name, concurrency, found) for (concurrency, name), found in turns.items()]


def render_text(report: ConcurrencyReport) -> str:
    """Return the report as aligned lines for a terminal."""
    rows = [("", "at a time", "p50", "p99", "tweets/s")]
    rows += [
        (
            way.name,
            str(way.concurrency),
            f"{way.p50_ms:.1f} ms",
            f"{way.p99_ms:.1f} ms",
            f"{way.tweets_per_second:.0f}",
        )
        for way in report.ways
    ]
    return "\n".join(align(rows))


def _summarise(name: str, concurrency: int, turns: Sequence[Turn]) -> Way:
    latencies = [1e3 * latency for turn in turns for latency in turn.latencies]
    return Way(
        name=name,
        concurrency=concurrency,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        tweets_per_second=statistics.median(len(turn.latencies) / turn.seconds for turn in turns),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, and write what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.concurrency",
        description="Measure ways to share one model between concurrent requests.",
    )
    parser.add_argument(
        "--model", type=Path, default=PROJECT / "seed-model", help="model folder (default: seed-model)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=128, help="in each turn; default: %(default)s")
    arguments = parser.parse_args(argv)
    machine = describe_machine()
    try:
        with ExitStack() as stack:
            ways = measure(
                open_ways(arguments.model, stack),
                generate_tweets(256),
                rounds=arguments.rounds,
                requests=arguments.requests,
                progress=lambda message: print(message, file=sys.stderr, flush=True),
            )
    except SentimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = ConcurrencyReport(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        rounds=arguments.rounds,
        requests=arguments.requests,
        ways=ways,
    )
    print(render_text(report))
    if arguments.json is not None:
        write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
