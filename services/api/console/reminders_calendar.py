"""A year as months of weeks of days, each with how many certificates end on it; and what a date in an address means."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from services.api.console.formats import SOON, URGENT
from services.api.console.language import N_
from shared.usecases.expiries import Expiry, Span

MONTHS: Final = 12

NAMES: Final = (
    *(N_("January"), N_("February"), N_("March"), N_("April"), N_("May"), N_("June")),
    *(N_("July"), N_("August"), N_("September"), N_("October"), N_("November"), N_("December")),
)
WEEKDAYS: Final = (
    *((N_("Mo"), N_("Monday")), (N_("Tu"), N_("Tuesday")), (N_("We"), N_("Wednesday")), (N_("Th"), N_("Thursday"))),
    *((N_("Fr"), N_("Friday")), (N_("Sa"), N_("Saturday")), (N_("Su"), N_("Sunday"))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day of a month's table; ``tone`` says how soon it is, beside the number."""

    at: date
    count: int
    tone: str
    is_today: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """``name`` in English, translated when shown; weeks begin on Monday, ``None`` is a day of another month."""

    first: date
    name: str
    count: int
    weeks: tuple[tuple[Day | None, ...], ...]


def year_from(today: date) -> Span:
    """Today and all that follows, to the end of the twelfth month."""
    return Span(first=today, last=_plus(today.replace(day=1), MONTHS) - timedelta(days=1))


def months(counts: Mapping[date, int], today: date) -> list[Month]:
    """The months of :func:`year_from`."""
    firsts = (_plus(today.replace(day=1), ahead) for ahead in range(MONTHS))
    return [_month(first, counts, today) for first in firsts]


def chosen_span(text: str, today: date) -> Span | None:
    """What ``?on=`` names: a day (``2030-01-31``) or a month (``2030-01``); ``None``: neither."""
    try:
        if len(text) == len("2030-01"):
            first = date.fromisoformat(f"{text}-01")
            return Span(first=first, last=_plus(first, 1) - timedelta(days=1))
        day = date.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return Span(first=day, last=day) if abs(day.year - today.year) < _FAR else None


def by_day(expiries: list[Expiry]) -> list[tuple[date, list[Expiry]]]:
    """In the order they come in, which is that of their end."""
    return [(day, list(group)) for day, group in groupby(expiries, key=lambda one: one.not_after.date())]


_FAR: Final = 1000
"""Years: beyond, the last moment of a day may be none that a date can hold."""


def _month(first: date, counts: Mapping[date, int], today: date) -> Month:
    weeks = tuple(
        tuple(_days(week, first, counts, today))
        for week in calendar.Calendar().monthdatescalendar(first.year, first.month)
    )
    return Month(
        first=first,
        name=NAMES[first.month - 1],
        count=sum(day.count for week in weeks for day in week if day),
        weeks=weeks,
    )


def _days(week: list[date], first: date, counts: Mapping[date, int], today: date) -> Iterator[Day | None]:
    for at in week:
        if at.month != first.month:
            yield None
            continue
        left = at - today
        tone = "bad" if left <= URGENT else "warn" if left <= SOON else "good"
        yield Day(at=at, count=counts.get(at, 0) if at >= today else 0, tone=tone, is_today=at == today)


def _plus(first: date, count: int) -> date:
    """The first of the month so many months later."""
    ahead = first.month - 1 + count
    return date(first.year + ahead // MONTHS, ahead % MONTHS + 1, 1)
