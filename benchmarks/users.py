"""Simulated users: they see answers, correct what is wrong and confirm some of what is right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sentiment.records import LABELS, Label, Voice

Integers = npt.NDArray[np.int64]

#: So many people take turns; who sees a tweet is drawn from its position.
USERS = 200


class Users(Struct, frozen=True):
    """How the users behave: shares from 0 to 1."""

    #: Of the right answers, how many somebody confirms.
    confirming: float = 0.0
    #: Of the users, how many say another label than the true one, always.
    hostile: float = 0.0
    seed: int = 1

    def judge(self, row: int, label: int, predicted: int) -> int | None:
        """Return the label that somebody gives to an answer, as a position in `LABELS`; None: nobody does."""
        if label == predicted and self._draw("confirms", row) >= self.confirming:
            return None
        if self._draw("hostile", self._user(row)) < self.hostile:
            others = [other for other in range(len(LABELS)) if other != label]
            return others[int(self._draw("flip", row) * len(others))]
        return label

    def name(self, row: int) -> str:
        """Return the pseudonym of whoever sees a tweet."""
        return f"u_{self._user(row):032}"

    def _user(self, row: int) -> int:
        return int(self._draw("user", row) * USERS)

    def _draw(self, what: str, number: int) -> float:
        digest = hashlib.sha256(f"{self.seed}|{what}|{number}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


class Said(Struct, frozen=True):
    """One piece of feedback: which tweet, what the service had said, what somebody says, how sure it was."""

    row: int
    predicted: int
    corrected: int
    confidence: float
    user: str

    @property
    def is_error(self) -> bool:
        """Whether it says that the service was wrong."""
        return self.predicted != self.corrected

    def voice(self, text_key: str) -> Voice:
        """Return it as the rules of acceptance take it."""
        return Voice(
            id=f"row-{self.row:06}",
            text_key=text_key,
            predicted=LABELS[self.predicted],
            corrected=LABELS[self.corrected],
            user=self.user,
            created_at=f"2025-01-01T{self.row:012}",
            confidence=self.confidence,
        )


def hear(users: Users, labels: Integers, probabilities: npt.NDArray[np.float32], first: int) -> list[Said]:
    """Return what users say of the answers to the tweets from row `first` on."""
    said = []
    for offset, label in enumerate(labels):
        predicted = int(probabilities[offset].argmax())
        given = users.judge(first + offset, int(label), predicted)
        if given is not None:
            confidence = float(probabilities[offset].max())
            said.append(Said(first + offset, predicted, given, confidence, users.name(first + offset)))
    return said


def count_predictions(predicted: Sequence[int] | Integers) -> dict[Label, int]:
    """Return how often each class was predicted."""
    counts = np.bincount(np.asarray(predicted, dtype=np.int64), minlength=len(LABELS))
    return {label: int(count) for label, count in zip(LABELS, counts, strict=True)}
