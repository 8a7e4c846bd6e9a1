"""When a cycle starts: a pure function of the state, the counts, the policy and the time."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from sentiment.feedback.messages import iso
from sentiment.retrain.records import State, TickCounts
from sentiment.settings import RetrainPolicy

#: The longest wait after failures and refusals, unless the cooldown itself is longer.
LONGEST_BACKOFF = timedelta(days=7)

#: The clocks of two instances may differ by this much; a time further ahead is no time that has been.
CLOCK_SKEW = timedelta(minutes=5)


class Decision(Struct, frozen=True, kw_only=True):
    """Whether to start, why, and what is missing where it is not to start."""

    start: bool
    reason: str
    #: Not before this time, whatever is counted; None: nothing is waited for.
    not_before: datetime | None = None
    #: How many more accepted errors start a cycle at once (once the wait is over).
    missing: int = 0


def decide(state: State, counts: TickCounts, policy: RetrainPolicy, now: datetime) -> Decision:
    """Return whether a cycle is to start now.

    It starts with `policy.threshold` accepted errors, or with `policy.min_errors`
    when the oldest is older than `policy.max_age_days`: never while one is running,
    within the cooldown of the last start, or within the backoff after a failure
    (`backoff`); after a refusal, or a promotion that was rolled back (`rolled_back`),
    only with an error that was not in that cycle.
    A time in the state that lies ahead of `now` counts as `now` (`on_this_clock`).
    """
    if state.phase == "running":
        return Decision(start=False, reason=f"cycle {state.cycle} is running")
    missing = max(0, policy.threshold - counts.errors)
    enough = _enough(counts, policy, now)
    if enough is None:
        return Decision(
            start=False,
            reason=_too_few(counts, policy, now),
            not_before=_waits(on_this_clock(state, now), policy)[0],
            missing=missing,
        )
    not_before, why = _waits(on_this_clock(state, now), policy)
    if not_before is not None and now < not_before:
        reason = f"{enough}, but not before {not_before.isoformat(timespec='seconds')}: {why}"
        return Decision(start=False, reason=reason, not_before=not_before, missing=missing)
    if state.refused and not counts.new:
        what = "rolled back" if state.phase == "settled" else "refused"
        reason = f"{enough}, but none that {what} cycle {state.cycle} did not know"
        return Decision(start=False, reason=reason, missing=max(1, missing))
    return Decision(start=True, reason=enough)


def backoff(failures: int, policy: RetrainPolicy) -> timedelta:
    """Return the wait after so many failures in a row: the cooldown, doubled each time, up to a week."""
    if not failures:
        return timedelta()
    # In numbers, and bounded: after enough failures it would be too long to be a time.
    hours = policy.cooldown_hours * 2.0 ** min(failures - 1, 30)
    longest = max(LONGEST_BACKOFF / timedelta(hours=1), policy.cooldown_hours)
    return timedelta(hours=min(hours, longest))


def rolled_back(state: State, at: str) -> State:
    """Return what a settled state counts as once its version was taken out of service: one more failure."""
    return replace(state, refused=True, failures=state.failures_before + 1, ended_at=at)


def on_this_clock(state: State, now: datetime) -> State:
    """Return the state with its times not ahead of `now`, where the clock has gone back since.

    Otherwise a start that was written by a clock a year ahead would hold up the
    next one for a year.
    """
    ahead = iso(now + CLOCK_SKEW)
    times = {"started_at": state.started_at, "ended_at": state.ended_at, "published_at": state.published_at}
    return replace(state, **{name: iso(now) for name, time in times.items() if time and time > ahead})


def _enough(counts: TickCounts, policy: RetrainPolicy, now: datetime) -> str | None:
    """Return in words why there is enough to learn from, None where there is not."""
    if counts.errors >= policy.threshold:
        return f"{counts.errors} accepted errors of {policy.threshold}"
    if counts.errors >= policy.min_errors and _oldest_for(counts, now) > policy.max_age_days:
        return (
            f"{counts.errors} accepted errors, at least {policy.min_errors}, and the oldest "
            f"is older than {policy.max_age_days:g} days"
        )
    return None


def _too_few(counts: TickCounts, policy: RetrainPolicy, now: datetime) -> str:
    said = f"{counts.errors} accepted errors of {policy.threshold}"
    if counts.errors and _oldest_for(counts, now) > policy.max_age_days:
        return (
            f"{said}; the oldest is older than {policy.max_age_days:g} days, "
            f"but then {policy.min_errors} are needed"
        )
    if counts.errors >= policy.min_errors:
        return f"{said}; the oldest is {_oldest_for(counts, now):.1f} of {policy.max_age_days:g} days old"
    return said


def _oldest_for(counts: TickCounts, now: datetime) -> float:
    """Return the age in days of the oldest accepted error."""
    return (now - datetime.fromisoformat(counts.oldest)) / timedelta(days=1) if counts.oldest else 0.0


def _waits(state: State, policy: RetrainPolicy) -> tuple[datetime | None, str]:
    """Return before when no cycle may start, and why."""
    waits: list[tuple[datetime, str]] = []
    if state.started_at:
        until = datetime.fromisoformat(state.started_at) + timedelta(hours=policy.cooldown_hours)
        waits.append((until, f"cycle {state.cycle} started less than {policy.cooldown_hours:g} hours ago"))
    if state.ended_at and state.failures:
        wait = backoff(state.failures, policy)
        what = "failed"
        if state.refused:
            what = "was rolled back" if state.phase == "settled" else "was refused"
        times = f", {state.failures} in a row have" if state.failures > 1 else ""
        said = f"cycle {state.cycle} {what}{times}, which is followed by a wait of {_hours(wait)} hours"
        waits.append((datetime.fromisoformat(state.ended_at) + wait, said))
    return max(waits) if waits else (None, "")


def _hours(wait: timedelta) -> str:
    return f"{wait / timedelta(hours=1):g}"
