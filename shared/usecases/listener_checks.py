"""What is wrong with a listener as it is asked for: its names, its region, its certificates. All of it, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.config.regions import Region, is_region_id
from shared.domain.certificates import CertificateState, CertificateType
from shared.domain.listeners import Authentication, ListenerShape, is_host, uncovered_hosts
from shared.domain.rollout import DeploymentState
from shared.domain.validation import visible
from shared.errors import FieldError, Misconfigured, NotFound, Rejected
from shared.models import Certificate, Deployment
from shared.usecases.browsing import find_certificate
from shared.usecases.context import Context
from shared.usecases.driver_registry import build_driver
from shared.usecases.tokens import Caller

SERVER: Final = "server_certificate_id"
CA: Final = "ca_certificate_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A listener in the caller's words; ``kept`` are the certificates that it has already."""

    region: str
    hosts: Sequence[str]
    authentication: str
    server_certificate_id: str
    ca_certificate_id: str | None
    kept: frozenset[str] = frozenset()


def check_listener(
    context: Context, session: Session, caller: Caller, asked: Asked
) -> tuple[ListenerShape, list[Certificate]]:
    """What is wanted in canonical form, and its certificates, the server's first.

    Their rows are taken, so that none is removed, replaced or taken out of the region before the listener has it.

    Raises:
        Rejected: naming every field that cannot be as it is.
    """
    names = [host.strip().lower().removesuffix(".") for host in asked.hosts]
    shape = ListenerShape(
        hosts=tuple(sorted(set(names))),
        authentication=Authentication(asked.authentication),
        server_certificate_id=asked.server_certificate_id,
        ca_certificate_id=asked.ca_certificate_id,
    )
    region = context.settings.regions.get(asked.region)
    found = _take_certificates(session, caller, shape)
    faults = [
        *_host_faults(names),
        *_authentication_faults(shape),
        *(_region_faults(region, shape) if region else [_unknown_region(context, asked.region)]),
        *_certificate_faults(found, shape, lambda one: _why_unfit(session, one, region, kept=asked.kept)),
        *_cover_faults(found[SERVER], shape),
    ]
    if faults:
        raise Rejected("The listener cannot be as it is asked for.", errors=tuple(faults))
    return shape, [one for one in found.values() if one is not None]


def _take_certificates(session: Session, caller: Caller, shape: ListenerShape) -> dict[str, Certificate | None]:
    """By field, ``None`` where there is none of that id; locked in order of id."""
    ids = {SERVER: shape.server_certificate_id, CA: shape.ca_certificate_id}
    taken: dict[str, Certificate | None] = {SERVER: None}
    for field, certificate_id in sorted(ids.items(), key=lambda item: item[1] or ""):
        if certificate_id is None:
            continue
        try:
            taken[field] = find_certificate(session, caller, certificate_id, lock=True)
        except NotFound:
            taken[field] = None
    return taken


def _host_faults(names: Sequence[str]) -> Iterator[FieldError]:
    for position, name in enumerate(names):
        field = f"hosts.{position}"
        if not is_host(name):
            message = f"{visible(name)} is not a DNS name of at least two labels in ASCII (RFC 6066 §3: no addresses)."
            yield FieldError(field=field, code="invalid_host", message=message, hint=_host_hint(name))
        if name in names[:position]:
            yield FieldError(field=field, code="duplicate", message="It is named twice.", hint="Leave it out.")


def _host_hint(name: str) -> str:
    """Python's codec is IDNA 2003, which spells a few names (those with ß) as another domain: these are left to you."""
    if name.isascii():
        return "Give a name such as shop.example.com or *.example.com."
    try:
        label = name.encode("idna").decode("ascii")
        is_the_same = label.encode("ascii").decode("idna") == name
    except UnicodeError:
        is_the_same = False
    if is_the_same and is_host(label):
        return f"Write it as {label}."
    return "Write it in ASCII, as an A-label (xn--…)."


def _authentication_faults(shape: ListenerShape) -> Iterator[FieldError]:
    is_mutual = shape.authentication is Authentication.MUTUAL
    if is_mutual and shape.ca_certificate_id is None:
        message, hint = "Mutual authentication needs a CA certificate.", "Name one of type ca in ca_certificate_id."
        yield FieldError(field=CA, code="ca_required", message=message, hint=hint)
    if not is_mutual and shape.ca_certificate_id is not None:
        message, hint = "One-way authentication takes no CA certificate.", "Leave it out, or choose mutual."
        yield FieldError(field=CA, code="ca_not_allowed", message=message, hint=hint)


def _unknown_region(context: Context, region_id: str) -> FieldError:
    return FieldError(
        field="region",
        code="unknown_region",
        message=f"There is no region {region_id!r}." if is_region_id(region_id) else "This is not a region's id.",
        hint=f"Choose from: {', '.join(context.settings.regions)}.",
    )


def _region_faults(region: Region, shape: ListenerShape) -> Iterator[FieldError]:
    try:
        able = build_driver(region).capabilities
    except Misconfigured:
        message, hint = f"The driver of the region {region.id} cannot be asked what it can do.", "Tell the operator."
        yield _not_supported("region", message, hint)
        return
    if not able.listeners:
        message = f"The region {region.id} only takes files; its listeners are not ours to set."
        yield _not_supported("region", message, "Choose another region.")
    elif shape.authentication is Authentication.MUTUAL and not able.mutual_auth:
        message = f"The region {region.id} has no mutual authentication."
        yield _not_supported("authentication", message, "Choose one_way, or another region.")
    if able.listeners and region.listener_address is None:
        message = f"The region {region.id} has no listener address, so nothing can be proven there."
        yield _not_supported("region", message, "Tell the operator to set listener_address in the regions file.")


def _not_supported(field: str, message: str, hint: str) -> FieldError:
    return FieldError(field=field, code="listeners_not_supported", message=message, hint=hint)


def _certificate_faults(
    found: dict[str, Certificate | None],
    shape: ListenerShape,
    why_unfit: Callable[[Certificate], tuple[str, str, str] | None],
) -> Iterator[FieldError]:
    kinds = {SERVER: CertificateType.SERVER, CA: CertificateType.CA}
    asked = {SERVER: shape.server_certificate_id, CA: shape.ca_certificate_id}
    for field, kind in kinds.items():
        certificate = found.get(field)
        if asked[field] is None:
            continue
        if certificate is None:
            fault = "unknown_certificate", "There is no such certificate.", "GET /v1/certificates lists yours."
        elif certificate.type != kind:
            fault = "wrong_type", f"It is of type {certificate.type}.", f"Name a certificate of type {kind}."
        else:
            unfit = why_unfit(certificate)
            if unfit is None:
                continue
            fault = unfit
        code, message, hint = fault
        yield FieldError(field=field, code=code, message=message, hint=hint)


def _why_unfit(
    session: Session, certificate: Certificate, region: Region | None, *, kept: frozenset[str]
) -> tuple[str, str, str] | None:
    """Code, message and hint. A region whose replacement failed stays on the old certificate: that one may be kept."""
    if certificate.state != CertificateState.VALID:
        hint = "Wait for its job, or look at its findings."
        return "certificate_not_valid", f"The certificate is {certificate.state}.", hint
    if certificate.replaced_by_id is not None and certificate.id not in kept:
        return "certificate_replaced", "It has been replaced.", f"Use {certificate.replaced_by_id}."
    if region is None:
        return None
    statement = select(Deployment.id).where(
        Deployment.certificate_id == certificate.id,
        Deployment.region == region.id,
        Deployment.state == DeploymentState.DEPLOYED,
    )
    if session.execute(statement).first() is None:
        hint = f"Deploy it first: POST /v1/certificates/{certificate.id}/deployments."
        return "certificate_not_in_region", f"The region {region.id} does not have it.", hint
    return None


def _cover_faults(server: Certificate | None, shape: ListenerShape) -> Iterator[FieldError]:
    if server is None or (server.state, server.type) != (CertificateState.VALID, CertificateType.SERVER):
        return
    missing = uncovered_hosts([host for host in shape.hosts if is_host(host)], server.names)
    if missing:
        covered = ", ".join(server.names) or "no name"
        yield FieldError(
            field="hosts",
            code="host_not_covered",
            message=f"The certificate is not valid for {', '.join(missing)}; it covers {covered}.",
            hint="Leave these names out, or use a certificate that has them.",
        )
