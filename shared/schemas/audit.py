"""Shapes of answers about who did what."""

from __future__ import annotations

from marshmallow import fields
from marshmallow.validate import Length

from shared.schemas.base import Answer, PageQuery, instant, optional_text, text


class AuditQuery(PageQuery):
    """Filters of the list of deeds."""

    actor = fields.String(
        load_default=None, validate=Length(1, 300), metadata={"description": "Only what this one did, as in `actor`."}
    )
    action = fields.String(
        load_default=None,
        validate=Length(1, 100),
        metadata={"description": "Only this action, or with the noun alone (`certificate`) all of that noun."},
    )
    target = fields.String(
        load_default=None, validate=Length(1, 100), metadata={"description": "Only what was done to this id."}
    )


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
