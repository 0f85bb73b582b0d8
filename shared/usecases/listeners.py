"""Listeners as users ask for them: checked against certificates and region, then handed to a job."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.config.regions import Region
from shared.domain.certificates import CertificateState, CertificateType
from shared.domain.identifiers import new_id
from shared.domain.listeners import (
    FINAL_LISTENERS,
    Authentication,
    ListenerShape,
    ListenerState,
    is_host,
    uncovered_hosts,
)
from shared.domain.rollout import DeploymentState, JobKind, ServedState
from shared.domain.validation import visible
from shared.errors import Conflict, FieldError, Misconfigured, NotFound, Rejected
from shared.models import Certificate, Deployment, Job, Listener, ListenerHost
from shared.usecases import audit, jobs, serving
from shared.usecases.browsing import find_certificate
from shared.usecases.context import Context
from shared.usecases.driver_registry import build_driver
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller

Document = dict[str, Any]

_FIELDS: Final = (
    *("id", "region", "name", "hosts", "authentication", "server_certificate_id", "ca_certificate_id", "state"),
    *("change", "error", "job_id", "created_at", "updated_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewListener:
    """A well-formed request to create a listener."""

    region: str
    name: str
    hosts: tuple[str, ...]
    authentication: str
    server_certificate_id: str
    ca_certificate_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFilters:
    """What to list."""

    region: str | None = None
    certificate_id: str | None = None
    state: str | None = None
    q: str | None = None


def create_listener(
    context: Context, session: Session, caller: Caller, wanted: NewListener, *, now: datetime
) -> tuple[Job, Listener]:
    """Accept a listener; the worker binds it and proves it by a handshake.

    Raises:
        Rejected: naming every field that cannot be as it is.
        Conflict: another listener of the region answers for one of the host names.
    """
    region = context.settings.regions.get(wanted.region)
    if region is None:
        hint = f"Choose from: {', '.join(context.settings.regions)}."
        raise _rejected(
            [FieldError(field="region", code="unknown_region", message="There is no such region.", hint=hint)]
        )
    shape, faults = _shape(wanted.hosts, wanted.authentication, wanted.server_certificate_id, wanted.ca_certificate_id)
    server = _check(session, caller, region, shape, faults)
    listener_id = new_id("lsn")
    job = jobs.open_job(session, server, JobKind.CREATE_LISTENER, now=now)
    listener = Listener(
        id=listener_id,
        account_id=caller.account_id,
        region=region.id,
        name=wanted.name,
        hosts=list(shape.hosts),
        authentication=shape.authentication,
        server_certificate_id=shape.server_certificate_id,
        ca_certificate_id=shape.ca_certificate_id,
        revision=0,
        served=ServedState.NOT_CHECKED,
        fence=0,
        created_at=now,
    )
    jobs.assign_listener(session, job, listener, state=ListenerState.PENDING, now=now)
    _claim_hosts(session, caller, listener, shape.hosts)
    return _begin(session, caller, job, listener, "listener.created", now=now)


def change_listener(
    context: Context, session: Session, caller: Caller, listener_id: str, changes: dict[str, Any], *, now: datetime
) -> tuple[Job, Listener]:
    """Accept a change; what is left out stays. Served stays what is served until the change is proven.

    Raises:
        NotFound: none of that id in this account.
        Rejected: naming every field that cannot be as it is.
        Conflict: it is being worked on, or another listener answers for one of the host names.
    """
    known = find_listener(session, caller, listener_id)
    region = context.settings.regions.get(known.region)
    if region is None:
        raise Conflict(
            "The operator no longer declares the listener's region.",
            code="unknown_region",
            hint="Declare it again in the regions file, or delete the listener.",
        )
    before = serving.shape_of(known)
    authentication = changes.get("authentication", before.authentication)
    ca = changes.get("ca_certificate_id", before.ca_certificate_id)
    if authentication == Authentication.ONE_WAY and "ca_certificate_id" not in changes:
        ca = None
    shape, faults = _shape(
        changes.get("hosts", before.hosts),
        authentication,
        changes.get("server_certificate_id", before.server_certificate_id),
        ca,
    )
    server = _check(session, caller, region, shape, faults)
    listener = _idle(session, caller, listener_id)
    if serving.shape_of(listener) != before:
        raise Conflict(
            "The listener was changed meanwhile.", code="changed_meanwhile", hint="Look at it, then try again."
        )
    listener.name = changes.get("name", listener.name)
    job = jobs.open_job(session, server, JobKind.CHANGE_LISTENER, now=now)
    if listener.revision:
        listener.change = serving.shape_document(shape)
    else:
        listener.hosts, listener.authentication = list(shape.hosts), shape.authentication
        listener.server_certificate_id, listener.ca_certificate_id = (
            shape.server_certificate_id,
            shape.ca_certificate_id,
        )
        session.execute(
            delete(ListenerHost).where(ListenerHost.listener_id == listener.id, ListenerHost.host.not_in(shape.hosts))
        )
    jobs.assign_listener(session, job, listener, state=ListenerState.PENDING, now=now)
    _claim_hosts(session, caller, listener, shape.hosts)
    return _begin(session, caller, job, listener, "listener.changed", now=now)


def delete_listener(session: Session, caller: Caller, listener_id: str, *, now: datetime) -> tuple[Job, Listener]:
    """Stop serving its host names; its certificates stay in the region.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it is being worked on.
    """
    known = find_listener(session, caller, listener_id)
    server = session.get_one(Certificate, known.server_certificate_id)
    listener = _idle(session, caller, listener_id)
    job = jobs.open_job(session, server, JobKind.DELETE_LISTENER, now=now)
    jobs.assign_listener(session, job, listener, state=ListenerState.UNBINDING, now=now)
    return _begin(session, caller, job, listener, "listener.deletion_requested", now=now)


def find_listener(session: Session, caller: Caller, listener_id: str, *, lock: bool = False) -> Listener:
    """The caller's listener.

    Raises:
        NotFound: none of that id in this account, or deleted.
    """
    statement = select(Listener).where(
        Listener.id == listener_id, Listener.account_id == caller.account_id, Listener.deleted_at.is_(None)
    )
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    listener = session.execute(statement).scalar_one_or_none()
    if listener is None:
        raise NotFound("There is no such listener.", hint="GET /v1/listeners lists yours.")
    return listener


def list_listeners(session: Session, caller: Caller, filters: ListenerFilters, page: PageRequest) -> Page[Document]:
    """The account's listeners that match, newest first.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(Listener).where(Listener.account_id == caller.account_id, Listener.deleted_at.is_(None))
    if filters.region is not None:
        statement = statement.where(Listener.region == filters.region)
    if filters.state is not None:
        statement = statement.where(Listener.state == filters.state)
    if filters.certificate_id is not None:
        statement = statement.where(_uses(filters.certificate_id))
    if filters.q is not None:
        escaped = filters.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        columns = (Listener.name, func.array_to_string(Listener.hosts, "\n"))
        statement = statement.where(or_(*(column.ilike(f"%{escaped}%", escape="\\") for column in columns)))
    found = read_page(session, statement, Order(id=Listener.id, descending=True), page)
    return Page(items=[listener_document(row) for row in found.items], next_cursor=found.next_cursor)


def listener_document(listener: Listener) -> Document:
    """What is answered about a listener."""
    return {
        **{name: getattr(listener, name) for name in _FIELDS},
        "served": {
            "state": listener.served,
            "fingerprint_sha256": listener.served_fingerprint_sha256,
            "message": listener.served_message,
            "checked_at": listener.served_checked_at,
        },
    }


def must_not_be_in_use(session: Session, certificate: Certificate, *, region: str | None = None) -> None:
    """Refuse to remove what a listener shows, or shall show. The caller holds the certificate's row.

    Raises:
        Conflict: naming the listeners.
    """
    statement = select(Listener).where(Listener.deleted_at.is_(None), _uses(certificate.id))
    if region is not None:
        statement = statement.where(Listener.region == region)
    users = list(session.execute(statement.order_by(Listener.id)).scalars())
    if users:
        raise Conflict(
            f"The certificate is in use by: {', '.join(f'{user.name} ({user.region})' for user in users)}.",
            code="in_use",
            hint="Change or delete these listeners first, or replace the certificate.",
            context={"listeners": [{"id": user.id, "name": user.name, "region": user.region} for user in users]},
        )


def _uses(certificate_id: str) -> Any:
    return or_(
        Listener.server_certificate_id == certificate_id,
        Listener.ca_certificate_id == certificate_id,
        Listener.change["server_certificate_id"].astext == certificate_id,
        Listener.change["ca_certificate_id"].astext == certificate_id,
    )


def _idle(session: Session, caller: Caller, listener_id: str) -> Listener:
    listener = find_listener(session, caller, listener_id, lock=True)
    if listener.state not in FINAL_LISTENERS:
        raise Conflict(
            "Another job is at work on the listener.",
            code="busy",
            hint="Wait for that job to end, then try again.",
            context={"jobs": [listener.job_id]},
        )
    return listener


def _begin(
    session: Session, caller: Caller, job: Job, listener: Listener, action: str, *, now: datetime
) -> tuple[Job, Listener]:
    audit.note(session, caller, action, listener.id, now=now, details={"job_id": job.id})
    jobs.announce_listener(session, job, listener, now=now)
    return job, listener


def _shape(
    hosts: Sequence[str], authentication: str, server_id: str, ca_id: str | None
) -> tuple[ListenerShape, list[FieldError]]:
    """What is wanted, in canonical form, and what is wrong with it by itself."""
    names = [host.strip().lower().removesuffix(".") for host in hosts]
    faults = [
        FieldError(field=f"hosts.{position}", code="invalid_host", message=_why_no_host(name), hint=_host_hint(name))
        for position, name in enumerate(names)
        if not is_host(name)
    ]
    faults += [
        FieldError(field=f"hosts.{position}", code="duplicate", message="It is named twice.", hint="Leave it out.")
        for position, name in enumerate(names)
        if name in names[:position]
    ]
    kind = Authentication(authentication)
    if kind is Authentication.MUTUAL and ca_id is None:
        message, hint = "Mutual authentication needs a CA certificate.", "Name one of type ca in ca_certificate_id."
        faults.append(FieldError(field="ca_certificate_id", code="ca_required", message=message, hint=hint))
    if kind is Authentication.ONE_WAY and ca_id is not None:
        message, hint = "One-way authentication takes no CA certificate.", "Leave it out, or choose mutual."
        faults.append(FieldError(field="ca_certificate_id", code="ca_not_allowed", message=message, hint=hint))
    shape = ListenerShape(
        hosts=tuple(sorted(set(names))), authentication=kind, server_certificate_id=server_id, ca_certificate_id=ca_id
    )
    return shape, faults


def _why_no_host(name: str) -> str:
    return f"{visible(name)} is not a DNS name of at least two labels in ASCII (RFC 6066 §3: no addresses)."


def _host_hint(name: str) -> str:
    if name.isascii():
        return "Give a name such as shop.example.com or *.example.com."
    try:
        return f"Write it as {name.encode('idna').decode('ascii')}."
    except UnicodeError:
        return "Write it in ASCII, as an A-label (xn--…)."


def _check(
    session: Session, caller: Caller, region: Region, shape: ListenerShape, faults: list[FieldError]
) -> Certificate:
    """Everything about certificates and region; takes the certificates' rows, so that none is removed meanwhile."""
    faults += _region_faults(region, shape)
    found = {}
    wanted = {"server_certificate_id": shape.server_certificate_id, "ca_certificate_id": shape.ca_certificate_id}
    for field, certificate_id in sorted(wanted.items(), key=lambda item: item[1] or ""):
        if certificate_id is not None:
            kind = CertificateType.SERVER if field.startswith("server") else CertificateType.CA
            found[field] = _certificate(session, caller, region, field, certificate_id, kind=kind, faults=faults)
    server = found["server_certificate_id"]
    if server is not None and (server.state, server.type) == (CertificateState.VALID, CertificateType.SERVER):
        missing = uncovered_hosts([host for host in shape.hosts if is_host(host)], server.names)
        if missing:
            faults.append(
                FieldError(
                    field="hosts",
                    code="host_not_covered",
                    message=f"The certificate is not valid for {', '.join(missing)};"
                    f" it covers {', '.join(server.names) or 'no name'}.",
                    hint="Leave these names out, or use a certificate that has them.",
                )
            )
    if faults or server is None:
        raise _rejected(faults)
    return server


def _region_faults(region: Region, shape: ListenerShape) -> list[FieldError]:
    problem = _listener_problem(region, shape)
    if problem is None:
        return []
    message, hint = problem
    return [FieldError(field="region", code="listeners_not_supported", message=message, hint=hint)]


def _listener_problem(region: Region, shape: ListenerShape) -> tuple[str, str] | None:
    try:
        able = build_driver(region).capabilities
    except Misconfigured:
        return f"The region {region.id} cannot be asked what it can do.", "Tell the operator: its driver does not load."
    if not able.listeners:
        return f"The region {region.id} only takes files; its listeners are not ours to set.", "Choose another region."
    if shape.authentication is Authentication.MUTUAL and not able.mutual_auth:
        return f"The region {region.id} has no mutual authentication.", "Choose one_way, or another region."
    if region.listener_address is None:
        hint = "Tell the operator to set listener_address in the regions file."
        return f"The region {region.id} has no listener address, so nothing can be proven there.", hint
    return None


def _certificate(
    session: Session,
    caller: Caller,
    region: Region,
    field: str,
    certificate_id: str,
    *,
    kind: CertificateType,
    faults: list[FieldError],
) -> Certificate | None:
    """The certificate, its row taken; ``None`` (and a fault) when it cannot be used there."""
    try:
        certificate = find_certificate(session, caller, certificate_id, lock=True)
    except NotFound:
        message, hint = "There is no such certificate.", "GET /v1/certificates lists yours."
        faults.append(FieldError(field=field, code="unknown_certificate", message=message, hint=hint))
        return None
    fault = _certificate_fault(session, certificate, region, kind)
    if fault is not None:
        code, message, hint = fault
        faults.append(FieldError(field=field, code=code, message=message, hint=hint))
    return certificate


def _certificate_fault(
    session: Session, certificate: Certificate, region: Region, kind: CertificateType
) -> tuple[str, str, str] | None:
    if certificate.type != kind:
        return "wrong_type", f"It is of type {certificate.type}.", f"Name a certificate of type {kind}."
    if certificate.state != CertificateState.VALID:
        hint = "Wait for its job, or look at its findings."
        return "certificate_not_valid", f"The certificate is {certificate.state}.", hint
    if certificate.replaced_by_id is not None:
        return "certificate_replaced", "It has been replaced.", f"Use {certificate.replaced_by_id}."
    statement = select(Deployment.id).where(
        Deployment.certificate_id == certificate.id,
        Deployment.region == region.id,
        Deployment.state == DeploymentState.DEPLOYED,
    )
    if session.execute(statement).first() is None:
        hint = f"Deploy it first: POST /v1/certificates/{certificate.id}/deployments."
        return "certificate_not_in_region", f"The region {region.id} does not have it.", hint
    return None


def _claim_hosts(session: Session, caller: Caller, listener: Listener, hosts: Sequence[str]) -> None:
    """One listener a host name and region; in order, so that two requests never wait for each other in a circle."""
    _take_names(session, listener.region)
    rows = [{"region": listener.region, "host": host, "listener_id": listener.id} for host in sorted(hosts)]
    session.execute(insert(ListenerHost).values(rows).on_conflict_do_nothing())
    statement = (
        select(ListenerHost.host, Listener.id, Listener.account_id)
        .join(Listener, Listener.id == ListenerHost.listener_id)
        .where(
            ListenerHost.region == listener.region,
            ListenerHost.host.in_(hosts),
            ListenerHost.listener_id != listener.id,
        )
    )
    taken = [*session.execute(statement.order_by(ListenerHost.host)).all(), *_overlapping(session, listener, hosts)]
    if taken:
        own = sorted({row[1] for row in taken if row[2] == caller.account_id})
        raise Conflict(
            f"Another listener of the region answers for {', '.join(row[0] for row in taken)}.",
            code="host_taken",
            hint=f"Change or delete {', '.join(own)} first." if own else "Choose other names, or another region.",
            context={"hosts": [row[0] for row in taken], "listeners": own},
        )


def _take_names(session: Session, region: str) -> None:
    """Names of a region are given out by one transaction at a time: overlaps are no matter of a unique key."""
    key = int.from_bytes(hashlib.sha256(f"names/{region}".encode()).digest()[:8], "big", signed=True)
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _overlapping(session: Session, listener: Listener, hosts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Other accounts' names that a wildcard of ours would cover, or whose wildcard covers ours.

    Otherwise somebody could take another's clients by naming a host more exactly.
    """
    above = {f"*.{host.split('.', depth)[-1]}" for host in hosts for depth in range(1, host.count("."))}
    below = [ListenerHost.host.endswith(host[1:], autoescape=True) for host in hosts if host.startswith("*.")]
    statement = (
        select(ListenerHost.host, Listener.id, Listener.account_id)
        .join(Listener, Listener.id == ListenerHost.listener_id)
        .where(
            ListenerHost.region == listener.region,
            Listener.account_id != listener.account_id,
            or_(ListenerHost.host.in_(sorted(above)), *below),
        )
    )
    return [(row[0], row[1], row[2]) for row in session.execute(statement.order_by(ListenerHost.host)).all()]


def _rejected(faults: Sequence[FieldError]) -> Rejected:
    return Rejected("The listener cannot be as it is asked for.", errors=tuple(faults))
