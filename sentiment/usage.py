"""How many predictions were made, by model version, label and hour; nothing of what was asked.

    partition <model version>
      <hour>|<instance>-<number>   negative, neutral, positive: what this instance answered in this hour

A row has one writer, and it writes totals: written again, after a lost answer
for example, a row says the same.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct, field

from sentiment.background import Background
from sentiment.feedback.tables import Row, Table
from sentiment.records import LABELS, Label

logger = logging.getLogger(__name__)

#: Counts reach the table at most so many seconds late; a killed process loses no more.
FLUSH_SECONDS = 5.0

# Versions and hours that wait to be written while storage is gone: more than a week of them.
_MOST_ROWS = 500
_LARGEST_TRANSACTION = 100


class _Totals(Struct):
    key: str
    labels: dict[Label, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    written: bool = True


class PredictionCounts:
    """The counts of all instances in one table, and those that this one still has to write.

    Safe to share between threads. `add` never waits for storage; the other
    methods raise `StoreUnavailable` where it does not answer.
    """

    def __init__(
        self,
        table: Callable[[], Table],
        *,
        every: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Made where it is first needed: in the background.
        self._table = table
        self._clock = clock
        self._instance = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._totals: dict[tuple[int, str], _Totals] = {}
        self._background = Background("prediction-counts", self.flush, every=every)

    def add(self, version: str, label: Label, n: int = 1) -> None:
        """Count `n` predictions of `label` by a model version."""
        hour = int(self._clock() // 3600)
        with self._lock:
            totals = self._totals.get((hour, version)) or self._begin(hour, version)
            totals.labels[label] += n
            totals.written = False
        self._background.begin()

    def flush(self) -> None:
        """Write what has been counted and is not in the table yet."""
        with self._flushing:
            with self._lock:
                waiting: dict[str, list[tuple[_Totals, Row]]] = defaultdict(list)
                for (_, version), totals in self._totals.items():
                    if not totals.written:
                        row: Row = {"PartitionKey": version, "RowKey": totals.key}
                        row |= {str(label): n for label, n in totals.labels.items()}
                        waiting[version].append((totals, row))
            for of_version in waiting.values():
                for start in range(0, len(of_version), _LARGEST_TRANSACTION):
                    self._write(of_version[start : start + _LARGEST_TRANSACTION])
            self._forget()

    def counts(
        self, since: datetime, until: datetime, version: str | None = None
    ) -> dict[str, dict[Label, int]]:
        """Return version -> label -> how many predictions, of whole hours.

        From the hour that `since` is in to the one that `until` is in. What this
        process has counted is written first; other instances may be
        `FLUSH_SECONDS` behind.
        """
        self.flush()
        found: dict[str, dict[Label, int]] = {}
        first, beyond = _name(since.timestamp() // 3600), _name(until.timestamp() // 3600) + "}"
        for row in self._table().list(version, first, beyond):
            of_version = found.setdefault(row["PartitionKey"], dict.fromkeys(LABELS, 0))
            for label in LABELS:
                of_version[label] += int(row.get(label, 0))
        return found

    def erase_before(self, limit: datetime) -> int:
        """Remove the rows of hours before `limit`; return how many."""
        table = self._table()
        beyond = _name(limit.timestamp() // 3600)
        old = list(table.list(None, "", beyond, select=["PartitionKey", "RowKey"]))
        return sum(table.change([("delete", _key(row))]) for row in old)

    def close(self) -> None:
        """Write what is left and stop; takes a few seconds at most."""
        self._background.close()

    def _begin(self, hour: int, version: str) -> _Totals:
        """Begin a row; never one that was there before, whatever the clock does."""
        if len(self._totals) >= _MOST_ROWS:
            oldest = min(self._totals)
            logger.warning(
                "too many predictions wait to be counted: those of %s are lost", _name(float(oldest[0]))
            )
            del self._totals[oldest]
        totals = _Totals(f"{_name(float(hour))}|{self._instance}-{next(self._numbers)}")
        self._totals[hour, version] = totals
        return totals

    def _write(self, rows: list[tuple[_Totals, Row]]) -> None:
        self._table().change([("put", row) for _, row in rows])
        with self._lock:
            for totals, row in rows:
                # Counted up meanwhile, it is written again.
                totals.written = all(totals.labels[label] == row[label] for label in LABELS)

    def _forget(self) -> None:
        hour = int(self._clock() // 3600)
        with self._lock:
            for key in [key for key, totals in self._totals.items() if totals.written and key[0] != hour]:
                del self._totals[key]


def _name(hour: float) -> str:
    """Return the hour, counted from 1970, as rows are sorted by."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")


def _key(row: Row) -> Row:
    return {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
