"""Shapes of what an account's people fill in about themselves: tokens, people, passwords."""

from __future__ import annotations

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from shared.domain.scopes import ALL_SCOPES
from shared.schemas.base import Body, email, printable, unique

MAX_NAME = 100
MAX_DAYS = 3650


class TokenIn(Body):
    """A new API token; ``days``: how long it is good for, null for ever."""

    name = fields.String(required=True, validate=printable(at_most=MAX_NAME))
    scopes = fields.List(
        fields.String(validate=OneOf([scope.value for scope in ALL_SCOPES])),
        required=True,
        validate=(Length(1, len(ALL_SCOPES)), unique),
    )
    days = fields.Integer(required=True, strict=True, allow_none=True, validate=Range(1, MAX_DAYS))


class InvitationIn(Body):
    """Whom to invite."""

    email = fields.String(required=True, validate=email)


class PasswordIn(Body):
    """A new password, with the present one where there is one."""

    current = fields.String(load_default="")
    password = fields.String(required=True)
