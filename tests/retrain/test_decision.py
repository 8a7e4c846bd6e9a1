"""When a cycle starts: a table of cases, and what holds of all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.feedback.messages import iso
from sentiment.retrain.decision import LONGEST_BACKOFF, backoff, decide, on_this_clock, rolled_back
from sentiment.retrain.records import State, TickCounts
from sentiment.settings import RetrainPolicy

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
POLICY = RetrainPolicy(
    threshold=200,
    max_age_days=7,
    min_errors=50,
    cooldown_hours=24,
    job_timeout_hours=24,
    deploy_timeout_hours=72,
)


def _ago(**times: float) -> str:
    return iso(NOW - timedelta(**times))


def _counts(errors: int, days: float = 1, new: int | None = None) -> TickCounts:
    return TickCounts(
        errors=errors,
        oldest=_ago(days=days) if errors else None,
        confirmations=0,
        duplicates=0,
        held=0,
        new=errors if new is None else new,
    )


def _ended(phase: str, hours_ago: float, **members: Any) -> State:
    times = {"started_at": _ago(hours=hours_ago + 1), "ended_at": _ago(hours=hours_ago)}
    return State(phase=phase, cycle=3, **times, **members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "counts", "start", "said"),
    [
        (State(), _counts(0), False, "0 accepted errors of 200"),
        (State(), _counts(199), False, "199 accepted errors of 200; the oldest is 1.0 of 7 days old"),
        (State(), _counts(200), True, "200 accepted errors of 200"),
        (State(), _counts(50, days=7.1), True, "at least 50, and the oldest is older than 7 days"),
        (State(), _counts(50, days=6.9), False, "the oldest is 6.9 of 7 days old"),
        (State(), _counts(49, days=30), False, "is older than 7 days, but then 50 are needed"),
        (State(phase="running", cycle=3), _counts(500), False, "cycle 3 is running"),
        (_ended("settled", 25), _counts(200), True, "200 accepted"),
        (_ended("settled", 22), _counts(200), False, "cycle 3 started less than 24 hours ago"),
        (
            _ended("failed", 23.5, failures=1),
            _counts(200),
            False,
            "cycle 3 failed, which is followed by a wait",
        ),
        (_ended("failed", 24.5, failures=1), _counts(200), True, "200 accepted"),
        (_ended("failed", 47, failures=2), _counts(200), False, "failed, 2 in a row have, which is followed"),
        (_ended("failed", 49, failures=2), _counts(200), True, "200 accepted"),
        (_ended("failed", 167, failures=9), _counts(200), False, "a wait of 168 hours"),
        (_ended("failed", 169, failures=9), _counts(200), True, "200 accepted"),
        (_ended("failed", 25, failures=1, refused=True), _counts(200, new=1), True, "200 accepted"),
        (
            _ended("failed", 25, failures=1, refused=True),
            _counts(200, new=0),
            False,
            "200 accepted errors of 200, but none that refused cycle 3 did not know",
        ),
        (_ended("failed", 25, failures=1), _counts(200, new=0), True, "200 accepted"),
        (
            rolled_back(_ended("settled", 80, failures_before=2), _ago(hours=90)),
            _counts(200),
            False,
            "cycle 3 was rolled back, 3 in a row have, which is followed by a wait of 96 hours",
        ),
        (rolled_back(_ended("settled", 80), _ago(hours=25)), _counts(200), True, "200 accepted"),
        (
            rolled_back(_ended("settled", 80), _ago(hours=25)),
            _counts(200, new=0),
            False,
            "200 accepted errors of 200, but none that rolled back cycle 3 did not know",
        ),
        (
            _ended("settled", -24 * 365),
            _counts(200),
            False,
            "not before 2025-06-02T12:00:00+00:00",
        ),
    ],
)
def test_the_table(state: State, counts: TickCounts, start: bool, said: str) -> None:
    """Each line: a state, what was counted, whether it starts, and in which words."""
    decision = decide(state, counts, POLICY, NOW)
    assert said in decision.reason
    assert decision.start == start


def test_what_is_missing_is_counted() -> None:
    """For whoever asks when the next cycle starts."""
    assert decide(State(), _counts(150), POLICY, NOW).missing == 50
    waiting = decide(_ended("settled", 5), _counts(150), POLICY, NOW)
    assert waiting.not_before == NOW + timedelta(hours=24 - 6)
    assert decide(_ended("failed", 25, refused=True), _counts(300, new=0), POLICY, NOW).missing == 1


@pytest.mark.parametrize(
    ("failures", "hours"), [(0, 0), (1, 24), (2, 48), (3, 96), (4, 168), (5, 168), (10**6, 168)]
)
def test_the_wait_doubles_up_to_a_week(failures: int, hours: float) -> None:
    """However often it has failed."""
    assert backoff(failures, POLICY) == timedelta(hours=hours)


_HOURS = st.floats(0.01, 876_000)
_POLICIES = st.builds(
    RetrainPolicy,
    threshold=st.integers(1, 1000),
    max_age_days=st.floats(0.01, 36_500),
    min_errors=st.integers(1, 1000),
    cooldown_hours=_HOURS,
    job_timeout_hours=_HOURS,
    deploy_timeout_hours=_HOURS,
)
_TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_STAMPS = _TIMES.map(iso)
_STATES = st.just(State()) | st.builds(
    State,
    phase=st.sampled_from(["running", "settled", "failed"]),
    cycle=st.integers(1, 99),
    started_at=_STAMPS,
    ended_at=st.none() | _STAMPS,
    failures=st.integers(0, 10**9),
    refused=st.booleans(),
)
_COUNTS = st.builds(
    TickCounts,
    errors=st.integers(0, 2000),
    oldest=_STAMPS,
    confirmations=st.integers(0, 9),
    duplicates=st.integers(0, 9),
    held=st.integers(0, 9),
    new=st.integers(0, 2000),
)


@given(_STATES, _COUNTS, _POLICIES, _TIMES)
def test_a_start_is_never_too_early(
    state: State, counts: TickCounts, policy: RetrainPolicy, now: datetime
) -> None:
    """Whatever the state says, of whatever clock."""
    decision = decide(state, counts, policy, now)
    assert decision.reason
    if not decision.start:
        return
    assert state.phase != "running"
    assert counts.errors >= min(policy.threshold, policy.min_errors)
    assert not (state.refused and not counts.new)
    if state.started_at:
        assert now - datetime.fromisoformat(state.started_at) >= timedelta(hours=policy.cooldown_hours)
    if state.ended_at and state.failures:
        assert now - datetime.fromisoformat(state.ended_at) >= backoff(state.failures, policy)


@given(_STATES, _POLICIES, _TIMES)
def test_it_always_starts_in_the_end(state: State, policy: RetrainPolicy, now: datetime) -> None:
    """No time in the state, and no number of failures, holds it up for longer than the longest wait."""
    if state.phase == "running":
        return
    state = on_this_clock(state, now)
    wait = max(LONGEST_BACKOFF, timedelta(hours=policy.cooldown_hours)) + timedelta(minutes=10)
    counts = TickCounts(
        errors=policy.threshold, oldest=iso(now), confirmations=0, duplicates=0, held=0, new=1
    )
    decision = decide(state, counts, policy, now)
    assert decision.start or decision.not_before is not None
    assert decide(state, counts, policy, now + wait).start


@given(_STATES, _COUNTS, _POLICIES, _TIMES, st.integers(1, 100))
def test_more_errors_never_stop_a_start(
    state: State, counts: TickCounts, policy: RetrainPolicy, now: datetime, more: int
) -> None:
    """And the same question has the same answer."""
    grown = TickCounts(
        errors=counts.errors + more,
        oldest=counts.oldest,
        confirmations=0,
        duplicates=0,
        held=0,
        new=counts.new + more,
    )
    if decide(state, counts, policy, now).start:
        assert decide(state, grown, policy, now).start
    assert decide(state, counts, policy, now) == decide(state, counts, policy, now)


@given(_STATES, _TIMES)
def test_times_ahead_of_the_clock_become_now(state: State, now: datetime) -> None:
    """Once: what is put right stays so."""
    there = on_this_clock(state, now)
    for time in (there.started_at, there.ended_at):
        assert not time or datetime.fromisoformat(time) <= now + timedelta(minutes=5)
    assert on_this_clock(there, now) == there
    assert there.phase == state.phase
