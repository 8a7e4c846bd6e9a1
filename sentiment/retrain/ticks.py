"""What ticks leave behind: one record each, for a month."""

from __future__ import annotations

import logging
import re
import secrets
from datetime import UTC, datetime, timedelta

from sentiment.blobs import Blobs
from sentiment.retrain.records import Phase, TickCounts, TickRecord
from sentiment.retrain.state import decode, encode

logger = logging.getLogger(__name__)

#: Records of ticks are kept for so many days: with one every 15 minutes, 2,900 of them.
KEPT_DAYS = 30

_LISTED_DAYS = 14
#: A run of `prune` removes no more, or it would take longer than a function may; the next one goes on.
_MOST_PRUNED = 5000
_RECORD = re.compile(r"ticks/([0-9]{4}-[0-9]{2}-[0-9]{2})/")


class Notes:
    """What one tick finds, decides and does, as it goes."""

    def __init__(self, by: str) -> None:
        self._by = by
        self.before: Phase | None = None
        self.after: Phase | None = None
        self.cycle = 0
        self.counts: TickCounts | None = None
        self.decision = ""
        self.did: list[str] = []
        self.watch: str | None = None
        self.errors: list[str] = []

    def record(self, now: datetime) -> TickRecord:
        return TickRecord(
            at=now.isoformat(timespec="microseconds"),
            by=self._by,
            before=self.before,
            after=self.after,
            cycle=self.cycle,
            counts=self.counts,
            decision=self.decision,
            did=tuple(self.did),
            watch=self.watch,
            errors=tuple(self.errors),
        )


def keep(blobs: Blobs, record: TickRecord, now: datetime) -> None:
    """Write the record of a tick under its time."""
    blobs.create(f"ticks/{now:%Y-%m-%d/%H%M%S.%f}-{secrets.token_hex(4)}.json", encode(record))


def prune(blobs: Blobs, now: datetime | None = None) -> int:
    """Remove the records of days more than `KEPT_DAYS` ago; return how many.

    Raises:
        StoreUnavailable: some may be removed and some not; the next run goes on.
    """
    oldest = f"{(now or datetime.now(UTC)) - timedelta(days=KEPT_DAYS):%Y-%m-%d}"
    days = ((name, _RECORD.match(name)) for name in blobs.names("ticks/"))
    old = sorted(name for name, day in days if day and day[1] < oldest)[:_MOST_PRUNED]
    for name in old:
        blobs.delete(name)
    if old:
        logger.info("%d records of ticks older than %d days removed", len(old), KEPT_DAYS)
    return len(old)


def latest(blobs: Blobs, number: int, now: datetime) -> list[TickRecord]:
    """Return the last records of the past two weeks, the latest first."""
    names: list[str] = []
    # From tomorrow: another instance's clock may be ahead.
    for days in range(-1, _LISTED_DAYS):
        names += sorted(blobs.names(f"ticks/{now - timedelta(days=days):%Y-%m-%d}/"), reverse=True)
        if len(names) >= number:
            break
    contents = [(name, blobs.read(name)) for name in names[:number]]
    return [decode(content.data, TickRecord, name) for name, content in contents if content]
