"""The way to Application Insights: nobody waits, nothing grows, and every loss is counted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from localhost.ingestion import IngestionServer, Mode
from sentiment.envelopes import Event, encode
from sentiment.ingestion import CLOSED, GIVEN_UP, QUEUE_FULL, REFUSED, Limits, MetricKey, Sender
from tests.stage import until

ROOT = Path(__file__).parent.parent
KEY = "00000000-0000-0000-0000-000000000000"
SPEED: MetricKey = ("Speed", (("model_version", "1"),))

#: Modes in which nothing is taken, and may be later.
FAILING = [Mode.FAIL, Mode.THROTTLE, Mode.HANG, Mode.DRIP, Mode.REFUSE]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IngestionServer]:
    with IngestionServer(tmp_path / "telemetry") as running:
        yield running


@pytest.fixture
def open_sender(server: IngestionServer) -> Iterator[Callable[..., Sender]]:
    """Open senders to the server, quicker than in life; they are closed at the end."""
    opened: list[Sender] = []

    def start(**limits: float) -> Sender:
        quick = {"every": 0.02, "timeout": 0.3, "pause": 0.01, "longest_pause": 0.05, **limits}
        opened.append(
            Sender(
                f"http://127.0.0.1:{server.port}",
                partial(encode, instrumentation_key=KEY),
                Limits(**quick),  # type: ignore[arg-type]
            )
        )
        return opened[-1]

    try:
        yield start
    finally:
        for sender in opened:
            sender.close()


def _event(number: int) -> Event:
    return Event("Test", time.time(), None, {"number": str(number)}, {})


def _numbers(server: IngestionServer) -> list[int]:
    return [
        int(envelope["data"]["baseData"]["properties"]["number"])
        for envelope in server.events()
        if envelope["data"]["baseData"].get("name") == "Test"
    ]


def test_events_arrive_in_their_order(server: IngestionServer, open_sender: Callable[..., Sender]) -> None:
    """Also when they fill several requests."""
    sender = open_sender(batch=10)
    for number in range(35):
        sender.put([_event(number)])
    until(lambda: len(_numbers(server)) == 35, "35 events")
    assert _numbers(server) == list(range(35))
    assert sender.dropped == {}


def test_no_thread_and_no_connection_before_the_first_event(
    server: IngestionServer, open_sender: Callable[..., Sender]
) -> None:
    """And nothing to wait for at the end."""
    threads = threading.active_count()
    open_sender().close()
    open_sender().put([], [])
    assert threading.active_count() == threads
    assert server.requests == 0


def test_observations_are_added_up(server: IngestionServer, open_sender: Callable[..., Sender]) -> None:
    """Many values, one row: count, sum, smallest, largest, deviation."""
    sender = open_sender(every=5.0)
    for value in (1.0, 2.0, 6.0):
        sender.put((), [(SPEED, value)])
    sender.close()
    (envelope,) = server.events()
    assert envelope["data"]["baseData"]["properties"] == {"model_version": "1"}
    (metric,) = envelope["data"]["baseData"]["metrics"]
    assert metric.pop("stdDev") == pytest.approx(2.160, abs=0.001)
    assert metric == {"name": "Speed", "kind": 1, "value": 9.0, "count": 3, "min": 1.0, "max": 6.0}


@pytest.mark.parametrize("mode", FAILING, ids=lambda mode: mode.name)
def test_after_a_failure_everything_arrives(
    server: IngestionServer, open_sender: Callable[..., Sender], mode: Mode
) -> None:
    """A short outage loses nothing: the batch comes again."""
    server.mode = mode
    sender = open_sender(tries=1_000)
    sender.put([_event(1), _event(2)])
    before = server.requests
    if mode is not Mode.REFUSE:
        until(lambda: server.requests >= before + 2, "a second try")
    server.mode = Mode.TAKE
    until(lambda: _numbers(server) == [1, 2], "both events")
    assert sender.dropped == {}


@pytest.mark.parametrize("mode", FAILING, ids=lambda mode: mode.name)
def test_a_lasting_failure_is_given_up_and_counted(
    server: IngestionServer, open_sender: Callable[..., Sender], mode: Mode
) -> None:
    """What was lost is told as soon as anything is accepted again."""
    server.mode = mode
    sender = open_sender(tries=2, timeout=0.1)
    sender.put([_event(number) for number in range(7)])
    until(lambda: sender.dropped == {GIVEN_UP: 7}, "7 events given up")
    server.mode = Mode.TAKE
    sender.put([_event(8)])
    until(lambda: _numbers(server) == [8], "the next event")
    told = [
        (metric["max"], envelope["data"]["baseData"]["properties"]["reason"])
        for envelope in server.events()
        for metric in envelope["data"]["baseData"].get("metrics", ())
    ]
    assert told == [(7, GIVEN_UP)]


def test_a_part_that_may_come_again_does(server: IngestionServer, open_sender: Callable[..., Sender]) -> None:
    """206: two of four are taken at once, one later, one never."""
    server.mode = Mode.PART
    sender = open_sender()
    sender.put([_event(number) for number in range(4)])
    until(lambda: sorted(_numbers(server)) == [0, 1, 3], "three of four")
    until(lambda: sender.dropped == {REFUSED: 1}, "one refused")


def test_what_is_refused_for_good_does_not_come_again(
    server: IngestionServer, open_sender: Callable[..., Sender]
) -> None:
    server.mode = Mode.REFUSE_ITEMS
    sender = open_sender()
    sender.put([_event(1)])
    until(lambda: sender.dropped == {REFUSED: 1}, "one refused")
    assert server.requests == 1
    server.mode = Mode.TAKE
    sender.put([_event(2)])
    until(lambda: _numbers(server) == [2], "the next event")


def test_the_queue_has_an_end(server: IngestionServer, open_sender: Callable[..., Sender]) -> None:
    """With an endpoint that hangs: no more than was promised waits, the rest is counted, no caller waits."""
    server.mode = Mode.HANG
    sender = open_sender(capacity=50, batch=20, metrics=3, timeout=30.0)
    longest = 0.0
    for number in range(5_000):
        started = time.perf_counter()
        sender.put([_event(number)], [((f"M{number % 5}", ()), 1.0)])
        longest = max(longest, time.perf_counter() - started)
    assert longest < 1.0, "a caller waited for a hanging endpoint"
    dropped = sender.dropped[QUEUE_FULL]
    # At most one batch is under way and 50 events wait; two metrics of five had no room.
    assert 5_000 - 50 - 20 <= dropped <= 5_000 - 50 + 2_000
    assert len(sender._queue) <= 50
    assert len(sender._metrics) <= 3
    sender.close()


def test_pauses_grow(server: IngestionServer, open_sender: Callable[..., Sender]) -> None:
    """An endpoint that is down is not hammered."""
    server.mode = Mode.FAIL
    sender = open_sender(pause=0.05, longest_pause=60.0, tries=4)
    sender.put([_event(1)])
    started = time.monotonic()
    until(lambda: sender.dropped == {GIVEN_UP: 1}, "the event given up")
    assert time.monotonic() - started >= 0.05 + 0.1 + 0.2
    assert server.requests == 4


def test_the_service_may_ask_for_a_longer_pause(
    server: IngestionServer, open_sender: Callable[..., Sender]
) -> None:
    """429 with `Retry-After: 1`."""
    server.mode = Mode.THROTTLE
    sender = open_sender(longest_pause=60.0)
    sender.put([_event(1)])
    until(lambda: server.requests == 1, "the first try")
    started = time.monotonic()
    server.mode = Mode.TAKE
    until(lambda: _numbers(server) == [1], "the event")
    assert time.monotonic() - started > 0.5


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name)
def test_closing_takes_less_than_a_second(
    server: IngestionServer, open_sender: Callable[..., Sender], mode: Mode
) -> None:
    """Also in the middle of a long pause or a long wait; what cannot be sent is counted."""
    server.mode = mode
    sender = open_sender(every=60.0, timeout=60.0, pause=60.0, longest_pause=60.0)
    sender.put([_event(number) for number in range(300)])
    if mode is not Mode.REFUSE:
        until(lambda: server.requests > 0, "the first try")
    started = time.monotonic()
    sender.close()
    assert time.monotonic() - started < 1.0
    if mode is Mode.TAKE:
        assert _numbers(server) == list(range(300))
        assert sender.dropped == {}
    else:
        # A batch under way is counted once its thread has noticed.
        until(lambda: len(_numbers(server)) + sum(sender.dropped.values()) >= 300, "300 accounted for")


def test_after_closing_events_are_counted(open_sender: Callable[..., Sender]) -> None:
    sender = open_sender()
    sender.close()
    sender.put([_event(1)], [(SPEED, 1.0)])
    sender.close()
    assert sender.dropped == {CLOSED: 2}


def test_an_item_that_cannot_be_written_does_not_stop_the_others(
    server: IngestionServer, open_sender: Callable[..., Sender], caplog: pytest.LogCaptureFixture
) -> None:
    """Half a surrogate pair is no text."""
    sender = open_sender()
    sender.put([Event("Test", 0.0, None, {"number": "\ud83d"}, {}), _event(2)])
    until(lambda: _numbers(server) == [2], "the other event")
    assert sender.dropped == {REFUSED: 1}
    assert "an item of telemetry cannot be written: Test" in caplog.text


def test_from_many_threads_every_event_arrives_once(
    server: IngestionServer, open_sender: Callable[..., Sender]
) -> None:
    sender = open_sender(batch=50)
    threads = [
        threading.Thread(
            target=lambda first: [sender.put([_event(first + number)]) for number in range(100)],
            args=(100 * i,),
        )
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(_numbers(server)) == 800, "800 events")
    assert sorted(_numbers(server)) == list(range(800))


def _program(server: IngestionServer, body: str) -> subprocess.CompletedProcess[str]:
    start = (
        "import os, time\n"
        "from functools import partial\n"
        "from sentiment.envelopes import Event, encode\n"
        "from sentiment.ingestion import Limits, Sender\n"
        "def event(number): return Event('Test', time.time(), None, {'number': str(number)}, {})\n"
        f"sender = Sender('http://127.0.0.1:{server.port}', partial(encode, instrumentation_key='{KEY}'),"
        " Limits(every=60.0))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_that_ends_sends_what_waits(server: IngestionServer) -> None:
    """Without being told: at the interpreter's end."""
    done = _program(server, "sender.put([event(1), event(2)])")
    assert (done.returncode, done.stderr) == (0, "")
    assert _numbers(server) == [1, 2]


def test_a_hanging_endpoint_does_not_keep_a_process_from_ending(server: IngestionServer) -> None:
    server.mode = Mode.HANG
    done = _program(
        server,
        "import atexit; started = []\n"
        "atexit.register(lambda: print(time.monotonic() - started[0]))\n"
        "sender.put([event(1)])\n"
        "atexit.register(lambda: started.append(time.monotonic()))",
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert float(done.stdout) < 1.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_sends_its_own_events_and_not_its_parents(server: IngestionServer) -> None:
    """The parent's thread does not exist in the child, and its lock may be held for ever."""
    done = _program(
        server,
        "sender.put([event(1)])\n"
        "with sender._condition:\n"  # as another thread might, at the moment of the fork
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        sender.put([event(2)]); sender.close(); os._exit(0)\n"
        "os.waitpid(child, 0)\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(_numbers(server)) == [1, 2]
