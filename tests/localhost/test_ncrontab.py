"""Timer schedules."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localhost.ncrontab import Schedule, parse

_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2080, 1, 1))


@st.composite
def _fields(draw: st.DrawFn, lowest: int, highest: int) -> tuple[str, set[int]]:
    """Return one field as text, and the values it stands for."""
    items, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.none() | st.integers(1, highest))
        match draw(st.sampled_from(["all", "one", "span"])):
            case "all":
                text, first, last = "*", lowest, highest
            case "one":
                first = draw(st.integers(lowest, highest))
                text, last = str(first), first if step is None else highest
            case _:
                first = draw(st.integers(lowest, highest))
                last = draw(st.integers(first, highest))
                text = f"{first}-{last}"
        items.append(text if step is None else f"{text}/{step}")
        values |= set(range(first, last + 1, step or 1))
    return ",".join(items), values


@st.composite
def _expressions(draw: st.DrawFn) -> tuple[str, list[set[int]]]:
    fields = [draw(_fields(*bounds)) for bounds in _BOUNDS]
    return " ".join(text for text, _ in fields), [values for _, values in fields]


@given(_expressions())
def test_every_field_means_its_lists_ranges_and_steps(drawn: tuple[str, list[set[int]]]) -> None:
    """Parsing gives exactly the values that the items of each field stand for."""
    expression, values = drawn
    assert [set(field) for field in parse(expression)[1:]] == values


@given(_expressions(), _MOMENTS, st.data())
def test_the_next_time_matches_and_none_is_earlier(
    drawn: tuple[str, list[set[int]]], moment: datetime, data: st.DataObject
) -> None:
    """The next time is later, is named by the schedule, and no second in between is."""
    schedule = parse(drawn[0])
    try:
        found = schedule.next_after(moment)
    except ValueError:
        assert not any(_names_a_date(schedule, year) for year in range(moment.year, moment.year + 41))
        return
    assert found > moment
    assert schedule.matches(found)
    gap = int((found - moment).total_seconds())
    between = data.draw(st.lists(st.integers(1, max(gap, 1)), max_size=50))
    for seconds in {*range(1, min(gap, 300)), *between}:
        earlier = found - timedelta(seconds=seconds)
        assert earlier <= moment or not schedule.matches(earlier)


def _names_a_date(schedule: Schedule, year: int) -> bool:
    days = (datetime(year, 1, 1) + timedelta(days=day) for day in range(366))
    return any(
        day.month in schedule.months
        and day.day in schedule.days
        and day.isoweekday() % 7 in schedule.weekdays
        for day in days
    )


@pytest.mark.parametrize(
    ("expression", "moment", "expected"),
    [
        ("0 */15 * * * *", "2024-05-01T10:07:30", "2024-05-01T10:15:00"),
        ("*/15 * * * * *", "2024-05-01T10:07:30", "2024-05-01T10:07:45"),
        ("0 0 3 * * *", "2024-12-31T03:00:00", "2025-01-01T03:00:00"),
        ("0 30 9 * * Mon-Fri", "2024-05-03T09:30:00", "2024-05-06T09:30:00"),
        ("0 0 0 29 2 *", "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 0 13 * friday", "2024-01-01T00:00:00", "2024-09-13T00:00:00"),
        ("0 0 12 1 jan,jul *", "2024-01-01T12:00:00", "2024-07-01T12:00:00"),
        ("*/5 * * * *", "2024-05-01T10:07:30", "2024-05-01T10:10:00"),
        ("0 10-5 * * * *", "2024-05-01T10:00:00", "2024-05-01T10:05:00"),
        ("0 0 0 29 2 Monday", "2024-02-29T00:00:00", "2044-02-29T00:00:00"),
    ],
)
def test_examples(expression: str, moment: str, expected: str) -> None:
    """Schedules as people write them, in UTC."""
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert parse(expression).next_after(start) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 * *", "has 4 fields"),
        ("every day", "has 2 fields"),
        ("60 * * * * *", "second '60': 60 is not between 0 and 59"),
        ("0 0 24 * * *", "hour '24'"),
        ("0 0 0 0 * *", "day '0'"),
        ("0 0 0 * * 7", "day of week '7': 7 is not between 0 and 6"),
        ("0 0 0 * Foo *", "'Foo' is not one of january"),
        ("0 0 0 * * mon-", "a value is missing"),
        ("0 */x * * * *", "the step 'x' is not a number"),
        ("0 1,,2 * * * *", "a value is missing"),
        ("0 L * * * *", "'L' is not a number"),
    ],
)
def test_what_is_no_schedule_is_refused_by_field(expression: str, said: str) -> None:
    """The message names the field and what is wrong with it."""
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(expression)


def test_a_date_that_never_comes_is_refused() -> None:
    """30 February is found out rather than waited for."""
    with pytest.raises(ValueError, match="names no date that exists"):
        parse("0 0 0 30 2 *").next_after(datetime(2024, 1, 1))
