"""The watch after a promotion: is the new champion corrected more often than the one before?

Errors that people correct, per prediction made, in the first WATCH_HOURS of a
champion and in as long a time of the one before. A significant rise takes the
version out of service for good.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from sentiment.corrections import judged
from sentiment.errors import ModelNotFound
from sentiment.feedback.messages import text_key
from sentiment.records import Champion
from sentiment.retrain.refusals import cycle_of, finish, undo
from sentiment.services import Services

#: What is younger is left out: predictions are counted with a delay of seconds, corrections are not.
SETTLING = timedelta(seconds=15)

#: Looks that the level is shared between: one every quarter of an hour for a day.
_FEWEST_LOOKS = 96
_LOOKS_PER_HOUR = 4


class Window(Struct, frozen=True):
    """What one version answered in a time, and how many different texts of it were corrected."""

    predictions: int
    corrections: int

    @property
    def rate(self) -> float:
        return self.corrections / self.predictions if self.predictions else 0.0


class WatchPolicy(Struct, frozen=True, kw_only=True):
    """What it takes to roll back.

    `level` is the probability of rolling back, in the whole watch, a version that
    is corrected no more often than the one before. It is shared between `looks`
    (Bonferroni). That holds however the looks are spread, and for more of them
    too, as looks close together see almost the same numbers; a simulation in the
    tests looks after every single prediction.
    """

    level: float = 0.01
    looks: int = _FEWEST_LOOKS
    #: Below these nothing is concluded.
    fewest_predictions: int = 50
    fewest_corrections: int = 5
    #: With very many predictions a rise may be significant and still not worth an alarm.
    smallest_rise: float = 1.2

    @property
    def level_of_a_look(self) -> float:
        return self.level / self.looks


class Judgement(Struct, frozen=True):
    """What one look says, and the p-value it says it by."""

    decision: Literal["keep", "roll back", "undecided"]
    p: float


def policy_for(hours: float) -> WatchPolicy:
    """Return the policy of a watch of so many hours, which a tick looks at every quarter of an hour."""
    return WatchPolicy(looks=max(_FEWEST_LOOKS, math.ceil(hours * _LOOKS_PER_HOUR)))


def judge_watch(before: Window, after: Window, policy: WatchPolicy) -> Judgement:
    """Judge by the corrections per prediction before and after a promotion."""
    p = p_value(before, after)
    if min(before.predictions, after.predictions) < policy.fewest_predictions:
        return Judgement("undecided", p)
    risen = (
        after.corrections >= policy.fewest_corrections and after.rate >= policy.smallest_rise * before.rate
    )
    return Judgement("roll back" if risen and p < policy.level_of_a_look else "keep", p)


def p_value(before: Window, after: Window) -> float:
    """Return how probable so many corrections after are if the rate has not risen.

    The exact conditional test of two Poisson rates (Przyborowski and Wilenski,
    1940, "Homogeneity of results in testing samples from Poisson series",
    Biometrika 31): given all corrections, those after are binomial, with the share
    of the predictions after as their probability. One-sided.
    """
    total = before.corrections + after.corrections
    predictions = before.predictions + after.predictions
    if not after.corrections or not before.predictions or not after.predictions:
        return 1.0
    share = after.predictions / predictions
    return _binomial_tail(after.corrections, total, share)


def _binomial_tail(least: int, trials: int, probability: float) -> float:
    """Return the probability of `least` or more successes, 0 < `least` <= `trials`."""
    # Summed away from the most probable number, where the terms only shrink.
    upwards = least > trials * probability
    successes = least if upwards else least - 1
    term = tail = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(probability)
        + (trials - successes) * math.log1p(-probability)
    )
    odds = probability / (1 - probability)
    while term > tail * 1e-17 and (successes < trials if upwards else successes > 0):
        if upwards:
            term *= odds * (trials - successes) / (successes + 1)
            successes += 1
        else:
            term *= successes / (odds * (trials - successes + 1))
            successes -= 1
        tail += term
    return min(1.0, tail if upwards else 1.0 - tail)


def watch(services: Services, now: datetime) -> str | None:
    """Look after the last promotion, and undo it if it has to be; say what was found, None for nothing.

    Only promotions that came out of a cycle are watched, for WATCH_HOURS. What an
    earlier watch, or `models rollback --refuse`, left unfinished is finished.

    Raises:
        StoreUnavailable, ModelConflict, DamagedRecord: the next tick looks again.
    """
    said = [
        f"{undone.version} was taken out of service: {undone.champion} serves, "
        + (undone.waits or f"{undone.given_back} corrections wait again")
        for undone in finish(services)
    ]
    try:
        found = services.registry.champion()
    except ModelNotFound:
        return "; ".join(said) or None
    champion, hours = found.champion, services.settings.watch_hours
    elapsed = now - _time(champion.promoted_at)
    if hours and _is_watched(champion) and elapsed < timedelta(hours=hours):
        policy = policy_for(hours)
        before, after = _measure(services, champion, now)
        judgement = judge_watch(before, after, policy)
        numbers = (
            f"{champion.version} was corrected {after.corrections} times in {after.predictions} predictions, "
            f"{champion.previous} before it {before.corrections} times in {before.predictions} "
            f"(p = {judgement.p:.2g}, a roll-back takes less than {policy.level_of_a_look:.2g})"
        )
        said.append(f"{judgement.decision}: {numbers}")
        if judgement.decision == "roll back":
            undone = undo(services, found, by="watch", reason=numbers, now=now)
            said.append(
                f"{undone.champion} serves again, "
                + (undone.waits or f"{undone.given_back} corrections wait again")
            )
    return "; ".join(said) or None


def _is_watched(champion: Champion) -> bool:
    return (
        champion.restores is None and champion.previous is not None and cycle_of(champion.reason) is not None
    )


def _measure(services: Services, champion: Champion, now: datetime) -> tuple[Window, Window]:
    """Return what the champion before was corrected, and what this one is.

    Corrections belong to the version that they name. Feedback comes late, so a new
    champion has had less of it: the comparison favours keeping it. Counts are of
    whole hours; the time before is as long as the one after, and begins with an hour.
    """
    promoted = _time(champion.promoted_at)
    began = promoted - max(timedelta(), now - promoted)
    began = began.replace(minute=0, second=0, microsecond=0)
    previous = str(champion.previous)
    counts = services.prediction_counts
    made = [
        sum(counts.counts(since, until, version).get(version, {}).values())
        for version, since, until in ((previous, began, promoted), (champion.version, promoted, now))
    ]
    # Without enough predictions nothing is concluded, and the corrections need not be read.
    texts: dict[str, set[str]] = {previous: set(), champion.version: set()}
    if min(made) >= policy_for(services.settings.watch_hours).fewest_predictions:
        windows = {previous: (began, promoted), champion.version: (promoted, now - SETTLING)}
        for each in judged(services):
            correction = each.correction
            since, until = windows.get(correction.model_version, (now, now))
            if not (correction.is_error and since <= _time(correction.created_at) < until):
                continue
            # What a cycle has learned from had been accepted; of one text it may be several.
            if each.counts or each.state == "learned":
                texts[correction.model_version].add(text_key(correction.text))
    return (
        Window(made[0], len(texts[previous])),
        Window(made[1], len(texts[champion.version])),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
