"""Timer triggers: run on schedule, at start when a run was missed, and on demand.

The record of the last and next run, and the rules for "past due", are those of
the platform's `TimerListener` and `ScheduleMonitor`: a run that fell due while
the host was down is made up for once, at the next start. Times are UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from localhost import ncrontab
from localhost.bindings import decode_timer
from localhost.errors import FunctionFailed
from localhost.functions import Function
from localhost.invocation import Invoker

logger = logging.getLogger(__name__)

#: Schedules that fire more often than this are not monitored, as on the platform.
_SHORTEST_MONITORED = timedelta(minutes=1)
#: The clock is looked at this often: a machine that slept runs its timer soon after it wakes.
_LONGEST_SLEEP = 30.0


class Status(Struct, frozen=True):
    """When a timer ran last (None: never) and will run next, and which time `next` was computed from."""

    last: datetime | None
    next: datetime
    last_updated: datetime


class Timer:
    """Runs one function on its schedule; its record is kept in `folder`."""

    def __init__(
        self, function: Function, invoker: Invoker, folder: Path, environ: Mapping[str, str]
    ) -> None:
        trigger = function.trigger
        self.function = function
        self._invoker = invoker
        self._record = folder / f"{function.name}.json"
        self.schedule = ncrontab.parse(trigger.option("schedule", environ))
        self._run_on_startup = bool(trigger.options.get("runOnStartup"))
        self._monitored = trigger.options.get("useMonitor") is not False and not _fires_often(self.schedule)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run the function whenever it is due, until `stopping` is set."""
        now = datetime.now(UTC)
        status = check_record(self._read() if self._monitored else None, self.schedule, now)
        self._write(status)
        if now > status.next:
            logger.info(
                "%s is past due: it should have run at %s", self.function.name, status.next.isoformat()
            )
            status = await self._run(status, "past due", past_due=True)
        elif self._run_on_startup:
            status = await self._run(status, "run on startup")
        while await _sleep_until(status.next, stopping):
            status = await self._run(status, "on schedule")

    async def run_now(self) -> None:
        """Run the function at once, whatever the schedule says.

        Raises:
            FunctionFailed: the function raised.
        """
        await self._invoker.run(self.function, decode_timer(False, None), "run on demand")

    async def _run(self, status: Status, reason: str, past_due: bool = False) -> Status:
        started = datetime.now(UTC)
        told = _as_platform_says_it(status) if self._monitored else None
        with contextlib.suppress(
            FunctionFailed
        ):  # logged by the invoker; a failed run does not stop the schedule
            await self._invoker.run(self.function, decode_timer(past_due, told), reason)
        # A clock that fires a little early must not name the same second twice.
        ran_for = max(started, status.next) if reason == "on schedule" else started
        status = Status(last=ran_for, next=self.schedule.next_after(ran_for), last_updated=ran_for)
        self._write(status)
        return status

    def _read(self) -> Status | None:
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Status)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("The record of timer %s is damaged and starts anew: %s", self.function.name, error)
            return None

    def _write(self, status: Status) -> None:
        if self._monitored:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._record.with_suffix(".unfinished")
            unfinished.write_bytes(msgspec.json.encode(status))
            unfinished.replace(self._record)


def check_record(status: Status | None, schedule: ncrontab.Schedule, now: datetime) -> Status:
    """Return the record to go on with: `next` is in the past exactly when a run was missed.

    A schedule that was changed meanwhile does not make a timer past due.
    """
    if status is None:
        return Status(last=None, next=schedule.next_after(now), last_updated=now)
    expected = schedule.next_after(status.last or status.last_updated)
    if expected == status.next:
        return status
    if now > expected:
        return Status(last=None, next=schedule.next_after(now), last_updated=now)
    return Status(last=None, next=expected, last_updated=status.last or status.last_updated)


def _fires_often(schedule: ncrontab.Schedule) -> bool:
    first = schedule.next_after(datetime.now(UTC))
    return schedule.next_after(first) - first < _SHORTEST_MONITORED


def _as_platform_says_it(status: Status) -> dict[str, str]:
    never = "0001-01-01T00:00:00+00:00"
    return {
        "Last": status.last.isoformat() if status.last else never,
        "Next": status.next.isoformat(),
        "LastUpdated": status.last_updated.isoformat(),
    }


async def _sleep_until(moment: datetime, stopping: asyncio.Event) -> bool:
    """Return True at `moment`, or False as soon as `stopping` is set."""
    while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
        try:
            await asyncio.wait_for(stopping.wait(), timeout=min(left, _LONGEST_SLEEP))
        except TimeoutError:
            continue
        return False
    return not stopping.is_set()
