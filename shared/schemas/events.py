"""Shapes of questions and answers about events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from marshmallow import fields
from marshmallow.validate import Length, Range

from shared.schemas.base import DEFAULT_LIMIT, MAX_LIMIT, Answer, Query, instant, text

MAX_SEQUENCE: Final = 2**63 - 1


LATEST: Final = None
"""What ``after=latest`` is read as: whatever has happened is not asked for."""


class _After(fields.Integer):
    """A sequence, or the word ``latest``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return LATEST if value == "latest" else super()._deserialize(value, attr, data, **kwargs)


def _in_range(value: int | None) -> None:
    if value is not LATEST:
        Range(0, MAX_SEQUENCE)(value)


class EventQuery(Query):
    """Where to go on, and what to hear of."""

    after = _After(
        load_default=0,
        validate=_in_range,
        metadata={
            "type": ["integer", "string"],
            "pattern": "^([0-9]{1,19}|latest)$",
            "description": "The last sequence seen, or `next_cursor`; 0: all that is kept; `latest`: what comes next.",
        },
    )
    types = fields.String(
        load_default="*",
        validate=Length(1, 500),
        metadata={"description": "Types or patterns, separated by commas.", "example": "deployment.*,job.*"},
    )
    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=Range(1, MAX_LIMIT),
        metadata={"description": "The most items to answer."},
    )


class EventOut(Answer):
    """A fact, as webhooks and streams carry it."""

    type = text("What happened.", required=True)
    id = text("Event id; a webhook's `webhook-id`.", required=True)
    sequence = fields.Integer(required=True, metadata={"description": "Its number in the account, without gaps."})
    timestamp = instant("When it happened.", required=True)
    account_id = text("Whose it is.", required=True)
    data = fields.Dict(required=True, metadata={"description": "Ids, states and errors; never a key or PEM."})


class EventPage(Answer):
    """Events in order; go on with after=next_cursor."""

    items = fields.List(fields.Nested(EventOut))
    next_cursor = text("The last sequence looked at, also when there is nothing new.")
