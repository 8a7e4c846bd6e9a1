"""Counts of predictions on real storage: cheap to make, never twice, never in a request's way."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables import TableClient

from localhost.azurite import Azurite
from sentiment.errors import StoreUnavailable
from sentiment.feedback.tables import Table
from sentiment.records import Label
from sentiment.usage import PredictionCounts
from tests.stage import until
from tests.wire import ProcessDied, Wire

NOON = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
NEVER = 3600.0


class Setting:
    """A table, the clock of those who write to it, and what passes between."""

    def __init__(self, azurite: Azurite) -> None:
        self.wire = Wire()
        self.now = NOON
        name = f"t{uuid.uuid4().hex}"
        self.client = self.wire.open_table(azurite, name)
        self.by_hand = TableClient.from_connection_string(azurite.connection_string, name)
        self.instances: list[PredictionCounts] = []

    def instance(self, every: float = NEVER) -> PredictionCounts:
        counts = PredictionCounts(lambda: Table(self.client), every=every, clock=lambda: self.now.timestamp())
        self.instances.append(counts)
        return counts

    def rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.by_hand.list_entities()]


@pytest.fixture
def setting(azurite: Azurite) -> Iterator[Setting]:
    setting = Setting(azurite)
    with setting.client, setting.by_hand:
        yield setting
        setting.wire.cut = None
        for counts in setting.instances:
            counts.close()


def _counted(negative: int = 0, neutral: int = 0, positive: int = 0) -> dict[Label, int]:
    return {"negative": negative, "neutral": neutral, "positive": positive}


def test_what_all_instances_counted_adds_up(setting: Setting) -> None:
    """By version and label; each instance has rows of its own."""
    one, two = setting.instance(), setting.instance()
    one.add("v1", "negative", 3)
    one.add("v2", "positive")
    two.add("v1", "negative")
    two.add("v1", "neutral", 2)
    two.flush()
    assert one.counts(NOON, NOON) == {"v1": _counted(4, 2), "v2": _counted(positive=1)}
    assert one.counts(NOON, NOON, "v2") == {"v2": _counted(positive=1)}
    assert one.counts(NOON, NOON, "v3") == {}
    assert len(setting.rows()) == 3


def test_counts_are_of_whole_hours(setting: Setting) -> None:
    """Both hours that the ends are in belong to them."""
    counts = setting.instance()
    for n in (1, 10, 100):
        counts.add("v1", "neutral", n)
        setting.now += HOUR
    asked = [(NOON, NOON), (NOON, NOON + HOUR), (NOON + HOUR, NOON + 9 * HOUR), (NOON - HOUR, NOON - HOUR)]
    found = [counts.counts(since, until, "v1").get("v1", _counted()) for since, until in asked]
    assert [of["neutral"] for of in found] == [1, 11, 110, 0]


def test_nothing_is_written_that_is_there(setting: Setting) -> None:
    """A process that nobody asks anything costs nothing; one that counts on writes its row again."""
    counts = setting.instance()
    counts.flush()
    counts.add("v1", "neutral")
    counts.flush()
    setting.wire.forget()
    counts.flush()
    assert setting.wire.exchanges == []
    counts.add("v1", "neutral")
    counts.flush()
    assert len(setting.rows()) == 1
    assert counts.counts(NOON, NOON) == {"v1": _counted(neutral=2)}


@pytest.mark.parametrize("dies", [True, False], ids=["crash", "answer lost"])
def test_a_repeated_write_counts_once(setting: Setting, dies: bool) -> None:
    """Whether the answer was lost or the write broke off, the same totals are written again."""
    counts = setting.instance()
    for number in range(1, 4):
        counts.add("v1", "negative", 5)
        setting.wire.forget()
        if dies:
            setting.wire.die_after = 1
        else:
            setting.wire.lose = 1
        with pytest.raises((ProcessDied, StoreUnavailable)):
            counts.flush()
        setting.wire.forget()
        assert counts.counts(NOON, NOON) == {"v1": _counted(5 * number)}
        assert len(setting.rows()) == 1


def test_a_new_process_begins_rows_of_its_own(setting: Setting) -> None:
    """It does not know what the one before had counted, and must not write over it."""
    for _ in range(2):
        counts = setting.instance()
        counts.add("v1", "negative", 2)
        counts.close()
    assert setting.instance().counts(NOON, NOON) == {"v1": _counted(4)}


def test_a_clock_that_is_set_back_loses_nothing(setting: Setting) -> None:
    """An hour that comes twice has two rows."""
    counts = setting.instance()
    for step in (HOUR, -HOUR, HOUR):
        counts.add("v1", "negative")
        counts.flush()
        setting.now += step
    assert counts.counts(NOON, NOON + HOUR) == {"v1": _counted(3)}


def test_storage_that_is_gone_delays_counts_and_nothing_else(setting: Setting) -> None:
    """Counting goes on meanwhile, and all of it is written once storage is back."""
    counts = setting.instance(every=0.01)
    setting.wire.cut = ""
    started = time.perf_counter()
    for _ in range(1000):
        counts.add("v1", "negative")
    assert time.perf_counter() - started < 1
    with pytest.raises(StoreUnavailable):
        counts.counts(NOON, NOON)
    setting.wire.cut = None
    reader = setting.instance()
    until(lambda: reader.counts(NOON, NOON) == {"v1": _counted(1000)}, "all that was counted")


def test_memory_is_bounded_while_storage_is_gone(setting: Setting) -> None:
    """The oldest hours are given up, and that is said."""
    counts = setting.instance()
    for number in range(600):
        counts.add("v1", "negative")
        setting.now = NOON + number * HOUR
    kept = counts.counts(NOON, setting.now)["v1"]["negative"]
    assert 490 <= kept <= 500


def test_closing_writes_what_is_left(setting: Setting) -> None:
    """Without waiting for the next turn of the thread; and an unused one never had a thread."""
    before = threading.active_count()
    setting.instance().close()
    assert threading.active_count() == before
    counts = setting.instance()
    counts.add("v1", "positive")
    counts.close()
    counts.close()
    assert [row["positive"] for row in setting.rows()] == [1]


def test_many_threads_lose_no_count(setting: Setting) -> None:
    """Also while it is being written."""
    counts = setting.instance(every=0.001)

    def count(_: int) -> None:
        for _ in range(500):
            counts.add("v1", "neutral")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    assert counts.counts(NOON, NOON) == {"v1": _counted(neutral=4000)}


def test_old_hours_are_erased(setting: Setting) -> None:
    """Of every version; the hour of the limit stays."""
    counts = setting.instance()
    assert counts.erase_before(NOON) == 0
    for version in ("v1", "v2"):
        counts.add(version, "neutral")
    setting.now += HOUR
    counts.add("v1", "positive")
    counts.flush()
    assert counts.erase_before(NOON) == 0
    assert counts.erase_before(NOON + HOUR) == 2
    assert counts.counts(NOON, NOON + HOUR) == {"v1": _counted(positive=1)}
