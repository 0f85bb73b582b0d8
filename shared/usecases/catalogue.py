"""What the certificate services offer, kept as rows: listed by workers, searched by users without asking anybody."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.config.sources import CertificateService
from shared.domain.acquisitions import CatalogueState, ManagedId
from shared.domain.certificates import CertificateState
from shared.domain.identifiers import new_id
from shared.domain.retries import backoff
from shared.errors import Corrupt, DriverError
from shared.events.log import FIRST_WAKE, wake
from shared.models import Account, Certificate, ManagedCertificate, SourceCatalogue, insertion, leases
from shared.telemetry import describe_exception
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.source import Offer, Source
from shared.usecases.source_tools import SourceTools, find_service, services_of
from shared.usecases.tokens import Caller
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

MOST_OFFERS: Final = 20_000
"""Of one source; a listing without an end is a fault of its service."""

_EARLY: Final = 0.1
"""Of the interval: sources that were declared together are not listed together for ever."""

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

_Said = TypeVar("_Said", str, str | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferFilters:
    """What to list."""

    q: str | None = None
    source: str | None = None


def list_offers(session: Session, caller: Caller, filters: OfferFilters, page: PageRequest) -> Page[dict[str, Any]]:
    """What the account's services offered when they were last listed, and which certificate of ours came from each.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(ManagedCertificate).where(ManagedCertificate.account_id == caller.account_id)
    if filters.source is not None:
        statement = statement.where(ManagedCertificate.source == filters.source)
    if filters.q is not None:
        statement = statement.where(_mentions(filters.q))
    found = read_page(session, statement, Order(id=ManagedCertificate.id, descending=False), page)
    used = _certificates_of(session, caller, [row.id for row in found.items])
    items = [_document(row, used.get(row.id)) for row in found.items]
    return Page(items=items, next_cursor=found.next_cursor)


def list_catalogues(context: Context, session: Session, caller: Caller) -> list[dict[str, Any]]:
    """The account's declared services, with when each was last listed."""
    services = services_of(context.settings, session.get_one(Account, caller.account_id))
    statement = select(SourceCatalogue).where(
        SourceCatalogue.account_id == caller.account_id, SourceCatalogue.source.in_(services)
    )
    rows = {row.source: row for row in session.execute(statement).scalars()}
    return [_catalogue(service, rows.get(service.id)) for service in services.values()]


def ask_anew(context: Context, session: Session, caller: Caller, *, now: datetime) -> None:
    """Have the account's services listed now."""
    keep_catalogues(session, context.settings, now=now, only=caller.account_id)
    statement = select(SourceCatalogue).where(
        SourceCatalogue.account_id == caller.account_id, SourceCatalogue.state == CatalogueState.DECLARED
    )
    for row in session.execute(statement.with_for_update(key_share=True, skip_locked=True)).scalars():
        if row.lease_until is None or row.lease_until <= now:
            leases.due(row, now, wake_at=now + FIRST_WAKE)
            wake(session, WakeUp(Task.CATALOGUE, row.id))


def keep_catalogues(session: Session, settings: Settings, *, now: datetime, only: str | None = None) -> list[str]:
    """One row for each declared source whose account there is; what is declared no more is withdrawn.

    ``only``: of this account. Returns the ids of the rows that are new.
    """
    wanted = _declared(session, settings, only)
    rows = {(row.account_id, row.source): row for row in _rows(session, only)}
    for place, row in rows.items():
        if place not in wanted and row.state == CatalogueState.DECLARED:
            _withdraw(session, row)
    fresh = []
    for account_id, source in sorted(wanted):
        row = rows.get((account_id, source)) or SourceCatalogue(
            id=new_id("cat"), account_id=account_id, source=source, attempt=0, fence=0, offers=0, created_at=now
        )
        if row.state == CatalogueState.DECLARED:
            continue
        row.state = CatalogueState.DECLARED
        leases.due(row, now, wake_at=now + FIRST_WAKE)
        session.add(row)
        wake(session, WakeUp(Task.CATALOGUE, row.id))
        fresh.append(row.id)
    session.flush()
    return fresh


def refresh(context: Context, tools: SourceTools, catalogue_id: str) -> None:
    """List the source anew if its turn has come. Safe to call at any time."""
    now = tools.clock()
    with context.transaction() as session:
        fence = leases.claim(session, SourceCatalogue, catalogue_id, now=now, lease=context.settings.lease)
        if fence is None:
            return
        row = session.get_one(SourceCatalogue, catalogue_id)
        row.attempt += 1
        account_id, source_id, attempt = row.account_id, row.source, row.attempt
    try:
        with context.transaction() as session:
            service = find_service(session, context.settings, account_id, source_id)
        offers = _all_offers(tools.open_source(service))
        _record(context, catalogue_id, fence, offers, now=tools.clock())
    except Exception as error:  # noqa: BLE001 - a source is somebody else's code and data; the list of before stays
        _record_failure(context, catalogue_id, fence, error, attempt=attempt, now=tools.clock())


def _declared(session: Session, settings: Settings, only: str | None) -> set[tuple[str, str]]:
    names = {service.account for service in settings.sources.values()}
    statement = select(Account).where(or_(Account.name.in_(names), Account.id.in_(names)))
    if only is not None:
        statement = statement.where(Account.id == only)
    accounts = session.execute(statement).scalars().all()
    return {(account.id, source) for account in accounts for source in services_of(settings, account)}


def _rows(session: Session, only: str | None) -> Iterable[SourceCatalogue]:
    """In the order of their ids, so that two who do this at once wait for each other."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("source_catalogues"))))
    statement = select(SourceCatalogue)
    if only is not None:
        statement = statement.where(SourceCatalogue.account_id == only)
    return session.execute(statement.order_by(SourceCatalogue.id)).scalars().all()


def _withdraw(session: Session, row: SourceCatalogue) -> None:
    row.state, row.error, row.offers, row.refreshed_at = CatalogueState.WITHDRAWN, None, 0, None
    row.fence += 1
    leases.finished(row)
    _forget(session, row)


def _all_offers(source: Source) -> dict[str, Offer]:
    """Every page, by id. A page that is not the last and brings nothing new is no progress: that list has no end."""
    offers: dict[str, Offer] = {}
    cursor = None
    while True:
        page = source.list_offers(cursor=cursor, limit=source.capabilities.page_size)
        known = len(offers)
        offers |= {offer.id: offer for offer in page.offers}
        cursor = page.next_cursor
        if cursor is None:
            return offers
        if len(offers) > MOST_OFFERS or len(offers) == known:
            raise Corrupt(f"The certificate service's list does not end after {len(offers)} certificates.")


def _record(context: Context, catalogue_id: str, fence: int, offers: dict[str, Offer], *, now: datetime) -> None:
    with context.transaction() as session:
        row = leases.owned(session, SourceCatalogue, catalogue_id, fence=fence)
        if row is None:
            return
        _forget(session, row)
        insertion.insert(session, *(_offered(row, offer, now=now) for offer in offers.values()))
        row.offers, row.refreshed_at, row.error, row.attempt = len(offers), now, None, 0
        early = context.settings.sources_every * _EARLY * _chance()
        leases.due(row, now + context.settings.sources_every - early)


def _record_failure(
    context: Context, catalogue_id: str, fence: int, error: Exception, *, attempt: int, now: datetime
) -> None:
    log.warning("catalogue_not_refreshed", object=catalogue_id, exception=describe_exception(error))
    pause = min(backoff(attempt, chance=_chance()), context.settings.sources_every)
    with context.transaction() as session:
        row = leases.owned(session, SourceCatalogue, catalogue_id, fence=fence)
        if row is not None:
            row.error = _error(error)
            leases.due(row, now + max(pause, timedelta(seconds=1)))


def _error(error: Exception) -> dict[str, Any]:
    if isinstance(error, DriverError):
        return error_document(error, retryable=True)
    message = "The certificate service's adapter failed unexpectedly; the operator finds the place in the log."
    return {"code": "internal_error", "message": message, "retryable": True}


def _forget(session: Session, row: SourceCatalogue) -> None:
    statement = delete(ManagedCertificate).where(
        ManagedCertificate.account_id == row.account_id, ManagedCertificate.source == row.source
    )
    session.execute(statement.execution_options(synchronize_session=False))


def _offered(row: SourceCatalogue, offer: Offer, *, now: datetime) -> ManagedCertificate:
    """Of the service's words only what a column of text can hold: one odd name must not hide all other offers."""
    return ManagedCertificate(
        account_id=row.account_id,
        id=str(ManagedId(source=row.source, offer=offer.id)),
        source=row.source,
        name=_storable(offer.name),
        common_name=_storable(offer.common_name),
        names=[_storable(name) for name in offer.names],
        issuer=_storable(offer.issuer),
        serial=_storable(offer.serial),
        not_before=offer.not_before,
        not_after=offer.not_after,
        key_algorithm=offer.key_algorithm,
        fingerprint_sha256=offer.fingerprint_sha256,
        seen_at=now,
    )


def _storable(said: _Said) -> _Said:
    """PostgreSQL's text has no NUL, and UTF-8 no half of a surrogate pair; JSON has both."""
    return said and _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", said)


def _mentions(q: str) -> ColumnElement[bool]:
    """Case does not matter; ``%`` and ``_`` mean themselves."""
    escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    columns = (
        ManagedCertificate.id,
        ManagedCertificate.name,
        ManagedCertificate.common_name,
        func.array_to_string(ManagedCertificate.names, "\n"),
    )
    return or_(*(column.ilike(f"%{escaped}%", escape="\\") for column in columns))


def _certificates_of(session: Session, caller: Caller, managed_ids: list[str]) -> dict[str, str]:
    """The newest valid certificate of ours that came from each."""
    statement = (
        select(Certificate.managed_certificate_id, Certificate.id)
        .where(
            Certificate.account_id == caller.account_id,
            Certificate.managed_certificate_id.in_(managed_ids),
            Certificate.state == CertificateState.VALID,
        )
        .order_by(Certificate.id)
    )
    return {managed: certificate for managed, certificate in session.execute(statement) if managed}


def _document(row: ManagedCertificate, certificate_id: str | None) -> dict[str, Any]:
    names = ("id", "source", "name", "common_name", "names", "issuer", "serial", "not_before", "not_after")
    more = ("key_algorithm", "fingerprint_sha256", "seen_at")
    return {**{name: getattr(row, name) for name in (*names, *more)}, "certificate_id": certificate_id}


def _catalogue(service: CertificateService, row: SourceCatalogue | None) -> dict[str, Any]:
    return {
        "id": service.id,
        "name": service.name,
        "offers": row.offers if row else 0,
        "refreshed_at": row.refreshed_at if row else None,
        "error": row.error if row else None,
    }


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads work, protects nothing
