"""Shapes of answers about regions."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, instant, optional_text, text
from shared.schemas.errors import ErrorOut


class CircuitOut(Answer):
    """Whether the region is left alone because its load balancer did not answer several times in a row."""

    state = text("closed: as usual; open: nothing is tried until retry_at; half_open: the next attempt decides.")
    opened_at = instant("Since when; null while it is closed.")
    retry_at = instant("When it is tried again by itself; null while it is closed.")


class RegionHealthOut(Answer):
    """How the account's recent deployments to the region went, and whether its load balancer answers the patrol."""

    state = text("unknown, ok or failing.")
    last_success_at = instant("The last deployment or removal that succeeded.")
    last_answer_at = instant("When its load balancer last told the patrol what it holds.")
    last_error = fields.Nested(ErrorOut, allow_none=True)
    circuit = fields.Nested(CircuitOut)


class UsageOut(Answer):
    """Certificates that the account holds in the region."""

    used = fields.Integer(metadata={"description": "Held now, or reserved."})
    limit = fields.Integer(metadata={"description": "The most that it may hold."})


class QuotaOut(Answer):
    """By type of certificate."""

    server = fields.Nested(UsageOut)
    ca = fields.Nested(UsageOut)


class RegionOut(Answer):
    """A place where a load balancer uses certificates."""

    id = text("Region id.")
    name = text("Display name.")
    driver = text("The adapter that speaks to its load balancer.")
    health = fields.Nested(RegionHealthOut)
    listener_address = optional_text('Where its listeners answer, "host:port".')
    key_policy = fields.List(
        fields.String(),
        metadata={
            "description": "Key algorithms of server certificates that it takes: what the operator lists, less "
            "what its load balancer cannot serve."
        },
    )
    ca_key_policy = fields.List(
        fields.String(), metadata={"description": "The same for CA certificates, by which it judges clients."}
    )
    listeners = fields.Boolean(
        allow_none=True,
        metadata={"description": "Whether it can have HTTPS listeners; null: its driver could not be asked."},
    )
    mutual_auth = fields.Boolean(
        allow_none=True,
        metadata={
            "description": "Whether a listener may demand certificates of clients; null: its driver could not be asked."
        },
    )
    quota = fields.Nested(QuotaOut)


class RegionPage(Answer):
    """All regions, in the operator's order."""

    items = fields.List(fields.Nested(RegionOut))
    next_cursor = optional_text("Always null: the list is whole.")
