"""Shapes of requests and answers about webhook endpoints, their secrets and their deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from marshmallow import fields
from marshmallow.validate import Length, Range

from shared.domain.webhooks import ROTATION_OVERLAP
from shared.schemas.base import Answer, Body, PageQuery, instant, optional_text, printable, text, unique

MAX_TYPES: Final = 50
MAX_DESCRIPTION: Final = 200
MAX_OVERLAP: Final = timedelta(days=7)


def _url(**options: Any) -> fields.String:
    return fields.String(
        metadata={
            "description": "Where to POST. https, to a public address; http only into networks the operator allows.",
            "example": "https://example.com/hooks/certfleet",
        },
        **options,
    )


def _types(**options: Any) -> fields.List[str]:
    return fields.List(
        fields.String(validate=Length(1, 64)),
        validate=(Length(1, MAX_TYPES), unique),
        metadata={"description": "Types of events, or patterns.", "example": ["deployment.*", "job.failed"]},
        **options,
    )


def _description(**options: Any) -> fields.String:
    return fields.String(
        validate=printable(at_least=0, at_most=MAX_DESCRIPTION),
        metadata={"description": "Your own words about it."},
        **options,
    )


class WebhookIn(Body):
    """A new endpoint."""

    url = _url(required=True)
    types = _types(load_default=lambda: ["*"])
    description = _description(load_default="")


class WebhookPatchIn(Body):
    """What to change of an endpoint; what is left out stays."""

    url = _url()
    types = _types()
    description = _description()
    enabled = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "False: what waits is cancelled. True: begin anew."}
    )


class RotateIn(Body):
    """How to change over to a new secret."""

    overlap_seconds = fields.Integer(
        strict=True,
        load_default=int(ROTATION_OVERLAP.total_seconds()),
        validate=Range(0, int(MAX_OVERLAP.total_seconds())),
        metadata={"description": "How long the old secret signs beside the new one; 0 if it has leaked."},
    )


class WebhookQuery(PageQuery):
    """Which endpoints to list."""

    job_id = fields.String(
        load_default=None,
        validate=Length(1, 64),
        metadata={"description": "The endpoint made from this job's `callback_url`, instead of your own."},
    )


class WebhookOut(Answer):
    """An endpoint. Its secret is shown once, when it is made or rotated."""

    id = text("Endpoint id.")
    url = text("Where events go.")
    types = fields.List(fields.String(), metadata={"description": "Types of events, or patterns."})
    description = text("Your own words about it.")
    job_id = optional_text("The job whose `callback_url` this is.")
    enabled = fields.Boolean(metadata={"description": "Whether events are sent."})
    disabled_reason = optional_text("Why not.")
    created_at = instant("When it was made.")


class WebhookCreatedOut(WebhookOut):
    """A new endpoint with its secret, shown this once."""

    secret = text("`whsec_…`: verifies the signatures. Keep it; it is not shown again.", required=True)


class SecretOut(Answer):
    """A signing secret."""

    secret = text("`whsec_…`: verifies the signatures.", required=True)


class WebhookPage(Answer):
    """One page of endpoints, newest first."""

    items = fields.List(fields.Nested(WebhookOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")


class AttemptOut(Answer):
    """One try."""

    number = fields.Integer(metadata={"description": "From 1; goes on over replays."})
    started_at = instant("When it began.")
    duration_ms = fields.Integer(metadata={"description": "Until the answer, or until we gave up."})
    status = fields.Integer(allow_none=True, metadata={"description": "The receiver's HTTP status, if any came."})
    error = optional_text("Why none came: every code is in docs/webhooks.md.")
    response_head = optional_text("The first 4 kB of the receiver's answer.")


class DeliveryOut(Answer):
    """One event for one endpoint."""

    id = text("Delivery id.")
    event_id = text("The event, and the `webhook-id`.")
    event_type = text("What happened.")
    state = text("pending, delivered, exhausted or cancelled.")
    attempt = fields.Integer(metadata={"description": "Tries so far, since the last replay."})
    next_attempt_at = instant("When it is tried next; while pending.")
    created_at = instant("When the event happened.")
    finished_at = instant("When it became final.")
    attempts = fields.List(fields.Nested(AttemptOut), metadata={"description": "Oldest first."})


class DeliveryPage(Answer):
    """One page of deliveries, newest first."""

    items = fields.List(fields.Nested(DeliveryOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
