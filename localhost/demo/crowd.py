"""The users: they send tweets, correct the answers that are wrong, and confirm some that are right."""

from __future__ import annotations

import random
from collections.abc import Sequence

from msgspec import Struct

from localhost.demo.client import Client
from localhost.demo.material import Tweet

#: So many people take turns: no one of them has more than their share.
USERS = 50
#: Of what was said, so many are asked for one by one.
SOME = 10


class Feedback(Struct, frozen=True):
    """What the users did: how many tweets they sent, and the ids of what they said."""

    sent: int
    corrections: tuple[str, ...]
    confirmations: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return (*self.corrections, *self.confirmations)

    @property
    def some(self) -> tuple[str, ...]:
        """A few of `ids`, from the first to the last."""
        return self.ids[:: max(1, len(self.ids) // SOME)]


def take_part(
    client: Client, stream: Sequence[Tweet], *, corrections: int, confirm: float, seed: int = 0
) -> Feedback:
    """Send tweets until so many were corrected, or none is left; return what was said of the answers.

    `confirm` is the share of the right answers that somebody confirms.

    Raises:
        LocalhostError: a request fails.
    """
    chosen = random.Random(seed)
    corrected: list[str] = []
    confirmed: list[str] = []
    sent = 0
    for tweet in stream:
        if len(corrected) == corrections:
            break
        answer = client.predict(tweet.text)
        sent += 1
        right = answer["label"] == tweet.label
        if right and chosen.random() >= confirm:
            continue
        said = client.post(
            "/api/feedback",
            {
                "prediction": answer["prediction"],
                "text": tweet.text,
                "label": tweet.label,
                "user": f"user {chosen.randrange(USERS)}",
            },
        )
        (confirmed if right else corrected).append(said["id"])
    return Feedback(sent, tuple(corrected), tuple(confirmed))
