"""Shapes of what events say: ``data`` by type of event, as webhooks, streams and ``GET /v1/events`` carry it."""

from __future__ import annotations

from typing import Final

from marshmallow import Schema, fields
from marshmallow.validate import OneOf

from shared.domain.certificates import CertificateType
from shared.domain.rollout import CANCELLED, DeploymentState, JobKind, JobState
from shared.domain.succession import Lack
from shared.schemas.base import Instant, optional_text, text


class FindingData(Schema):
    """What validation noticed; every code is in docs/validation.md."""

    code = text("Stable and machine-readable.", required=True)
    severity = text("`error`, `warning` or `fixed`.", required=True)
    field = text("The request's field.", required=True)
    message = text("What was noticed.", required=True)
    hint = text("What to do about it.", required=True)
    line = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Line in the field, from 1, where there is one."}
    )


class RegionErrorData(Schema):
    """Why an attempt in a region failed, or what is not as it was deployed there."""

    code = text("Stable and machine-readable.", required=True)
    message = text("What went wrong.", required=True)
    retryable = fields.Boolean(required=True, metadata={"description": "Whether it will be tried again by itself."})
    next_attempt_at = Instant(metadata={"description": "When; only if it will be."})
    hint = text("What to do about it.")


class JobErrorData(Schema):
    """Why a job is not a full success."""

    code = text("Stable and machine-readable.", required=True)
    message = text("What went wrong.", required=True)
    retryable = fields.Boolean(required=True, metadata={"description": "Always false: retry the failed regions."})
    findings = fields.List(
        fields.Nested(FindingData), metadata={"description": "With `certificate_rejected`: the errors."}
    )
    findings_omitted = fields.Integer(metadata={"description": "How many more, where they would be too long."})
    findings_at = text("Where all of them are, then: a path of this API.")


class JobData(Schema):
    """A job as it is after the event."""

    job_id = text("The job.", required=True)
    certificate_id = text("What it is about.", required=True)
    kind = text("What was asked for.", required=True, validate=OneOf([kind.value for kind in JobKind]))
    state = text("The job's state.", required=True, validate=OneOf([state.value for state in JobState]))
    regions = fields.Dict(
        keys=fields.String(),
        values=fields.String(validate=OneOf([*DeploymentState, CANCELLED]), allow_none=True),
        metadata={"description": "Each region's answer to this job (`cancelled`: left as it was); with the job's end."},
    )
    listener_id = text("The listener that it was about, if it was about one; with the job's end.")
    error = fields.Nested(JobErrorData, metadata={"description": "Unless it succeeded."})


class RegionData(Schema):
    """One certificate in one region as it is after the event."""

    certificate_id = text("The certificate.", required=True)
    job_id = text("The job that works on it.", required=True)
    region = text("Region id.", required=True)
    state = text("The deployment's state.", required=True, validate=OneOf([state.value for state in DeploymentState]))
    attempt = fields.Integer(required=True, metadata={"description": "Attempts of this job so far."})
    error = fields.Nested(RegionErrorData, metadata={"description": "Why the attempt failed, or what has drifted."})


class ValidationData(Schema):
    """What validation made of an upload."""

    certificate_id = text("The certificate.", required=True)
    name = text("What it is called.", required=True)
    state = text("`valid` or `rejected`.", required=True)
    findings = fields.List(
        fields.Nested(FindingData), required=True, metadata={"description": "Errors first; may be empty."}
    )
    findings_omitted = fields.Integer(metadata={"description": "How many more, where they would be too long."})
    findings_at = text("Where all of them are, then: a path of this API.")


class ChainLinkData(Schema):
    """One certificate of what is sent."""

    position = fields.Integer(required=True, metadata={"description": "Its place as sent; 0 is the first."})
    subject = text("Its subject.", required=True)
    fingerprint_sha256 = text("In hex.", required=True)


class LackData(Schema):
    """Why a replaced certificate still matters."""

    region = text("Where; left out when it is so everywhere.")
    lack = text(
        "`new_not_ready`, `old_served`, `old_present` (held, and no listener shows it), `new_not_deployed` or "
        "`new_not_served`.",
        required=True,
        validate=OneOf([lack.value for lack in Lack]),
    )


class ExpiryData(Schema):
    """A certificate, or one of its chain or bundle, that nears its end, or is past it."""

    certificate_id = text("The certificate.", required=True)
    name = text("What it is called.", required=True)
    common_name = optional_text("The subject's common name.", required=True)
    type = text("`server` or `ca`.", required=True, validate=OneOf([kind.value for kind in CertificateType]))
    fingerprint_sha256 = optional_text("Of the certificate, in hex.", required=True)
    not_after = Instant(required=True, metadata={"description": "The last valid second of what ends."})
    threshold = fields.Integer(
        required=True, metadata={"description": "Which threshold was crossed, in days before; -1: expired."}
    )
    days_left = fields.Integer(required=True, metadata={"description": "Whole days from the event to `not_after`."})
    notified = fields.Integer(required=True, metadata={"description": "How many recipients get a mail about it."})
    chain_certificate = fields.Nested(
        ChainLinkData,
        metadata={"description": "What ends, when it is not the certificate itself but one of its chain or bundle."},
    )
    replaced_by = text("What took its place, when that is not served everywhere yet.")
    lacking = fields.List(
        fields.Nested(LackData), metadata={"description": "With `replaced_by`: where that is not so, and why."}
    )


class DeletedData(Schema):
    """A certificate that is gone from every region, its key destroyed."""

    certificate_id = text("The certificate.", required=True)
    name = text("What it was called.", required=True)
    state = text("`deleted`.", required=True)


class ReplacedData(Schema):
    """A certificate whose place new content took."""

    certificate_id = text("The certificate that was replaced.", required=True)
    replaced_by = text("The certificate in its place.", required=True)
    job_id = text("The job that did it.", required=True)


class ListenerData(Schema):
    """A listener as it is after the event."""

    listener_id = text("The listener.", required=True)
    job_id = text("The job that worked on it last.", required=True)
    certificate_id = text("Its server certificate.", required=True)
    region = text("Region id.", required=True)
    change = text("What happened to it.", required=True, validate=OneOf(["created", "changed", "deleted"]))


class TestData(Schema):
    """A try-out."""

    webhook_id = text("The endpoint that it was sent to.", required=True)


DATA: Final[dict[str, type[Schema]]] = {
    "job.queued": JobData,
    "job.succeeded": JobData,
    "job.partially_succeeded": JobData,
    "job.failed": JobData,
    "job.cancelled": JobData,
    "certificate.validated": ValidationData,
    "certificate.rejected": ValidationData,
    "certificate.expiring": ExpiryData,
    "certificate.expired": ExpiryData,
    "certificate.replaced": ReplacedData,
    "certificate.deleted": DeletedData,
    "deployment.started": RegionData,
    "deployment.succeeded": RegionData,
    "deployment.failed": RegionData,
    "deployment.retrying": RegionData,
    "deployment.removed": RegionData,
    "deployment.drifted": RegionData,
    "deployment.recovered": RegionData,
    "listener.changed": ListenerData,
    "webhook.test": TestData,
}
"""By type; a test proves the keys to be those of ``shared/events/catalogue.py`` (schemas do not import events)."""

RESERVED: Final[frozenset[str]] = frozenset()
"""Types that no code of this version sends yet; their shapes may still change."""
