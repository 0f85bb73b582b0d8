"""Shapes of requests and answers about reminders: what is answered to them, and who wants none."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, Body, Instant, email, instant, text


class SnoozeIn(Body):
    """Until when to hold reminders back."""

    until = Instant(
        required=True,
        metadata={
            "description": "A time or a date, at the latest three days before the certificate's end.",
            "example": "2030-01-31T00:00:00Z",
        },
    )


class RecipientIn(Body):
    """Whom it is about."""

    recipient = fields.String(
        required=True, validate=email, metadata={"description": "One address.", "example": "ops@example.com"}
    )


class UnsubscribedOut(Answer):
    """A recipient who wants no reminders of this account."""

    recipient = text("Their address.")
    at = instant("Since when.")


class UnsubscribedList(Answer):
    """Everybody who wants no reminders of this account."""

    items = fields.List(fields.Nested(UnsubscribedOut))
