"""Listeners as users ask for them: checked against certificates and region, then handed to a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import false, func, or_, select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateType
from shared.domain.identifiers import new_id
from shared.domain.listeners import FINAL_LISTENERS, Authentication, ListenerShape, ListenerState
from shared.domain.rollout import FINAL_JOBS, JobKind, ServedState
from shared.errors import Conflict, NotFound
from shared.models import Certificate, Job, Listener
from shared.usecases import audit, jobs, serving, webhooks
from shared.usecases.busy import busy
from shared.usecases.context import Context
from shared.usecases.listener_checks import Asked, check_listener
from shared.usecases.listener_names import claim_hosts
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.replacement import must_not_be_replaced
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
    callback_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFilters:
    """What to list."""

    region: str | None = None
    certificate_id: str | None = None
    state: str | None = None
    served: str | None = None
    q: str | None = None


def create_listener(
    context: Context, session: Session, caller: Caller, wanted: NewListener, *, now: datetime
) -> tuple[Job, Listener]:
    """Accept a listener; the worker binds it and proves it by a handshake.

    Raises:
        Rejected: naming every field that cannot be as it is, or a callback URL that may never be called.
        Conflict: another listener of the region answers for one of the host names.
    """
    asked = Asked(
        region=wanted.region,
        hosts=wanted.hosts,
        authentication=wanted.authentication,
        server_certificate_id=wanted.server_certificate_id,
        ca_certificate_id=wanted.ca_certificate_id,
    )
    shape, certificates = check_listener(context, session, caller, asked)
    job = jobs.open_job(session, certificates[0], JobKind.CREATE_LISTENER, now=now)
    listener = _new_listener(caller, wanted, shape, now=now)
    jobs.assign_listener(session, job, listener, state=ListenerState.PENDING, now=now)
    claim_hosts(session, listener, shape.hosts)
    if wanted.callback_url is not None:
        webhooks.add_callback(
            session,
            account_id=caller.account_id,
            job_id=job.id,
            url=wanted.callback_url,
            now=now,
            allowed_networks=context.settings.webhook_allowed_networks,
        )
    return _begin(session, caller, job, listener, "listener.created", now=now)


def change_listener(
    context: Context, session: Session, caller: Caller, listener_id: str, changes: dict[str, Any], *, now: datetime
) -> tuple[Job, Listener]:
    """Accept a change; what is left out stays. Served stays what is served until the change is proven.

    Raises:
        NotFound: none of that id in this account.
        Rejected: naming every field that cannot be as it is.
        Conflict: it or a certificate that it keeps is being worked on, or another listener of the region answers for
            one of the host names.
    """
    known = find_listener(session, caller, listener_id)
    if known.region not in context.settings.regions:
        raise Conflict(
            "The operator no longer declares the listener's region.",
            code="unknown_region",
            hint="Declare it again in the regions file.",
        )
    before = serving.shape_of(known)
    shape, certificates = check_listener(context, session, caller, _asked(known.region, before, changes))
    listener = _idle(session, caller, listener_id, before=before, certificates=certificates)
    listener.name = changes.get("name", listener.name)
    job = jobs.open_job(session, certificates[0], JobKind.CHANGE_LISTENER, now=now)
    _want(listener, shape)
    jobs.assign_listener(session, job, listener, state=ListenerState.PENDING, now=now)
    claim_hosts(session, listener, shape.hosts)
    return _begin(session, caller, job, listener, "listener.changed", now=now)


def delete_listener(session: Session, caller: Caller, listener_id: str, *, now: datetime) -> tuple[Job, Listener]:
    """Stop serving its host names; its certificates stay in the region.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it or one of its certificates is being worked on.
    """
    before = serving.shape_of(find_listener(session, caller, listener_id))
    statement = select(Certificate).where(Certificate.id.in_(serving.certificates_of(before))).order_by(Certificate.id)
    certificates = list(session.execute(statement.with_for_update(key_share=True)).scalars())
    listener = _idle(session, caller, listener_id, before=before, certificates=certificates)
    server = session.get_one(Certificate, before.server_certificate_id)
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
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
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
    if filters.served is not None:
        statement = statement.where(Listener.served == filters.served)
    if filters.certificate_id is not None:
        statement = statement.where(_uses(filters.certificate_id))
    if filters.q is not None:
        escaped = filters.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        columns = (Listener.name, func.array_to_string(Listener.hosts, "\n"))
        statement = statement.where(or_(*(column.ilike(f"%{escaped}%", escape="\\") for column in columns)))
    found = read_page(session, statement, Order(id=Listener.id, descending=True), page)
    return Page(items=[listener_document(row) for row in found.items], next_cursor=found.next_cursor)


def users_of(session: Session, caller: Caller, certificate_ids: Iterable[str]) -> dict[str, list[Document]]:
    """By certificate, the account's listeners that show it or ask for its clients, or shall: who would lose it."""
    found: dict[str, list[Document]] = {certificate_id: [] for certificate_id in certificate_ids}
    uses = or_(false(), *(_uses(certificate_id) for certificate_id in found))
    statement = select(Listener).where(Listener.account_id == caller.account_id, Listener.deleted_at.is_(None), uses)
    for row in session.execute(statement.order_by(Listener.region, Listener.id)).scalars():
        used = set(serving.certificates_of(serving.shape_of(row))) | _wanted(row)
        for certificate_id in sorted(used & found.keys()):
            found[certificate_id].append(listener_document(row))
    return found


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


def _wanted(listener: Listener) -> set[str]:
    """The certificates of the change that is under way."""
    change = listener.change or {}
    return {change[name] for name in ("server_certificate_id", "ca_certificate_id") if change.get(name)}


def _uses(certificate_id: str) -> Any:
    return or_(
        Listener.server_certificate_id == certificate_id,
        Listener.ca_certificate_id == certificate_id,
        Listener.change["server_certificate_id"].astext == certificate_id,
        Listener.change["ca_certificate_id"].astext == certificate_id,
    )


def _new_listener(caller: Caller, wanted: NewListener, shape: ListenerShape, *, now: datetime) -> Listener:
    listener = Listener(
        id=new_id("lsn"),
        account_id=caller.account_id,
        region=wanted.region,
        name=wanted.name,
        revision=0,
        served=ServedState.NOT_CHECKED,
        fence=0,
        created_at=now,
    )
    _want(listener, shape)
    return listener


def _asked(region: str, before: ListenerShape, changes: dict[str, Any]) -> Asked:
    """The whole listener with the changes; one that becomes one-way loses its CA without a word about it."""
    authentication = changes.get("authentication", before.authentication)
    ca = None if authentication == Authentication.ONE_WAY else before.ca_certificate_id
    return Asked(
        region=region,
        hosts=changes.get("hosts", before.hosts),
        authentication=authentication,
        server_certificate_id=changes.get("server_certificate_id", before.server_certificate_id),
        ca_certificate_id=changes.get("ca_certificate_id", ca),
        kept=frozenset(serving.certificates_of(before)),
    )


def _want(listener: Listener, shape: ListenerShape) -> None:
    """What was never bound is what is wanted; what is bound goes on being served as it is."""
    if listener.revision:
        listener.change = serving.shape_document(shape)
        return
    listener.hosts = list(shape.hosts)
    listener.authentication = shape.authentication
    listener.server_certificate_id = shape.server_certificate_id
    listener.ca_certificate_id = shape.ca_certificate_id


def _idle(
    session: Session, caller: Caller, listener_id: str, *, before: ListenerShape, certificates: list[Certificate]
) -> Listener:
    """The listener, its row taken after the certificates', as nobody is at work on any of them.

    While a certificate is being replaced, the worker moves its listeners and retires it: one that were deleted in the
    middle of that would bring the old certificate back to the balancer only to be unbound from it.
    """
    listener = find_listener(session, caller, listener_id, lock=True)
    if listener.state not in FINAL_LISTENERS:
        job = session.get_one(Job, listener.job_id)
        if job.state in FINAL_JOBS:
            raise busy("The listener is being repaired.", "listener_id", jobs=[])
        raise busy("Another job is at work on the listener.", "listener_id", jobs=[job.id])
    for certificate in certificates:
        is_server = certificate.type == CertificateType.SERVER
        must_not_be_replaced(session, certificate, field="server_certificate_id" if is_server else "ca_certificate_id")
    if serving.shape_of(listener) != before:
        raise Conflict(
            "The listener was changed meanwhile.", code="changed_meanwhile", hint="Look at it, then try again."
        )
    return listener


def _begin(
    session: Session, caller: Caller, job: Job, listener: Listener, action: str, *, now: datetime
) -> tuple[Job, Listener]:
    audit.note(session, caller, action, listener.id, now=now, details={"job_id": job.id})
    jobs.announce_listener(session, job, listener, now=now)
    return job, listener
