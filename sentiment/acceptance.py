"""Which corrections a model may learn from: pure functions of what was said by whom.

Users' names are what callers say they are, so none of this keeps out somebody who
holds a key and means harm; it keeps one mistaken or eager person from bending the
model. Corrections without a user are one voice, and never make a majority alone.

What a model has learned from goes on being heard: otherwise whoever was outvoted
would stand alone once the others are learned, and win the next cycle. To change
what was learned of a text takes the same majority, of all that was ever said of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sentiment.records import Label, Voice

#: A disagreement is settled by a label that two thirds of at least three users give.
MAJORITY = (2, 3)
FEWEST_USERS = 3

#: Above this probability of what the model said, one voice is not enough to contradict it.
NEAR_CERTAIN = 0.98

_NOBODY = ""


class Judgement(Struct, frozen=True, kw_only=True):
    """What is to become of one correction."""

    state: Literal["accepted", "held"]
    why: str = ""
    #: Whether it is an error that a cycle learns from: confirmations and duplicates are not.
    counts: bool = False


def judge(voices: Iterable[Voice], *, user_cap: float) -> dict[str, Judgement]:
    """Return the judgement on each correction that waits, by id; the order of `voices` makes no difference.

    Learned voices have their vote, second a contradiction of a near-certain
    prediction, and supersede what their user said before; they are not judged again.
    `user_cap` is the largest share of one named user in what counts (each may
    always have one); what came without a user is not capped.
    """
    by_text: dict[str, list[Voice]] = defaultdict(list)
    for voice in voices:
        by_text[voice.text_key].append(voice)
    judgements: dict[str, Judgement] = {}
    errors: list[Voice] = []
    for same_text in by_text.values():
        if all(voice.learned for voice in same_text):
            continue
        of_text, representative = _judge_text(sorted(same_text, key=_age))
        judgements |= of_text
        if representative is not None:
            errors.append(representative)
    within = within_cap(errors, user_cap)
    over = Judgement(state="held", why=f"user-cap: one user may give at most {user_cap:.0%} of a cycle")
    for error in errors:
        judgements[error.id] = Judgement(state="accepted", counts=True) if error.id in within else over
    return judgements


def _judge_text(voices: Sequence[Voice]) -> tuple[dict[str, Judgement], Voice | None]:
    """Judge the corrections of one text, oldest first; return the error that stands for them, if one does."""
    judgements: dict[str, Judgement] = {}
    standing = _latest(voices)
    waiting = [voice for voice in voices if not voice.learned]
    for voice in waiting:
        if voice.id not in standing:
            judgements[voice.id] = Judgement(state="held", why="superseded: the same user changed their mind")
    heard = [voice for voice in voices if voice.id in standing]
    waiting = [voice for voice in waiting if voice.id in standing]
    winner = _agreed(heard)
    if winner is None:
        why = f"conflict: no label has two thirds of at least {FEWEST_USERS} users"
        return judgements | {voice.id: Judgement(state="held", why=why) for voice in waiting}, None
    representative: Voice | None = None
    supporters = {voice.user or _NOBODY for voice in heard if voice.corrected == winner}
    for voice in waiting:
        if voice.corrected != winner:
            judgements[voice.id] = Judgement(state="held", why=f"outvoted: others agree on {winner}")
        elif voice.predicted == voice.corrected:
            judgements[voice.id] = Judgement(state="accepted")
        elif voice.confidence is not None and voice.confidence > NEAR_CERTAIN and len(supporters) < 2:
            why = f"near-certain: the model was over {NEAR_CERTAIN:.0%} sure, a second user has to agree"
            judgements[voice.id] = Judgement(state="held", why=why)
        elif representative is None:
            representative = voice
        else:
            judgements[voice.id] = Judgement(state="accepted", why=f"duplicate of {representative.id}")
    return judgements, representative


def within_cap(errors: Sequence[Voice], user_cap: float) -> set[str]:
    """Return the ids of the largest set of `errors`, oldest first, in which no user has more than the cap."""
    named = Counter(error.user for error in errors if error.user)
    unnamed = sum(1 for error in errors if not error.user)
    # From above, the first size that upholds itself is the largest.
    size, allowed = len(errors), len(errors)
    while True:
        allowed = max(1, int(user_cap * size + 1e-9))
        kept = unnamed + sum(min(count, allowed) for count in named.values())
        if kept == size:
            break
        size = kept
    taken: Counter[str] = Counter()
    within = set()
    for error in sorted(errors, key=_age):
        if error.user:
            taken[error.user] += 1
            if taken[error.user] > allowed:
                continue
        within.add(error.id)
    return within


def _latest(voices: Sequence[Voice]) -> set[str]:
    """Return the ids that stand: of one user, or one prediction, those with the latest label."""
    last: dict[tuple[str, str], Label] = {}
    for voice in voices:
        last[_mind(voice)] = voice.corrected
    return {voice.id for voice in voices if last[_mind(voice)] == voice.corrected}


def _mind(voice: Voice) -> tuple[str, str]:
    if voice.user:
        return "user", voice.user
    # Ids minted here begin with their prediction: fb-<prediction>-<label>-<proof>.
    parts = voice.id.split("-")
    return "prediction", parts[1] if parts[0] == "fb" and len(parts) == 4 else voice.id


def _agreed(voices: Sequence[Voice]) -> Label | None:
    """Return the label that is not disputed, or wins the dispute; None when none does."""
    labels = {voice.corrected for voice in voices}
    if len(labels) == 1:
        return labels.pop()
    said: Mapping[str, Label] = {voice.user: voice.corrected for voice in voices if voice.user}
    votes = Counter(said.values())
    unnamed = {voice.corrected for voice in voices if not voice.user}
    # Without names nobody can tell how many they are: one voice if they agree, none if they do not.
    if len(unnamed) == 1:
        votes[unnamed.pop()] += 1
    total = votes.total()
    wanted, of = MAJORITY
    for label, count in votes.items():
        if total >= FEWEST_USERS and count * of >= total * wanted:
            return label
    return None


def _age(voice: Voice) -> tuple[str, str]:
    return voice.created_at, voice.id
