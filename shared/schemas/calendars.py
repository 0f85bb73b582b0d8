"""Shapes of requests and answers about calendar feeds."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, Body, instant, printable, text


class FeedIn(Body):
    """A new calendar feed."""

    name = fields.String(
        load_default="Calendar",
        validate=printable(at_most=100),
        metadata={"description": "Who or what reads it.", "example": "Operations"},
    )


class FeedOut(Answer):
    """A calendar feed; never its address."""

    id = text("Feed id.")
    name = text("Who or what reads it.")
    created_at = instant("When it was made.")
    rotated_at = instant("When it last got a new address.")


class FeedAddressOut(Answer):
    """A feed's address."""

    url = text("Where calendars read it: a secret, shown this once.")


class FeedCreatedOut(FeedOut):
    """A new feed with its address."""

    url = text("Where calendars read it: a secret, shown this once.")


class FeedList(Answer):
    """The account's feeds."""

    items = fields.List(fields.Nested(FeedOut))
