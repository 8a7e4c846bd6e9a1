"""What waits to be learned, sorted out: a pure function of what was said by whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set

from msgspec import Struct

from sentiment.acceptance import judge
from sentiment.records import Voice
from sentiment.retrain.records import TickCounts


class Pending(Struct, frozen=True, kw_only=True):
    """What a cycle that starts now would learn from; ids are sorted."""

    errors: tuple[str, ...]
    confirmations: tuple[str, ...]
    #: Accepted, and said already by one of `errors`.
    duplicates: tuple[str, ...]
    held: int
    #: When the oldest of `errors` was made.
    oldest: str | None
    #: predicted -> corrected -> how many of `errors`.
    corrected: dict[str, dict[str, int]]

    def counts(self, known: Set[str] = frozenset()) -> TickCounts:
        """Return how many there are; new are those of `errors` that are not in `known`."""
        return TickCounts(
            errors=len(self.errors),
            oldest=self.oldest,
            confirmations=len(self.confirmations),
            duplicates=len(self.duplicates),
            held=self.held,
            new=len(set(self.errors) - known),
        )


def sort_out(voices: Iterable[Voice], *, user_cap: float) -> Pending:
    """Return what there is to learn from; the order of `voices` makes no difference."""
    heard = sorted(voices, key=lambda voice: voice.id)
    judgements = judge(heard, user_cap=user_cap)
    waiting = [voice for voice in heard if not voice.learned]
    accepted = [voice for voice in waiting if judgements[voice.id].state == "accepted"]
    errors = [voice for voice in accepted if judgements[voice.id].counts]
    texts = {voice.text_key for voice in errors}
    corrected: dict[str, Counter[str]] = defaultdict(Counter)
    for voice in errors:
        corrected[voice.predicted][voice.corrected] += 1
    return Pending(
        errors=tuple(voice.id for voice in errors),
        confirmations=tuple(voice.id for voice in accepted if voice.predicted == voice.corrected),
        # Of a text whose error is over its user's cap nothing is learned yet, so these wait too.
        duplicates=tuple(
            voice.id
            for voice in accepted
            if voice.predicted != voice.corrected
            and not judgements[voice.id].counts
            and voice.text_key in texts
        ),
        held=len(waiting) - len(accepted),
        oldest=min((voice.created_at for voice in errors), default=None),
        corrected={predicted: dict(counts) for predicted, counts in corrected.items()},
    )
