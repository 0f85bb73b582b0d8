"""Shapes of requests and answers about replays of many events to one endpoint."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, Range

from shared.schemas.base import Answer, Body, Instant, instant, optional_text, text, unique
from shared.schemas.events import MAX_SEQUENCE
from shared.schemas.faults import Fault
from shared.schemas.webhooks import MAX_TYPES


class ReplayIn(Body):
    """What to send again: from a sequence or from a time on."""

    after = fields.Integer(
        strict=True,
        load_default=None,
        validate=Range(0, MAX_SEQUENCE),
        metadata={"description": "The events after this `sequence`; 0: from the first.", "example": 1200},
    )
    since = Instant(
        load_default=None,
        metadata={"description": "Or: the events since this time.", "example": "2030-01-31T09:00:00Z"},
    )
    until = Instant(load_default=None, metadata={"description": "And not those after this time. Default: all."})
    types = fields.List(
        fields.String(validate=Length(1, 64)),
        load_default=lambda: ["*"],
        validate=(Length(1, MAX_TYPES), unique),
        metadata={"description": "Only these types or patterns, of those that the endpoint hears of."},
    )
    only_failed = fields.Boolean(
        load_default=False,
        truthy={True},
        falsy={False},
        metadata={"description": "True: not what was delivered already."},
    )

    @validates_schema
    def _begins_once(self, data: dict[str, Any], **_options: Any) -> None:
        if (data["after"] is None) == (data["since"] is None):
            fault = Fault(
                code="after_or_since",
                message="A replay begins after a sequence or since a time.",
                hint="Send one of after and since.",
            )
            raise ValidationError({"after": [fault]})


class ReplayOut(Answer):
    """A replay: what was asked for, and how far it is."""

    id = text("Replay id.")
    webhook_id = text("The endpoint.", attribute="endpoint_id")
    state = text("running, finished (all is queued) or cancelled.")
    types = fields.List(fields.String(), metadata={"description": "Types of events, or patterns."})
    only_failed = fields.Boolean(metadata={"description": "Whether what was delivered is left out."})
    since = instant("The events since this time.")
    until = instant("Not those after this time.")
    after_sequence = fields.Integer(metadata={"description": "It looks at the events after this."})
    until_sequence = fields.Integer(metadata={"description": "The newest event when it began: its end."})
    position = fields.Integer(metadata={"description": "The last sequence looked at."})
    queued = fields.Integer(metadata={"description": "Deliveries made due, so far."})
    skipped = fields.Integer(
        metadata={"description": "Events left out, so far: by a filter, delivered already, or on their way."}
    )
    created_at = instant("When it was asked for.")
    finished_at = instant("When the last one was queued.")


class ReplayPage(Answer):
    """One page of replays, newest first."""

    items = fields.List(fields.Nested(ReplayOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
