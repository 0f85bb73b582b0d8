"""Shapes of answers about who did what."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, instant, optional_text, text


class AuditEntryOut(Answer):
    """One deed."""

    id = text("Entry id.")
    at = instant("When.")
    actor = text("The id of the token that did it, or `mailto:` and the address of who answered a mail.")
    action = text("noun.verb_past, such as certificate.submitted.")
    target = text("The id of what it was done to.")
    details = fields.Dict(metadata={"description": "What else is known of it, by action."})


class AuditPage(Answer):
    """One page of deeds, newest first."""

    items = fields.List(fields.Nested(AuditEntryOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
