"""Shapes of questions and answers about what is really served."""

from __future__ import annotations

from marshmallow import fields
from marshmallow.validate import Length, OneOf

from shared.domain.rollout import ServedState
from shared.schemas.base import Answer, PageQuery, instant, optional_text, text
from shared.schemas.certificates import DriftOut


class ServedQuery(PageQuery):
    """Filters of the matrix."""

    region = fields.String(
        load_default=None, validate=Length(1, 64), metadata={"description": "Only what is in this region, and only it."}
    )
    state = fields.String(
        load_default=None,
        validate=OneOf([state.value for state in ServedState]),
        metadata={"description": "Only certificates of which a region's last proof says this."},
    )
    q = fields.String(
        load_default=None,
        validate=Length(1, 200),
        metadata={"description": "Part of the name, the common name or any name it is valid for."},
    )


class ServedCellOut(Answer):
    """One certificate in one region."""

    state = text("What the last handshakes proved: not_checked, match, mismatch or unreachable; the worst listener's.")
    deployed = fields.Boolean(metadata={"description": "Whether the region holds it; no claim about what is served."})
    checked_at = instant("The oldest of its listeners' last proofs.")
    age_seconds = fields.Integer(allow_none=True, metadata={"description": "How old that proof is; null without one."})
    listeners = fields.Integer(metadata={"description": "How many listeners show it, or ask for its clients."})
    drift = fields.Nested(DriftOut, allow_none=True)


class ServedRowOut(Answer):
    """One certificate in all its regions."""

    certificate_id = text("Certificate id.")
    name = text("What it is called.")
    type = text("server or ca.")
    not_after = instant("The last valid second.")
    regions = fields.Dict(
        keys=fields.String(), values=fields.Nested(ServedCellOut), metadata={"description": "By region id."}
    )


class ServedPage(Answer):
    """One page of certificates that are in a region, newest first."""

    items = fields.List(fields.Nested(ServedRowOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
