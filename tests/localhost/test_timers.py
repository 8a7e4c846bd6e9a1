"""Timer triggers: schedule, missed runs, start-up runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localhost.ncrontab import parse
from localhost.timers import Status, check_record
from tests.localhost.apps import ServedApp, until

Serve = Callable[..., ServedApp]

NIGHTLY = """
@app.timer_trigger(arg_name="t", schedule="0 0 3 * * *")
def nightly(t: func.TimerRequest) -> None: seen.append((t.past_due, t.schedule_status))
"""
_MOMENTS = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1))


def _record(state: Path, status: Status | None = None) -> Path:
    path = state / "timers" / "nightly.json"
    if status is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(msgspec.json.encode(status))
    return path


def _read(path: Path) -> Status:
    return msgspec.json.decode(path.read_bytes(), type=Status)


def test_a_timer_runs_on_its_schedule(serve: Serve) -> None:
    """Every second, and never twice in one."""
    app = serve(
        """
import datetime
@app.timer_trigger(arg_name="t", schedule="* * * * * *")
def often(t: func.TimerRequest) -> None:
    seen.append((datetime.datetime.now(datetime.UTC).replace(microsecond=0), t.past_due))
"""
    )
    until(lambda: len(app.seen) >= 3, "three runs")
    app.stop()
    seconds = [second for second, _ in app.seen]
    assert len(set(seconds)) == len(seconds)
    assert not any(past_due for _, past_due in app.seen)


def test_a_first_start_records_the_next_run_and_runs_nothing(serve: Serve, tmp_path: Path) -> None:
    """So that a run missed before the first one is noticed, too."""
    app = serve(NIGHTLY, state=tmp_path / "state")
    status = until(lambda: _record(app.state).exists() and _read(_record(app.state)), "the record")
    assert status.last is None
    assert status.next > datetime.now(UTC)
    assert parse("0 0 3 * * *").matches(status.next)
    app.stop()
    assert app.seen == []


def test_a_missed_run_is_made_up_for_once(serve: Serve, tmp_path: Path) -> None:
    """Past due at the first start after it, on time again at the second."""
    now = datetime.now(UTC)
    schedule = parse("0 0 3 * * *")
    last = schedule.next_after(now - timedelta(days=5))
    missed = Status(last=last, next=schedule.next_after(last), last_updated=last)
    state = tmp_path / "state"
    _record(state, missed)
    app = serve(NIGHTLY, state=state)
    ((past_due, told),) = until(lambda: app.seen, "the run that was missed")
    assert past_due
    assert told["Last"] == last.isoformat()
    assert told["Next"] == missed.next.isoformat()
    status = until(lambda: (found := _read(_record(state))) != missed and found, "the new record")
    assert status.last is not None
    assert status.last >= now
    assert status.next > now
    app.stop()
    again = serve(NIGHTLY, state=state)
    until(lambda: again.run_now("nightly").status == 200, "the host to answer")
    assert [past_due for past_due, _ in again.seen] == [False]


def test_run_on_startup_runs_at_every_start(serve: Serve, tmp_path: Path) -> None:
    """And is not past due."""
    source = NIGHTLY.replace('* * *"', '* * *", run_on_startup=True')
    for _ in range(2):
        app = serve(source, state=tmp_path / "state")
        assert [past_due for past_due, _ in until(lambda app=app: app.seen, "the run")] == [False]
        app.stop()


def test_a_failing_timer_keeps_its_schedule(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """One bad night is not the end."""
    app = serve(
        """
@app.timer_trigger(arg_name="t", schedule="* * * * * *")
def often(t: func.TimerRequest) -> None:
    seen.append(1)
    raise RuntimeError("a bad night")
"""
    )
    until(lambda: len(app.seen) >= 2, "a run after the failed one")
    assert "a bad night" in caplog.text


def test_a_damaged_record_starts_anew(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The host does not stumble over its own notes."""
    state = tmp_path / "state"
    _record(state, Status(None, datetime.now(UTC), datetime.now(UTC))).write_text("{")
    app = serve(NIGHTLY, state=state)
    until(lambda: "damaged" in caplog.text, "the warning")
    assert app.run_now("nightly").status == 200


@given(_MOMENTS, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)), st.booleans())
def test_past_due_means_that_a_recorded_run_was_missed(
    start: datetime, away: timedelta, has_run: bool
) -> None:
    """Whatever the times: past due exactly when the recorded next run lies behind."""
    schedule = parse("0 30 4 * * Mon")
    record = Status(start if has_run else None, schedule.next_after(start), start)
    found = check_record(record, schedule, start + away)
    assert found == record
    assert (start + away > found.next) == (start + away > schedule.next_after(start))


@given(_MOMENTS, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_a_changed_schedule_is_not_past_due(start: datetime, away: timedelta) -> None:
    """What was never promised was never missed."""
    before, after = parse("0 30 4 * * *"), parse("0 15 5 * * *")
    now = start + away
    found = check_record(Status(start, before.next_after(start), start), after, now)
    assert found.last is None
    assert found.next >= now
    assert after.matches(found.next)
