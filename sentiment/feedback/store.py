"""The correction store: each correction once, in Table Storage.

    partition <shard of the id>
      c|<id>          the record, for good, and what a second delivery runs into
      p|<id>          while no promoted model has learned from this error
      r|<id>          the same for a confirmation ("right"), so that counting errors skips it
      l|<id>          once one has learned from it: what it said goes on being heard; what older
                      versions of this product noted as learned has none
      u|<user>|<id>   so that one person's corrections can be found
    partition users
      x|<user>        this person was erased: older messages stay out

All rows of one correction are written, and removed, in one transaction.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import msgspec

from sentiment.errors import CorrectionNotFound
from sentiment.feedback.messages import Pseudonyms, iso, masked_comment, masked_text, text_key
from sentiment.feedback.tables import Change, Row, Table
from sentiment.records import Correction, CorrectionMessage, Voice

logger = logging.getLogger(__name__)

#: One for each first hexadecimal digit of the id's SHA-256.
SHARDS = tuple("0123456789abcdef")

_ID = re.compile("[A-Za-z0-9_-]{1,100}")
_USERS = "users"
#: What a voice is made of: its id and whether it is learned are in the key.
_VOICE = [name for name in Voice.__struct_fields__ if name not in ("id", "learned")] + ["RowKey"]
_TRIES = 5


class CorrectionReader:
    """The corrections in one table, to read: who adds none needs no key for pseudonyms."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, id: str) -> Correction:
        """Return one correction.

        Raises:
            CorrectionNotFound: there is none with this id.
        """
        # What can be no id is not asked for: storage would call it a bad request.
        row = self._table.read(_shard(id), f"c|{id}") if _ID.fullmatch(id) else None
        if row is None:
            raise CorrectionNotFound(id)
        return _correction(row)

    def all(self) -> Iterator[Correction]:
        """Yield every correction, erased ones too."""
        for shard in SHARDS:
            for row in self._table.list(shard, "c|", "c}"):
                yield _correction(row)


class CorrectionStore(CorrectionReader):
    """The corrections in one table; safe to share between threads and instances.

    Every method raises `StoreUnavailable` where storage does not answer; all of
    them can be repeated after a crash at any point.
    """

    def __init__(self, table: Table, pseudonyms: Pseudonyms) -> None:
        super().__init__(table)
        self._pseudonyms = pseudonyms

    def add(self, message: CorrectionMessage, *, now: datetime, queued_at: datetime | None = None) -> bool:
        """Store a correction; False when it is there already, or its user was erased since it was made."""
        user = self._pseudonyms.known_as(message.user) if message.user else None
        made_at = min(message.created_at, queued_at or now)
        if user is not None and self._is_erased(user, made_at):
            # What comes late leaves a tombstone, as what was there when the user was erased.
            record = _record(message, user, now)
            self._table.change([("create", _row(_emptied(record, now)))])
            return False
        record = _record(message, user, now)
        changes: list[Change] = [("create", _row(record)), ("create", _waiting(record))]
        if user is not None:
            changes.append(("create", _key(record.id, f"u|{user}|{record.id}")))
        added = self._table.change(changes)
        # After the insert: an erasure that did not see these rows has left its tombstone by now.
        if user is not None and self._is_erased(user, made_at):
            self._empty(record.id, now)
            return False
        return added

    def count_pending(self, stop_at: int | None = None) -> int:
        """Return how many errors no model has learned from, judged or not, counting up to `stop_at`."""
        return sum(1 for _ in islice(self._pending_keys(), stop_at))

    def voices(self) -> Iterator[Voice]:
        """Yield errors and confirmations as judging takes them: what waits, and what is learned."""
        for shard in SHARDS:
            for row in self._table.list(shard, "l|", "s|", select=_VOICE):
                yield _voice(row)

    def learn(self, id: str, cycle: int) -> bool:
        """Note that a promoted model has learned from a correction; False if erased or learned before.

        Raises:
            CorrectionNotFound: there is none with this id.
        """
        for _ in range(_TRIES):
            row = self._table.read(_shard(id), f"c|{id}")
            if row is None:
                raise CorrectionNotFound(id)
            before = _correction(row)
            if before.erased_at is not None or before.cycle is not None:
                return False
            changes: list[Change] = [
                ("replace", _row(msgspec.structs.replace(before, cycle=cycle))),
                ("delete", _key(id, _waiting(before)["RowKey"])),
                ("create", _heard(before, "l")),
            ]
            if self._table.change(changes, etag=row["etag"]):
                return True
        return False

    def unlearn(self, id: str, cycle: int) -> bool:
        """Have a correction wait again, as before `cycle` learned from it; False if it did not, or is erased.

        For a cycle whose model was taken out of service again.

        Raises:
            CorrectionNotFound: there is none with this id.
        """
        for _ in range(_TRIES):
            row = self._table.read(_shard(id), f"c|{id}")
            if row is None:
                raise CorrectionNotFound(id)
            before = _correction(row)
            if before.erased_at is not None or before.cycle != cycle:
                return False
            waiting = msgspec.structs.replace(before, cycle=None)
            changes: list[Change] = [("replace", _row(waiting)), ("create", _waiting(waiting))]
            if self._table.change([*changes, *self._unheard(id)], etag=row["etag"]):
                return True
        return False

    def of_user(self, user: str) -> Iterator[Correction]:
        """Yield what is stored of a pseudonym."""
        for id in self._ids_of(user):
            row = self._table.read(_shard(id), f"c|{id}")
            if row is not None and row.get("user") == user:
                yield _correction(row)

    def erase_user(self, user: str, *, now: datetime) -> list[Correction]:
        """Empty every correction of a pseudonym and keep later deliveries out; return them as they were.

        Repeat it after a failure: what was emptied is not found again.
        """
        tombstone = {"PartitionKey": _USERS, "RowKey": f"x|{user}", "erased_at": iso(now)}
        if not self._table.change([("create", tombstone)]):
            self._table.change([("replace", tombstone)])
        erased = []
        for id in self._ids_of(user):
            emptied = self._empty(id, now)
            if emptied is not None:
                erased.append(emptied)
        return erased

    def erase_before(self, limit: datetime, *, now: datetime) -> int:
        """Empty what was stored before `limit`; return how many."""
        oldest = iso(limit)
        count = 0
        for correction in self.all():
            if correction.erased_at is None and correction.stored_at < oldest:
                count += self._empty(correction.id, now) is not None
        return count

    def _ids_of(self, user: str) -> Iterator[str]:
        for shard in SHARDS:
            for row in list(self._table.list(shard, f"u|{user}|", f"u|{user}}}", select=["RowKey"])):
                yield row["RowKey"].rpartition("|")[2]

    def _is_erased(self, user: str, made_at: datetime) -> bool:
        row = self._table.read(_USERS, f"x|{user}")
        return row is not None and iso(made_at) <= row["erased_at"]

    def _empty(self, id: str, now: datetime) -> Correction | None:
        """Replace a record by its tombstone, with all that belongs to it; None when that is done already."""
        for _ in range(_TRIES):
            row = self._table.read(_shard(id), f"c|{id}")
            if row is None:
                return None
            before = _correction(row)
            if before.erased_at is not None:
                return None
            changes: list[Change] = [("replace", _row(_emptied(before, now)))]
            if before.cycle is None:
                changes.append(("delete", _key(id, _waiting(before)["RowKey"])))
            else:
                changes += self._unheard(id)
            if before.user is not None:
                changes.append(("delete", _key(id, f"u|{before.user}|{id}")))
            if self._table.change(changes, etag=row["etag"]):
                return before
        logger.error("correction %s could not be emptied: it keeps changing", id)
        return None

    def _unheard(self, id: str) -> list[Change]:
        """Return what removes the voice of a learned correction; it comes and goes with the record's ETag."""
        there = self._table.read(_shard(id), f"l|{id}") is not None
        return [("delete", _key(id, f"l|{id}"))] if there else []

    def _pending_keys(self) -> Iterator[str]:
        for shard in SHARDS:
            for row in self._table.list(shard, "p|", "p}", select=["RowKey"]):
                yield row["RowKey"]


def _shard(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[0]


def _key(id: str, key: str) -> Row:
    return {"PartitionKey": _shard(id), "RowKey": key}


def _record(message: CorrectionMessage, user: str | None, now: datetime) -> Correction:
    return Correction(
        id=message.id,
        text=masked_text(message.text),
        predicted=message.predicted,
        corrected=message.corrected,
        model_version=message.model_version,
        source=message.source,
        user=user,
        created_at=iso(message.created_at),
        stored_at=iso(now),
        confidence=message.confidence,
        comment=masked_comment(message.comment),
    )


def _emptied(record: Correction, now: datetime) -> Correction:
    return msgspec.structs.replace(record, text="", user=None, comment=None, erased_at=iso(now))


def _row(record: Correction) -> Row:
    members: dict[str, Any] = msgspec.structs.asdict(record)
    return _key(record.id, f"c|{record.id}") | {
        name: value for name, value in members.items() if value is not None
    }


def _waiting(record: Correction) -> Row:
    return _heard(record, "p" if record.is_error else "r")


def _heard(record: Correction, kind: Literal["p", "r", "l"]) -> Row:
    voice = {
        "text_key": text_key(record.text),
        "predicted": record.predicted,
        "corrected": record.corrected,
        "user": record.user,
        "created_at": record.created_at,
        "confidence": record.confidence,
    }
    return _key(record.id, f"{kind}|{record.id}") | {
        name: value for name, value in voice.items() if value is not None
    }


def _correction(row: Row) -> Correction:
    return msgspec.convert({"user": None} | row, Correction)


def _voice(row: Row) -> Voice:
    known = {"id": row["RowKey"][2:], "learned": row["RowKey"].startswith("l|")}
    return msgspec.convert({"user": None} | row | known, Voice)
