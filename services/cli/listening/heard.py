"""One event as it reached us, with the proof that it came from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

Notice: TypeAlias = Callable[[str], None]
"""Says a sentence to whoever watches, apart from the events."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """``body``: the event, byte for byte. ``is_pushed``: it came by webhook, and its signature was verified.

    ``forwarded``: what the receiver it was passed on to answered, ``204`` or why it did not; empty: not passed on.
    """

    body: bytes
    is_pushed: bool
    forwarded: str = field(default="")

    @cached_property
    def event(self) -> dict[str, Any]:
        """The payload."""
        return dict(json.loads(self.body))
