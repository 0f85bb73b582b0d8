"""The life of a certificate as a line: drawn by the server, positions as attributes of SVG, no inline style."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

WIDTH: Final = 600
"""Units of the drawing, not pixels."""

_ATTENTION: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Where now and the time for attention lie between the ends, in units of the drawing."""

    now: int
    attention: int
    begins: datetime
    ends: datetime


def timeline(certificate: dict[str, Any], now: datetime) -> Timeline | None:
    """None while its times are not known, or make no line."""
    begins, ends = certificate["not_before"], certificate["not_after"]
    if begins is None or ends is None or ends <= begins:
        return None
    life: timedelta = ends - begins

    def position(at: datetime) -> int:
        share: float = (at - begins) / life
        return round(WIDTH * min(1.0, max(0.0, share)))

    return Timeline(now=position(now), attention=position(ends - min(_ATTENTION, life / 3)), begins=begins, ends=ends)
