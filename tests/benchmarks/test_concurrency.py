"""Every request of a turn is sent once, by as many clients as it says."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from benchmarks.concurrency import CONCURRENCIES, measure, open_ways, time_turn
from sentiment.records import Prediction, Scores
from tests.models import make_model_folder

NEUTRAL = Prediction("neutral", Scores(0.0, 1.0, 0.0), False)


def test_a_turn_sends_each_request_once() -> None:
    """Four clients at a time share the requests among them, each waiting for its answer."""
    meeting = threading.Barrier(4, timeout=10)
    seen: list[str] = []

    def predict(text: str) -> Prediction:
        # Nobody gets through unless four are here together.
        meeting.wait()
        seen.append(text)
        return NEUTRAL

    tweets = [str(number) for number in range(8)]
    turn = time_turn(predict, tweets, requests=16, concurrency=4)
    assert sorted(seen) == sorted(tweets * 2)
    assert len(turn.latencies) == 16
    assert turn.seconds > 0.0


def test_every_way_is_measured_at_every_concurrency(tmp_path: Path) -> None:
    """The ways give the same answers, and each has its line for 1, 4 and 16 at a time."""
    model = make_model_folder(tmp_path / "model")
    with ExitStack() as stack:
        ways = open_ways(model, stack)
        assert {predict("I love it").label for predict in ways.values()} == {"positive"}
        found = measure(ways, ["I hate it"], rounds=1, requests=8, progress=lambda message: None)
    assert [(way.name, way.concurrency) for way in found] == [
        (name, many) for many in CONCURRENCIES for name in ways
    ]
    assert all(0.0 < way.p50_ms <= way.p99_ms and way.tweets_per_second > 0.0 for way in found)
