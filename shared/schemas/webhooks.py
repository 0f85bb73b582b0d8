"""Shapes of requests and answers about webhook endpoints, their secrets and their deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from shared.domain.webhooks import ROTATION_OVERLAP, DeliveryState, SignatureScheme
from shared.schemas.base import Answer, Body, PageQuery, instant, optional_text, printable, text, unique
from shared.schemas.certificates import MAX_REGIONS, certificate_tags
from shared.schemas.faults import Fault

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


def _tags(**options: Any) -> fields.Dict:
    return certificate_tags(
        "Only events of certificates that have all of these tags when it happens; `*` is any value. Empty: of all.",
        example={"team": "web"},
        **options,
    )


def _regions(**options: Any) -> fields.List[str]:
    return fields.List(
        fields.String(validate=Length(1, 64)),
        validate=(Length(0, MAX_REGIONS), unique),
        metadata={
            "description": "Only events of these regions, and those that name none. Empty: of all.",
            "example": ["cn-hangzhou"],
        },
        **options,
    )


def _scheme(**options: Any) -> fields.String:
    return fields.String(
        validate=OneOf([scheme.value for scheme in SignatureScheme]),
        metadata={"description": "hmac-sha256: a shared secret. ed25519: we sign, anybody verifies by public key."},
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
    tags = _tags(load_default=dict)
    regions = _regions(load_default=list)
    description = _description(load_default="")
    signature_scheme = _scheme(load_default=SignatureScheme.HMAC.value)


class WebhookPatchIn(Body):
    """What to change of an endpoint; what is left out stays."""

    url = _url()
    types = _types()
    tags = _tags()
    regions = _regions()
    description = _description()
    enabled = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "False: what waits is cancelled. True: begin anew."}
    )
    disabled_reason = fields.String(
        validate=printable(at_most=MAX_DESCRIPTION),
        metadata={"description": "With `enabled: false`: why, in your own words.", "example": "Maintenance till 6."},
    )

    @validates_schema
    def _a_reason_is_for_disabling(self, data: dict[str, Any], **_options: Any) -> None:
        if "disabled_reason" in data and data.get("enabled") is not False:
            fault = Fault(
                code="field_not_allowed",
                message="A reason is given while disabling only.",
                hint="Send enabled: false with it, or leave it out.",
            )
            raise ValidationError({"disabled_reason": [fault]})


class OverlapIn(Body):
    """How to change over to a new secret."""

    overlap_seconds = fields.Integer(
        strict=True,
        load_default=int(ROTATION_OVERLAP.total_seconds()),
        validate=Range(0, int(MAX_OVERLAP.total_seconds())),
        metadata={"description": "How long the old secret signs beside the new one; 0 if it has leaked."},
    )


class RotateIn(OverlapIn):
    """How to change over to a new secret or key pair."""

    signature_scheme = _scheme(load_default=None, allow_none=True)


class WebhookQuery(PageQuery):
    """Which endpoints to list."""

    job_id = fields.String(
        load_default=None,
        validate=Length(1, 64),
        metadata={"description": "The endpoint made from this job's `callback_url`, instead of your own."},
    )


class LagOut(Answer):
    """How far an endpoint's receiver is behind."""

    pending = fields.Integer(metadata={"description": "Deliveries that wait; counted up to 10,000."})
    oldest_seconds = fields.Float(metadata={"description": "The age of the oldest; 0 when nothing waits."})


class ReceiverOut(Answer):
    """What the receiver behind an endpoint has shown."""

    state = text(
        "`new`: not tried yet; `fine`; `slow`: one delivery at a time; `failing`: the last attempt failed; "
        "`resting`: several in a row did, and it is left alone until `rests_until`."
    )
    failures = fields.Integer(metadata={"description": "In a row; 0 after a success."})
    rests_until = instant("When it is tried again; while `resting`.")


class WebhookOut(Answer):
    """An endpoint. Its secret is shown once, when it is made or rotated."""

    id = text("Endpoint id.")
    url = text("Where events go.")
    types = fields.List(fields.String(), metadata={"description": "Types of events, or patterns."})
    tags = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "The tags of certificates it hears of."}
    )
    regions = fields.List(fields.String(), metadata={"description": "The regions it hears of; empty: all."})
    description = text("Your own words about it.")
    signature_scheme = text("`hmac-sha256` or `ed25519`.")
    public_key = optional_text("`whpk_…`: verifies the newest signature; with ed25519 only.")
    job_id = optional_text("The job whose `callback_url` this is.")
    enabled = fields.Boolean(metadata={"description": "Whether events are sent."})
    disabled_reason = optional_text("Why not.")
    disabled_at = instant("Since when not.")
    failing_since = instant("The first failure since anything was delivered; null while the receiver works.")
    missed_since = instant(
        "It was disabled: from then on events may not have arrived. Replay them: POST …/replay with since, only_failed."
    )
    receiver = fields.Nested(ReceiverOut, metadata={"description": "How its receiver answers."})
    lag = fields.Nested(LagOut, metadata={"description": "How far its receiver is behind."})
    created_at = instant("When it was made.")


class WebhookCreatedOut(WebhookOut):
    """A new endpoint with its secret, shown this once."""

    secret = optional_text("`whsec_…`: verifies the signatures. Not shown again. With ed25519 null.", required=True)


class RotatedOut(Answer):
    """What verifies the signatures from now on: a new secret, shown this once, or a public key."""

    signature_scheme = text("`hmac-sha256` or `ed25519`.", required=True)
    secret = optional_text("`whsec_…`: verifies the signatures. Not shown again. With ed25519 null.", required=True)
    public_key = optional_text("`whpk_…`: verifies the signatures; with ed25519 only.", required=True)


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
    response_head = optional_text("The first 4 kB of the receiver's answer; keys, tokens and signatures are removed.")


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


class DeliveryQuery(PageQuery):
    """Which deliveries to list."""

    state = fields.String(
        load_default=None,
        validate=OneOf([state.value for state in DeliveryState]),
        metadata={"description": "Only deliveries in this state."},
    )
    event_type = fields.String(
        load_default=None,
        validate=Length(1, 64),
        metadata={"description": "Only of this type of event, or of a pattern.", "example": "deployment.*"},
    )


class DeliveryPage(Answer):
    """One page of deliveries, newest first."""

    items = fields.List(fields.Nested(DeliveryOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
