"""NCRONTAB, the timer schedules of the platform: `{second} {minute} {hour} {day} {month} {day of week}`.

Behaves as the NCrontab library that the platform uses: lists, ranges, steps and
names; five fields mean "at second 0"; a day must match day *and* day of week
(unlike Unix cron, where either is enough).
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

#: After this many years every pattern of month, day and weekday has come round
#: (29 February on a given weekday: 28 years, 40 across a year like 2100).
_YEARS_TO_SEARCH = 41


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()


_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
)


class Schedule(NamedTuple):
    """The values each field allows, in order."""

    expression: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]  # 0 is Sunday

    def matches(self, moment: datetime) -> bool:
        """Return whether the schedule names this second."""
        return (
            moment.microsecond == 0
            and moment.second in self.seconds
            and moment.minute in self.minutes
            and moment.hour in self.hours
            and self._matches_day(moment.date())
        )

    def next_after(self, moment: datetime) -> datetime:
        """Return the first time named by the schedule that is later than `moment`, in its time zone.

        Raises:
            ValueError: there is none (30 February).
        """
        earliest = moment.replace(microsecond=0) + timedelta(seconds=1)
        day = earliest.date()
        found = self._first_from(earliest.time()) if self._matches_day(day) else None
        while found is None:
            day = self._next_day(day, limit=moment.year + _YEARS_TO_SEARCH)
            found = time(self.hours[0], self.minutes[0], self.seconds[0])
        return datetime.combine(day, found, tzinfo=moment.tzinfo)

    def _matches_day(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _next_day(self, day: date, limit: int) -> date:
        while day.year <= limit:
            day += timedelta(days=1)
            if day.month not in self.months:
                # On to the last day of the month, so that the next step enters the following one.
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            elif self._matches_day(day):
                return day
        raise ValueError(f"{self.expression!r} names no date that exists")

    def _first_from(self, earliest: time) -> time | None:
        """Return the first time of a matching day that is not before `earliest`, if any is left."""
        for hour in self.hours[bisect_left(self.hours, earliest.hour) :]:
            if hour > earliest.hour:
                return time(hour, self.minutes[0], self.seconds[0])
            for minute in self.minutes[bisect_left(self.minutes, earliest.minute) :]:
                if minute > earliest.minute:
                    return time(hour, minute, self.seconds[0])
                for second in self.seconds[bisect_left(self.seconds, earliest.second) :]:
                    return time(hour, minute, second)
        return None


def parse(expression: str) -> Schedule:
    """Return the schedule that `expression` describes.

    Raises:
        ValueError: it is not NCRONTAB; the message names the field.
    """
    parts = expression.split()
    if len(parts) == 5:
        parts = ["0", *parts]
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"{expression!r} has {len(parts)} field{'' if len(parts) == 1 else 's'}: "
            "write six, '{second} {minute} {hour} {day} {month} {day of week}'"
        )
    values = []
    for field, part in zip(_FIELDS, parts, strict=True):
        try:
            values.append(
                tuple(sorted({value for item in part.split(",") for value in _values(field, item)}))
            )
        except ValueError as error:
            raise ValueError(f"{expression!r}: {field.name} {part!r}: {error}") from error
    return Schedule(expression, *values)


def _values(field: _Field, item: str) -> range:
    """Return the values of one item of a list: `*`, `5`, `1-5`, each with or without `/step`."""
    span, slash, step_text = item.partition("/")
    step = max(_number(step_text, "the step"), 1) if slash else 1
    if span == "*":
        return range(field.lowest, field.highest + 1, step)
    first_text, dash, last_text = span.partition("-")
    first = _value(field, first_text)
    last = _value(field, last_text) if dash else field.highest if slash else first
    if first > last:  # As the platform reads it: 5-2 is 2-5.
        first, last = last, first
    return range(first, last + 1, step)


def _value(field: _Field, text: str) -> int:
    if text[:1].isdigit():
        value = _number(text, "the value")
        if not field.lowest <= value <= field.highest:
            raise ValueError(f"{value} is not between {field.lowest} and {field.highest}")
        return value
    for position, word in enumerate(field.words):
        if text and word.startswith(text.lower()):
            return position + field.lowest
    expected = f"one of {', '.join(field.words)}" if field.words else "a number"
    raise ValueError(f"{text!r} is not {expected}" if text else "a value is missing")


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{what} {text!r} is not a number")
    return int(text)
