"""What ends when, day by day, and what people have answered: what the pages of reminders are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Date, Select, cast, func, or_, select
from sqlalchemy.orm import Session

from shared.domain.answers import Hold
from shared.domain.certificates import CertificateState
from shared.models import Certificate
from shared.usecases.browsing import find_certificate
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From the first moment of ``first`` (UTC) up to the last of ``last``."""

    first: date
    last: date

    @property
    def begins(self) -> datetime:
        """Its first moment."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def ends(self) -> datetime:
        """The first moment after it."""
        return datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC) + DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A certificate that ends, and what is answered to its reminders; ``held_until``: nobody is reminded before."""

    certificate_id: str
    name: str
    common_name: str | None
    not_after: datetime
    is_muted: bool
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    snoozed_until: datetime | None
    snoozed_by: str | None
    held_until: datetime | None


def count_by_day(session: Session, caller: Caller, span: Span) -> dict[date, int]:
    """How many of the account's certificates end on each day (UTC) of the span; days without any are left out."""
    day = cast(func.timezone("UTC", Certificate.not_after), Date)
    statement = (
        select(day, func.count())
        .where(*_ending(caller), Certificate.not_after >= span.begins, Certificate.not_after < span.ends)
        .group_by(day)
    )
    return {row[0]: row[1] for row in session.execute(statement).all()}


def list_expiries(session: Session, caller: Caller, span: Span, page: PageRequest) -> Page[Expiry]:
    """Those that end within the span, soonest first.

    Raises:
        Rejected: the cursor is not one of this list.
    """
    statement = select(Certificate).where(
        *_ending(caller), Certificate.not_after >= span.begins, Certificate.not_after < span.ends
    )
    return _read(session, statement, page)


def list_answered(session: Session, caller: Caller, page: PageRequest, *, now: datetime) -> Page[Expiry]:
    """Those whose reminders somebody has answered: acknowledged, snoozed beyond now, or muted; soonest first.

    Raises:
        Rejected: the cursor is not one of this list.
    """
    is_answered = or_(
        Certificate.reminders_muted,
        Certificate.reminders_acknowledged_at.is_not(None),
        Certificate.reminders_snoozed_until > now,
    )
    return _read(session, select(Certificate).where(*_ending(caller), is_answered), page)


def get_expiry(session: Session, caller: Caller, certificate_id: str) -> Expiry | None:
    """One of them; ``None`` while the certificate has no end that anybody is reminded of.

    Raises:
        NotFound: none of that id in this account, or deleted.
    """
    certificate = find_certificate(session, caller, certificate_id)
    return _expiry(certificate) if certificate.state == CertificateState.VALID else None


def _ending(caller: Caller) -> tuple[ColumnElement[bool], ...]:
    """Valid and not replaced: what somebody still has to do something about."""
    return (
        Certificate.account_id == caller.account_id,
        Certificate.state == CertificateState.VALID,
        Certificate.replaced_by_id.is_(None),
        Certificate.not_after.is_not(None),
    )


def _read(session: Session, statement: Select[Certificate], page: PageRequest) -> Page[Expiry]:
    key: Any = Certificate.not_after
    order = Order(
        id=Certificate.id,
        descending=False,
        key=key,
        write=lambda moment: moment.isoformat(),
        read=datetime.fromisoformat,
    )
    found = read_page(session, statement, order, page)
    return Page(items=[_expiry(row) for row in found.items], next_cursor=found.next_cursor)


def _expiry(row: Certificate) -> Expiry:
    not_after = row.not_after or row.created_at
    hold = Hold(acknowledged_at=row.reminders_acknowledged_at, snoozed_until=row.reminders_snoozed_until)
    return Expiry(
        certificate_id=row.id,
        name=row.name,
        common_name=row.common_name,
        not_after=not_after,
        is_muted=row.reminders_muted,
        acknowledged_at=row.reminders_acknowledged_at,
        acknowledged_by=row.reminders_acknowledged_by,
        snoozed_until=row.reminders_snoozed_until,
        snoozed_by=row.reminders_snoozed_by,
        held_until=hold.until(not_after),
    )
