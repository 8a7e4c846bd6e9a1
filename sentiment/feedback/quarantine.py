"""The quarantine: messages that can never be stored, kept for people to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from sentiment.errors import InvalidMessage
from sentiment.feedback.messages import Pseudonyms, iso, masked_body
from sentiment.feedback.tables import Row, Table
from sentiment.text import mask_identities

_PARTITION = "quarantine"
# Table Storage takes 64 KiB of UTF-16 for one property: 16,000 characters fit whatever they are.
_CHUNK = 16_000
# A queue message has at most 64 KiB.
_LARGEST_BODY = 65_536


class Quarantined(Struct, frozen=True, kw_only=True):
    """A message that was refused, with the reason, and its body without names and links."""

    id: str
    reason: str
    detail: str
    at: str
    user: str | None
    body: str


class Quarantine:
    """The refused messages in one table.

    Every method raises `StoreUnavailable` where storage does not answer.
    """

    def __init__(self, table: Table, pseudonyms: Pseudonyms) -> None:
        self._table = table
        self._pseudonyms = pseudonyms

    def add(self, body: bytes, refusal: InvalidMessage, *, now: datetime) -> str:
        """Keep a message and return the id it is kept under; the same body is kept once."""
        id = hashlib.sha256(body).hexdigest()[:32]
        text, user = masked_body(body[:_LARGEST_BODY].decode("utf-8", "backslashreplace"), self._pseudonyms)
        row: Row = {
            "PartitionKey": _PARTITION,
            "RowKey": id,
            "reason": refusal.reason,
            # It may quote the message.
            "detail": mask_identities(str(refusal))[:1000],
            "at": iso(now),
            "chunks": -(-len(text) // _CHUNK),
        }
        if user is not None:
            row["user"] = user
        for number, start in enumerate(range(0, len(text), _CHUNK)):
            row[f"body{number}"] = text[start : start + _CHUNK]
        self._table.change([("create", row)])
        return id

    def all(self) -> Iterator[Quarantined]:
        """Yield what is kept."""
        for row in self._table.list(_PARTITION):
            yield Quarantined(
                id=row["RowKey"],
                reason=row["reason"],
                detail=row["detail"],
                at=row["at"],
                user=row.get("user"),
                body="".join(row[f"body{number}"] for number in range(row["chunks"])),
            )

    def remove(self, id: str) -> bool:
        """Forget a message; False when it is not there."""
        return self._table.change([("delete", {"PartitionKey": _PARTITION, "RowKey": id})])

    def erase_user(self, user: str) -> int:
        """Forget every message of a pseudonym; return how many."""
        return sum(self.remove(kept.id) for kept in list(self.all()) if kept.user == user)

    def erase_before(self, limit: datetime) -> int:
        """Forget what was refused before `limit`; return how many."""
        oldest = iso(limit)
        return sum(self.remove(kept.id) for kept in list(self.all()) if kept.at < oldest)
