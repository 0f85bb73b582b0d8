"""Data of events that no job made: as docs/webhooks.md shows it."""

from __future__ import annotations

from typing import Any

from services.api.webhooks_page import EXAMPLES
from shared.events.catalogue import EventType
from shared.schemas.event_data import DATA


def sample(event_type: EventType) -> dict[str, Any]:
    """Data as an event of the type has it (docs/webhooks.md), of no job and no certificate."""
    (data,) = [EXAMPLES[shown] for shown in EXAMPLES if DATA[shown] is DATA[event_type]]
    return {**data, **{name: "" for name in ("job_id", "certificate_id") if name in data}}
