"""Shapes of requests and answers about certificates. Shape only: what PEM is worth is validation's to say."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf

from shared.domain.certificates import CertificateSource, CertificateState, CertificateType
from shared.domain.rollout import DeploymentState
from shared.schemas.base import (
    Answer,
    Body,
    Instant,
    PageQuery,
    email,
    instant,
    optional_text,
    printable,
    text,
    unique,
)
from shared.schemas.errors import ErrorOut, FindingOut
from shared.schemas.faults import Fault, refuse
from shared.schemas.jobs import JobOut
from shared.schemas.managed import renewal_lead
from shared.schemas.reminders import reminder_thresholds

MAX_REGIONS: Final = 200
MAX_CONTACTS: Final = 20
MAX_TAGS: Final = 50
MAX_NAME: Final = 128
MAX_URL: Final = 2048

_AS_THE_ACCOUNT: Final = "null: as the account says."

SORTS: Final = ("created", "-created", "name", "-name", "expires", "-expires")
STATES: Final = tuple(
    [state.value for state in CertificateState if state is not CertificateState.DELETED]
    + [state.value for state in DeploymentState]
)
"""A certificate's own states and its deployments'; no word is in both. What is deleted is gone."""


def _regions(**options: Any) -> fields.List[str]:
    return fields.List(
        fields.String(validate=Length(1, 64)),
        validate=(Length(1, MAX_REGIONS), unique),
        metadata={"description": "Region ids, from GET /v1/regions.", "example": ["cn-hangzhou"]},
        **options,
    )


def _contacts(**options: Any) -> fields.List[str]:
    return fields.List(
        fields.String(validate=email),
        validate=Length(0, MAX_CONTACTS),
        metadata={"description": "Who is told before it expires.", "example": ["ops@example.com"]},
        **options,
    )


def certificate_tags(description: str, *, example: dict[str, str], **options: Any) -> fields.Dict:
    """Tags as a certificate may have them."""
    return fields.Dict(
        keys=fields.String(validate=printable(at_most=64)),
        values=fields.String(validate=printable(at_least=0, at_most=256)),
        validate=Length(0, MAX_TAGS),
        metadata={"description": description, "example": example},
        **options,
    )


def _tags(**options: Any) -> fields.Dict:
    return certificate_tags("Your own words about it.", example={"team": "web"}, **options)


def _name(**options: Any) -> fields.String:
    return fields.String(
        validate=printable(at_most=MAX_NAME),
        metadata={"description": "What to call it; the common name if left out.", "example": "shop.example.com"},
        **options,
    )


def web_url(value: str) -> None:
    """A validator: an absolute http(s) URL without credentials. Whether it may be called is decided later."""
    hint = f"Give an absolute http or https URL of at most {MAX_URL} characters, without user name and password."
    try:
        parts = urlsplit(value)
        is_absolute = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_absolute = False
    visible = value.isprintable() and " " not in value and "\\" not in value
    if not is_absolute or not visible or len(value) > MAX_URL or "@" in parts.netloc:
        raise refuse("invalid_url", "It is not an absolute http or https URL.", hint=hint)


class UploadIn(Body):
    """What ``POST /v1/certificates/validate`` takes: faults of the content are findings, not refusals."""

    name = _name(load_default=None, allow_none=True)
    source = fields.String(
        required=True,
        validate=OneOf([source.value for source in CertificateSource]),
        metadata={"description": "`third_party`: uploaded. `managed`: picked from a certificate service."},
    )
    type = fields.String(
        required=True,
        validate=OneOf([kind.value for kind in CertificateType]),
        metadata={"description": "`server`: chain and key. `ca`: CA certificates for mutual TLS, no key."},
    )
    certificate = fields.String(
        load_default=None,
        allow_none=True,
        metadata={"description": "PEM: the server certificate, then its intermediates; or the CA certificates."},
    )
    private_key = fields.String(
        load_default=None, allow_none=True, metadata={"description": "PEM, unencrypted; server only."}
    )
    managed_certificate_id = fields.String(
        load_default=None,
        allow_none=True,
        validate=printable(at_most=128),
        metadata={
            "description": "Which certificate of a certificate service (GET /v1/managed-certificates); managed only.",
            "example": "local-ca:lc-5d41402abc4b2a76b971",
        },
    )
    regions = _regions(load_default=list)
    callback_url = fields.String(
        load_default=None,
        allow_none=True,
        validate=web_url,
        metadata={"description": "Receives this job's events, signed.", "example": "https://ci.example.com/hook"},
    )
    contacts = _contacts(load_default=list)
    reminder_thresholds = reminder_thresholds(_AS_THE_ACCOUNT, load_default=None)
    tags = _tags(load_default=dict)

    @validates_schema(skip_on_field_errors=False)
    def _fields_fit_the_source(self, data: dict[str, Any], **_options: Any) -> None:
        faults = forbidden_fields(data)
        if faults:
            raise ValidationError(faults)


def forbidden_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Fields that contradict ``source``; field to faults."""
    forbidden = {
        CertificateSource.THIRD_PARTY.value: ("managed_certificate_id",),
        CertificateSource.MANAGED.value: ("certificate", "private_key"),
    }.get(data.get("source", ""), ())
    return {
        name: [
            Fault(
                code="field_not_allowed",
                message=f"Source {data['source']} does not take {name}.",
                hint="Leave the field out, or change source.",
            )
        ]
        for name in forbidden
        if data.get(name) is not None
    }


class CertificateIn(UploadIn):
    """What ``POST /v1/certificates`` takes."""

    regions = _regions(required=True)

    @validates_schema(skip_on_field_errors=False)
    def _content_fits_the_type(self, data: dict[str, Any], **_options: Any) -> None:
        managed = data.get("source") == CertificateSource.MANAGED
        faults = _managed_faults(data) if managed else _uploaded_faults(data)
        if faults:
            raise ValidationError(faults)


def _managed_faults(data: dict[str, Any]) -> dict[str, Any]:
    faults: dict[str, Any] = {}
    if data.get("type") == CertificateType.CA:
        faults["type"] = [
            Fault(
                code="managed_source_is_server_only",
                message="Certificate services offer server certificates only, and this request has type ca.",
                hint="Use source third_party for type ca.",
            )
        ]
    if data.get("managed_certificate_id") is None:
        faults["managed_certificate_id"] = [_missing("Name the certificate of the service.")]
    return faults


def _uploaded_faults(data: dict[str, Any]) -> dict[str, Any]:
    faults: dict[str, Any] = {}
    if data.get("source") is not None and data.get("certificate") is None:
        faults["certificate"] = [_missing("Paste the certificate's PEM text.")]
    if data.get("type") == CertificateType.SERVER and data.get("private_key") is None:
        faults["private_key"] = [
            Fault(
                code="private_key_required",
                message="A server certificate needs its private key.",
                hint="Paste the .key file that was made together with the certificate's request into private_key.",
            )
        ]
    if data.get("type") == CertificateType.CA and (data.get("private_key") or "").strip():
        faults["private_key"] = [
            Fault(
                code="private_key_not_allowed",
                message="A CA certificate takes no private key.",
                hint="Remove the key. If it was sent anywhere by mistake, treat it as disclosed.",
            )
        ]
    return faults


def _missing(hint: str) -> Fault:
    return Fault(code="missing_field", message="This field is required.", hint=hint)


class ReplacementIn(Body):
    """New content for a certificate."""

    certificate = fields.String(
        required=True,
        metadata={"description": "PEM: the server certificate, then its intermediates; or CA certificates."},
    )
    private_key = fields.String(
        load_default=None, allow_none=True, metadata={"description": "PEM, unencrypted; server only."}
    )
    callback_url = fields.String(
        load_default=None,
        allow_none=True,
        validate=web_url,
        metadata={"description": "Receives this job's events, signed.", "example": "https://ci.example.com/hook"},
    )


class RenewalIn(Body):
    """What a renewal takes: nothing is needed."""

    callback_url = fields.String(
        load_default=None,
        allow_none=True,
        validate=web_url,
        metadata={"description": "Receives this job's events, signed.", "example": "https://ci.example.com/hook"},
    )


class CertificatePatchIn(Body):
    """What may be changed about a certificate; the content never."""

    name = _name()
    contacts = _contacts()
    tags = _tags()
    reminders_muted = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "True: nobody is reminded of its expiry."}
    )
    reminder_thresholds = reminder_thresholds(_AS_THE_ACCOUNT)
    auto_renew = fields.Boolean(
        allow_none=True,
        truthy={True},
        falsy={False},
        metadata={"description": "Managed: renew it without being asked to; null: as the account says."},
    )
    renew_before_days = renewal_lead(
        "How many days before its end; null: as the account says, else a third of its life."
    )


class RegionsIn(Body):
    """More regions for a certificate."""

    regions = _regions(required=True)


class CertificateQuery(PageQuery):
    """Filters of the list of certificates."""

    type = fields.String(
        load_default=None,
        validate=OneOf([kind.value for kind in CertificateType]),
        metadata={"description": "Only certificates of this type."},
    )
    region = fields.String(
        load_default=None,
        validate=Length(1, 64),
        metadata={"description": "Only what this region has, or should have."},
    )
    state = fields.String(
        load_default=None,
        validate=OneOf(STATES),
        metadata={"description": "A state of the certificate, or of any of its deployments."},
    )
    expires_before = Instant(load_default=None, metadata={"description": "Only what expires before: a time or a date."})
    q = fields.String(
        load_default=None,
        validate=Length(1, 200),
        metadata={"description": "Part of the name, the common name or any name it is valid for."},
    )
    sort = fields.String(
        load_default="-created", validate=OneOf(SORTS), metadata={"description": "By what; - is downwards."}
    )


class ServedOut(Answer):
    """What clients really get, by the last handshake."""

    state = text("not_checked, match, mismatch or unreachable.")
    checked_at = instant("When it was last looked at.")


class DriftOut(Answer):
    """What is not as it was deployed."""

    code = text("served_mismatch, unreachable, missing, altered or access.")
    message = text("What is wrong, and what is there instead.")
    since = instant("When it was first seen.")


class DeploymentOut(Answer):
    """A certificate in one region."""

    region = text("Region id.")
    state = text("pending, deploying, deployed, failed, removing or removed.")
    intent = text("What the current job wants: deploy or remove.")
    attempt = fields.Integer(metadata={"description": "Attempts of the current job."})
    error = fields.Nested(ErrorOut, allow_none=True)
    remote_id = optional_text("What the load balancer calls it.")
    evidence = fields.Dict(allow_none=True, metadata={"description": "What was read back from the region."})
    served = fields.Nested(ServedOut)
    drift = fields.Nested(
        DriftOut, allow_none=True, metadata={"description": "What is not as it was deployed; null while all is well."}
    )
    job_id = text("The job that last worked on it.")
    deployed_at = instant("When the region was last seen to hold it.")
    updated_at = instant("When any of this changed.")


class ChainOut(Answer):
    """One certificate of the chain, as it says of itself."""

    common_name = optional_text("Subject common name.")
    names = fields.List(fields.String(), metadata={"description": "DNS names and addresses it is valid for."})
    subject = text("Subject distinguished name.")
    issuer = text("Issuer distinguished name.")
    serial = text("Lower-case hex.")
    not_before = instant("First valid second.")
    not_after = instant("Last valid second.")
    key_algorithm = text("As in a region's key policy.")
    signature_hash = optional_text("Hash of the issuer's signature.")
    fingerprint_sha1 = text("Lower-case hex of the DER.")
    fingerprint_sha256 = text("Lower-case hex of the DER.")
    is_ca = fields.Boolean(
        allow_none=True, metadata={"description": "basicConstraints cA; null without that extension."}
    )
    is_self_signed = fields.Boolean(metadata={"description": "Whether it verifies with its own key."})


class RemindersOut(Answer):
    """What people have answered to a certificate's reminders."""

    muted = fields.Boolean(metadata={"description": "True: nobody is reminded of its expiry."})
    acknowledged_at = instant("When somebody said that it is taken care of.")
    acknowledged_by = optional_text("Token id, or `mailto:` and the address of who answered a mail.")
    snoozed_until = instant("No reminders before; never later than three days before its end.")
    snoozed_by = optional_text("Token id, or `mailto:` and the address of who answered a mail.")
    held_until = instant("Until when acknowledgement or snooze hold reminders back; they come again from then on.")


class CertificateOut(Answer):
    """A certificate. The facts are null until it has been validated. Never a key."""

    id = text("Certificate id.")
    name = text("What it is called.")
    type = text("server or ca.")
    source = text("third_party or managed.")
    managed_certificate_id = optional_text("Managed: which certificate of the certificate service it is.")
    state = text("validating, valid, rejected or deleting.")
    common_name = optional_text("Subject common name.")
    names = fields.List(fields.String(), metadata={"description": "DNS names and addresses it is valid for."})
    subject = optional_text("Subject distinguished name.")
    issuer = optional_text("Issuer distinguished name.")
    serial = optional_text("Lower-case hex.")
    not_before = instant("First valid second.")
    not_after = instant("Last valid second.")
    key_algorithm = optional_text("As in a region's key policy.")
    fingerprint_sha1 = optional_text("Lower-case hex of the DER.")
    fingerprint_sha256 = optional_text("Lower-case hex of the DER.")
    chain = fields.List(fields.Nested(ChainOut))
    findings = fields.List(fields.Nested(FindingOut))
    contacts = fields.List(fields.String(), metadata={"description": "Who is told before it expires."})
    tags = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "Your own words about it."}
    )
    reminders_muted = fields.Boolean(metadata={"description": "True: nobody is reminded of its expiry."})
    reminder_thresholds = fields.List(
        fields.Integer(),
        allow_none=True,
        metadata={"description": "Days before the end, farthest first; null: as the account says."},
    )
    reminders = fields.Nested(RemindersOut)
    auto_renew = fields.Boolean(
        allow_none=True, metadata={"description": "Renewed without being asked to; null: as the account says."}
    )
    renew_before_days = fields.Integer(
        allow_none=True, metadata={"description": "How many days before its end; null: as the account says."}
    )
    replaces = optional_text("The certificate whose place it took.")
    replaced_by = optional_text("The certificate that took its place.")
    created_at = instant("When it was submitted.")
    deployments = fields.List(fields.Nested(DeploymentOut))


class CertificatePage(Answer):
    """One page of certificates."""

    items = fields.List(fields.Nested(CertificateOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")


class AcceptedOut(Answer):
    """A job and what it is about."""

    job = fields.Nested(JobOut)
    certificate = fields.Nested(CertificateOut)


class ReportOut(Answer):
    """What validation says; nothing was stored."""

    valid = fields.Boolean(metadata={"description": "No finding is an error."})
    findings = fields.List(fields.Nested(FindingOut))
    summary = text("One sentence.")
    regions = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.Nested(FindingOut)),
        metadata={"description": "What each region asked about says by itself; present when regions were named."},
    )
