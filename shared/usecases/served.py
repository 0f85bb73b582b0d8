"""The matrix: what is really served of each certificate in each region, and how old the proof is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState
from shared.models import Certificate, Deployment, Listener
from shared.usecases.browsing import mentions
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller

Document = dict[str, Any]

_IS_THERE: Final = or_(
    Deployment.holds_slot, Deployment.state.in_([*sorted(ACTIVE_DEPLOYMENTS), DeploymentState.DEPLOYED])
)
"""It is in the region, or on its way in or out; not what failed and left nothing, nor what was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFilters:
    """Which rows to show. ``state``: of a region's proof, of ``region``'s where that is given, too.

    ``is_drifting``: only what is not as deployed in any of these regions.
    """

    region: str | None = None
    state: str | None = None
    q: str | None = None
    is_drifting: bool = False


def list_served(
    session: Session, caller: Caller, filters: ServedFilters, page: PageRequest, *, now: datetime
) -> Page[Document]:
    """The account's certificates that are in a region, newest first, each with all its regions (or the one asked for).

    Three statements a page, however much is on it.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(Certificate).where(
        Certificate.account_id == caller.account_id,
        Certificate.state != CertificateState.DELETED,
        _is_anywhere(filters),
    )
    if filters.q is not None:
        statement = statement.where(mentions(filters.q))
    found = read_page(session, statement, Order(id=Certificate.id, descending=True), page)
    ids = [row.id for row in found.items]
    cells = _cells(session, ids, filters.region, now=now)
    return Page(items=[_row(row, cells[row.id]) for row in found.items], next_cursor=found.next_cursor)


def _is_anywhere(filters: ServedFilters) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = [Deployment.certificate_id == Certificate.id, _IS_THERE]
    if filters.region is not None:
        wanted.append(Deployment.region == filters.region)
    if filters.state is not None:
        wanted.append(Deployment.served == filters.state)
    if filters.is_drifting:
        wanted.append(Deployment.drift["code"].astext.is_not(None))
    return select(Deployment.id).where(*wanted).exists()


def _row(certificate: Certificate, regions: dict[str, Document]) -> Document:
    return {
        "certificate_id": certificate.id,
        "name": certificate.name,
        "type": certificate.type,
        "not_after": certificate.not_after,
        "regions": regions,
    }


def _cells(
    session: Session, certificate_ids: list[str], region: str | None, *, now: datetime
) -> dict[str, dict[str, Document]]:
    """By certificate and region."""
    statement = select(Deployment).where(Deployment.certificate_id.in_(certificate_ids), _IS_THERE)
    if region is not None:
        statement = statement.where(Deployment.region == region)
    listeners = _listeners(session, certificate_ids)
    cells: dict[str, dict[str, Document]] = defaultdict(dict)
    for row in session.execute(statement.order_by(Deployment.region)).scalars():
        count = listeners.get((row.certificate_id, row.region), 0)
        cells[row.certificate_id][row.region] = _cell(row, count, now=now)
    return cells


def _cell(deployment: Deployment, listeners: int, *, now: datetime) -> Document:
    checked_at = deployment.served_checked_at
    return {
        "state": deployment.served,
        "deployed": deployment.state == DeploymentState.DEPLOYED,
        "checked_at": checked_at,
        "age_seconds": None if checked_at is None else max(0, int((now - checked_at).total_seconds())),
        "listeners": listeners,
        "drift": deployment.drift,
    }


def _listeners(session: Session, certificate_ids: list[str]) -> dict[tuple[str, str], int]:
    """How many show the certificate, or ask for its clients, by certificate and region."""
    uses = [
        select(column.label("certificate_id"), Listener.region).where(
            and_(column.in_(certificate_ids), Listener.deleted_at.is_(None), Listener.state != ListenerState.FAILED)
        )
        for column in (Listener.server_certificate_id, Listener.ca_certificate_id)
    ]
    both = uses[0].union_all(uses[1]).subquery()
    statement = select(both.c.certificate_id, both.c.region, func.count()).group_by(
        both.c.certificate_id, both.c.region
    )
    return {(certificate, region): count for certificate, region, count in session.execute(statement)}
