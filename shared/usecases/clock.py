"""What time it is, as a parameter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current time, aware UTC. Work that takes a while asks again; everything else takes ``now``."""


def utc_now() -> datetime:
    """The clock of the outermost shell."""
    return datetime.now(UTC)
