"""A sample of what was asked and answered, kept only where SAMPLE_PREDICTIONS says so.

    partition <first digit of the text's key>
      <text key>   the text, masked as corrections are, and what was predicted, last

A model that learns from its errors alone forgets what it was right about: these
are the predictions that nobody contradicted. They have no user.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from sentiment.background import Background
from sentiment.feedback.messages import iso, masked_text, text_key
from sentiment.feedback.tables import Row, Table
from sentiment.records import Label, Sample

logger = logging.getLogger(__name__)

#: Predictions that wait to be sampled; what finds no place is not sampled.
CAPACITY = 1_000
_EVERY_SECONDS = 1.0

_BITS = 32
_LARGEST_TRANSACTION = 100


class Samples:
    """The samples in one table, and predictions on their way there; safe to share between threads.

    `share`, from 0 to 1, is the part of all texts that are kept. Which ones follows
    from their normalised text: the same text asked again is the same row. `offer`
    never waits for storage; the other methods raise `StoreUnavailable` where it
    does not answer.
    """

    def __init__(self, table: Callable[[], Table], share: float, *, every: float = _EVERY_SECONDS) -> None:
        self._table = table
        self._limit = share * (1 << _BITS)
        self._waiting: deque[tuple[str, Label, float, str, datetime]] = deque(maxlen=CAPACITY)
        self._flushing = threading.Lock()
        self._background = Background("prediction-samples", self.flush, every=every)

    @property
    def on(self) -> bool:
        """Whether anything is kept at all."""
        return self._limit > 0

    def offer(self, text: str, predicted: Label, confidence: float, model_version: str) -> None:
        """Keep this prediction if it belongs to the sample; does nothing where the share is 0."""
        if self._limit > 0:
            self._waiting.append((text, predicted, confidence, model_version, datetime.now(UTC)))
            self._background.begin()

    def flush(self) -> None:
        """Store what was offered; what cannot be stored now is lost."""
        with self._flushing:
            rows: dict[str, dict[str, Row]] = defaultdict(dict)
            while self._waiting:
                text, predicted, confidence, version, at = self._waiting.popleft()
                key = text_key(text)
                if int(key[: _BITS // 4], 16) < self._limit:
                    sample = Sample(
                        text=masked_text(text),
                        text_key=key,
                        predicted=predicted,
                        confidence=confidence,
                        model_version=version,
                        at=iso(at),
                    )
                    rows[key[0]][key] = _key(key) | msgspec.structs.asdict(sample)
            for of_shard in rows.values():
                changes = list(of_shard.values())
                for start in range(0, len(changes), _LARGEST_TRANSACTION):
                    self._table().change(
                        [("put", row) for row in changes[start : start + _LARGEST_TRANSACTION]]
                    )

    def all(self) -> Iterator[Sample]:
        """Yield every sample."""
        for row in self._table().list(None):
            yield msgspec.convert(row, Sample)

    def remove(self, text_keys: Iterable[str]) -> int:
        """Remove the samples of these texts; return how many there were.

        What this process still had to store is stored first; another instance may
        be a second behind.
        """
        self.flush()
        table = self._table()
        return sum(table.change([("delete", _key(key))]) for key in sorted(set(text_keys)))

    def erase_before(self, limit: datetime) -> int:
        """Remove what was sampled before `limit`; return how many."""
        oldest = iso(limit)
        return self.remove([sample.text_key for sample in list(self.all()) if sample.at < oldest])

    def close(self) -> None:
        """Store what is left and stop; takes a few seconds at most."""
        self._background.close()


def _key(key: str) -> Row:
    return {"PartitionKey": key[0], "RowKey": key}
