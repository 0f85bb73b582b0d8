"""Shapes of requests and answers about certificate services."""

from __future__ import annotations

from typing import Final

from marshmallow import fields
from marshmallow.validate import Length, Range

from shared.schemas.base import Answer, PageQuery, instant, optional_text, text
from shared.schemas.errors import ErrorOut

MOST_DAYS: Final = 3650
"""Ten years; a bound against slips of the pen, far beyond the 398 days of a public certificate."""


class OfferQuery(PageQuery):
    """Filters of the list of what certificate services offer."""

    q = fields.String(
        load_default=None,
        validate=Length(1, 200),
        metadata={"description": "Part of the id, the name, the common name or any name it is valid for."},
    )
    source = fields.String(
        load_default=None, validate=Length(1, 32), metadata={"description": "Only what this source offers."}
    )


class OfferOut(Answer):
    """A certificate that a service offers, as it was last listed."""

    id = text("What to give as managed_certificate_id.")
    source = text("Source id.")
    name = text("What it is called there.")
    common_name = optional_text("Subject common name.")
    names = fields.List(fields.String(), metadata={"description": "DNS names and addresses it is valid for."})
    issuer = optional_text("Who issued it.")
    serial = optional_text("As the service spells it.")
    not_before = instant("First valid second, as far as the service tells.")
    not_after = instant("Last valid second, as far as the service tells.")
    key_algorithm = optional_text("As in a region's key policy; null where only its content tells.")
    fingerprint_sha256 = optional_text("Lower-case hex of the DER; null where only its content tells.")
    certificate_id = optional_text("The newest certificate here that came from it.")
    seen_at = instant("When it was last listed.")


class SourceOut(Answer):
    """A certificate service of the account."""

    id = text("Source id: the beginning of its certificates' ids.")
    name = text("What it is called.")
    offers = fields.Integer(metadata={"description": "How many certificates it offers."})
    refreshed_at = instant("When it was last listed; null: not yet.")
    error = fields.Nested(
        ErrorOut,
        allow_none=True,
        metadata={"description": "Why the last listing failed; what was listed before stays."},
    )


class OfferPage(Answer):
    """One page of offers, in order of their ids."""

    items = fields.List(fields.Nested(OfferOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
    sources = fields.List(fields.Nested(SourceOut))


class SourcesOut(Answer):
    """The account's certificate services, which are being listed."""

    sources = fields.List(fields.Nested(SourceOut))


def renewal_lead(description: str) -> fields.Integer:
    """How many days before its end a managed certificate is renewed; ``description`` says what null means."""
    return fields.Integer(
        strict=True, allow_none=True, validate=Range(1, MOST_DAYS), metadata={"description": description}
    )
