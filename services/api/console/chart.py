"""The chart of what ends when: bars of weeks, drawn by the server; positions are attributes of SVG, no inline style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from shared.usecases.outlook import EXPIRED, WEEK, WEEKS, Ending, Urgency

WIDTH: Final = 880
HEIGHT: Final = 200
"""Units of the drawing, not pixels: the bars' own space; labels are outside of it."""

_SLOT: Final = WIDTH / (WEEKS + 2)
"""A week; what has expired has one of its own, and a gap behind it."""

_LINES: Final = 4
_DECEMBER: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Certificates of one week and urgency, stacked on those of the same week that are more urgent."""

    x: float
    y: float
    width: float
    height: float
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One row of the table that says the same: ``begins`` is none for what has expired."""

    begins: datetime | None
    counts: dict[Urgency, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``lines``: height and count of the horizontal ones. ``months``: where each begins. ``later``: beyond it."""

    bars: list[Bar]
    lines: list[tuple[float, int]]
    months: list[tuple[float, datetime]]
    weeks: list[Week]
    most: int
    later: int


def chart(endings: Sequence[Ending], now: datetime) -> Chart:
    """Everything to draw, in units of the drawing, the origin at the top left."""
    shown = [one for one in endings if one.week < WEEKS]
    weeks = {week: list(found) for week, found in groupby(shown, key=lambda one: one.week)}
    most = max((sum(one.count for one in found) for found in weeks.values()), default=0)
    step = _step(most)
    top = max(step * -(-most // step), step)
    return Chart(
        bars=[bar for week, found in weeks.items() for bar in _stacked(week, found, top)],
        lines=[(round(HEIGHT * (1 - count / top), 1), count) for count in range(0, top + 1, step)],
        months=list(_months(now)),
        weeks=[_row(week, found, now) for week, found in weeks.items()],
        most=most,
        later=sum(one.count for one in endings if one.week >= WEEKS),
    )


def _stacked(week: int, endings: Iterable[Ending], top: int) -> Iterable[Bar]:
    below = 0
    for one in endings:
        height = HEIGHT * one.count / top
        below += one.count
        y = HEIGHT * (1 - below / top)
        yield Bar(x=_x(week), y=round(y, 1), width=round(_SLOT * 0.8, 1), height=round(height, 1), ending=one)


def _x(week: float) -> float:
    """Where a week begins; what has expired stands apart at the very left."""
    return 0.0 if week == EXPIRED else round((week + 2) * _SLOT, 1)


def _months(now: datetime) -> Iterable[tuple[float, datetime]]:
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while True:
        month = _next(month)
        week = (month - now) / WEEK
        if week > WEEKS - 2:
            return
        yield _x(week), month


def _next(month: datetime) -> datetime:
    if month.month == _DECEMBER:
        return month.replace(year=month.year + 1, month=1)
    return month.replace(month=month.month + 1)


def _step(most: int) -> int:
    """1, 2 or 5 times a power of ten, so that there are at most four lines above the ground."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * _LINES >= most:
                return step * factor
        step *= 10


def _row(week: int, endings: Iterable[Ending], now: datetime) -> Week:
    counts = {one.urgency: one.count for one in endings}
    return Week(begins=None if week == EXPIRED else now + week * timedelta(weeks=1), counts=counts)
