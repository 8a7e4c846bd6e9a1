"""What ticks leave behind: one record each."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sentiment.blobs import Blobs
from sentiment.retrain.records import Phase, TickCounts, TickRecord
from sentiment.retrain.state import decode, encode

_LISTED_DAYS = 14


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
