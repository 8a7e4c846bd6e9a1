"""What telemetry costs a request: `python -m benchmarks.telemetry`.

The same predictions with telemetry off, and with an endpoint that takes
everything, is dead, hangs, or fails. The ways take turns, round after round;
each is compared with telemetry off in the same round. Telemetry is off twice:
what lies between the two is the noise of the machine.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec import Struct

from benchmarks.concurrency import Turn, time_turn
from benchmarks.figures import percentile
from benchmarks.machine import Machine, describe_machine
from benchmarks.processes import PROJECT
from benchmarks.report import align, write_json
from benchmarks.tweets import generate_tweets
from localhost.ingestion import IngestionServer, Mode, unused_port
from sentiment import predictions
from sentiment.classifier import Classifier
from sentiment.errors import SentimentError
from sentiment.feedback import PredictionSigner
from sentiment.ingestion import Limits
from sentiment.records import Champion, TextRequest
from sentiment.serving import Loaded
from sentiment.settings import Ingestion
from sentiment.telemetry import Telemetry

OFF, OFF_AGAIN = "off", "off, once more"
#: At most so much may the 99th percentile grow.
TARGET = 1.05

_KEY = "00000000-0000-0000-0000-000000000000"
#: 25 times as often as in life, so that even a short turn is full of sending and failing.
OFTEN = Limits(every=0.2, pause=0.2, longest_pause=0.5)
_WARM_UPS = 5


class Way(Struct, frozen=True, kw_only=True):
    """How predictions fare with telemetry in one state; ratios are to telemetry off in the same round."""

    name: str
    p50_ms: float
    p99_ms: float
    #: Of all requests.
    p99_ratio: float
    #: The median, smallest and largest of the rounds.
    p99_ratio_of_rounds: tuple[float, float, float]
    dropped: int


class TelemetryReport(Struct, frozen=True, kw_only=True):
    """Everything one run found."""

    measured_at: str
    machine: Machine
    rounds: int
    requests: int
    concurrency: int
    ways: list[Way]


def measure(
    loaded: Loaded,
    endpoints: dict[str, str | None],
    tweets: Sequence[str],
    *,
    rounds: int,
    requests: int,
    concurrency: int,
    progress: Callable[[str], None],
    limits: Limits = OFTEN,
) -> list[Way]:
    """Let each of `endpoints` (None: telemetry off) take its turn, `rounds` times, a different one first."""
    signer = PredictionSigner(["a key that signs nothing of worth"])
    turns: dict[str, list[Turn]] = {name: [] for name in endpoints}
    dropped = dict.fromkeys(endpoints, 0)
    names = list(endpoints)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            telemetry = _open(endpoints[name], limits)

            def ask(text: str, telemetry: Telemetry = telemetry) -> object:
                return predictions.answer_with(loaded, TextRequest(text), signer, telemetry)

            for text in tweets[:_WARM_UPS]:
                ask(text)
            turns[name].append(time_turn(ask, tweets, requests, concurrency))
            telemetry.close()
            dropped[name] += sum(telemetry.dropped.values())
    return [_summarise(name, turns[name], turns[OFF], dropped[name]) for name in names]


def render_text(report: TelemetryReport) -> str:
    """Return the report as aligned lines for a terminal."""
    rows = [("telemetry", "p50", "p99", "p99 to off", "of the rounds", f"within {TARGET - 1:.0%}", "dropped")]
    for way in report.ways:
        median, smallest, largest = way.p99_ratio_of_rounds
        rows.append(
            (
                way.name,
                f"{way.p50_ms:.2f} ms",
                f"{way.p99_ms:.2f} ms",
                f"{way.p99_ratio:.3f}",
                f"{median:.3f} ({smallest:.2f} to {largest:.2f})",
                "" if way.name == OFF else "yes" if median <= TARGET else "no",
                str(way.dropped),
            )
        )
    return "\n".join(align(rows))


@contextmanager
def serving(mode: Mode) -> Iterator[str]:
    """Run an endpoint in a process of its own, so that it takes nothing from this one; yield its address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(mode, there), daemon=True)
    process.start()
    there.close()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        here.close()
        process.join(10)


def _serve(mode: Mode, parent: Connection) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, IngestionServer(Path(folder)) as server:
        server.mode = mode
        parent.send(server.port)
        # Until the parent closes its end, or is no more.
        parent.poll(None)


def _open(endpoint: str | None, limits: Limits) -> Telemetry:
    return Telemetry(None if endpoint is None else Ingestion(_KEY, endpoint), limits=limits)


def _summarise(name: str, turns: Sequence[Turn], off: Sequence[Turn], dropped: int) -> Way:
    def p99(*some: Turn) -> float:
        return percentile([1e3 * latency for turn in some for latency in turn.latencies], 99)

    ratios = [p99(turn) / p99(reference) for turn, reference in zip(turns, off, strict=True)]
    return Way(
        name=name,
        p50_ms=percentile([1e3 * latency for turn in turns for latency in turn.latencies], 50),
        p99_ms=p99(*turns),
        p99_ratio=p99(*turns) / p99(*off),
        p99_ratio_of_rounds=(statistics.median(ratios), min(ratios), max(ratios)),
        dropped=dropped,
    )


def load(model: Path) -> Loaded:
    """Return the model in the folder `model` as what serves.

    Raises:
        InvalidModel: the folder is no model that serves.
    """
    champion = Champion(
        version="benchmark", sha256="0" * 64, previous=None, promoted_at="", by="benchmark", reason="to see"
    )
    return Loaded(
        classifier=Classifier.load(model), champion=champion, metrics={}, loaded_at=datetime.now(UTC)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, and write what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.telemetry", description="Measure what telemetry costs a request."
    )
    parser.add_argument(
        "--model", type=Path, default=PROJECT / "seed-model", help="model folder (default: seed-model)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    parser.add_argument("--rounds", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=400, help="in each turn; default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=1, help="at a time; default: %(default)s")
    parser.add_argument(
        "--as-in-life",
        action="store_true",
        help="send as seldom as the app does (every 5 s): turns must then be long, --requests 3000",
    )
    arguments = parser.parse_args(argv)
    machine = describe_machine()
    logger = logging.getLogger("sentiment")
    try:
        with ExitStack() as stack:
            # That the endpoints misbehave is no news here.
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
            endpoints: dict[str, str | None] = {
                OFF: None,
                OFF_AGAIN: None,
                "takes everything": stack.enter_context(serving(Mode.TAKE)),
                "dead": f"http://127.0.0.1:{unused_port()}",
                "hangs": stack.enter_context(serving(Mode.HANG)),
                "fails": stack.enter_context(serving(Mode.FAIL)),
            }
            ways = measure(
                load(arguments.model),
                endpoints,
                generate_tweets(256),
                rounds=arguments.rounds,
                requests=arguments.requests,
                concurrency=arguments.concurrency,
                limits=Limits() if arguments.as_in_life else OFTEN,
                progress=lambda message: print(message, file=sys.stderr, flush=True),
            )
    except SentimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = TelemetryReport(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        rounds=arguments.rounds,
        requests=arguments.requests,
        concurrency=arguments.concurrency,
        ways=ways,
    )
    print(render_text(report))
    if arguments.json is not None:
        write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
