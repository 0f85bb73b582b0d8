"""What the rule of reminders wants to know about certificates, read for many at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, case, func, select
from sqlalchemy.orm import Session

from shared.config.settings import REMINDER_THRESHOLDS
from shared.domain.answers import Hold
from shared.domain.certificates import CertificateType
from shared.domain.deadlines import Deadline, Link, Validity, deadlines
from shared.domain.reminder_decisions import Subject, recipients_of
from shared.models import Account, Certificate, Reminder, Unsubscribed
from shared.usecases.succession import Replaced, read_remainders

AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A certificate that somebody may have to be told of."""

    id: str
    account_id: str
    name: str
    common_name: str | None
    type: str
    fingerprint_sha256: str | None
    replaced_by: str | None
    subject: Subject
    unsubscribed: tuple[str, ...]
    """Those of its contacts, or the account's, who are left out of ``subject.recipients`` for that."""


_COLUMNS: Final[tuple[Any, ...]] = (
    Certificate.id,
    Certificate.account_id,
    Certificate.name,
    Certificate.common_name,
    Certificate.type,
    Certificate.fingerprint_sha256,
    Certificate.not_before,
    Certificate.not_after,
    case((Certificate.ends_first_at < Certificate.ends_last_at, Certificate.chain)).label("chain"),
    Certificate.contacts,
    Certificate.reminders_muted,
    Certificate.reminders_acknowledged_at,
    Certificate.reminders_snoozed_until,
    Certificate.replaced_by_id,
    func.coalesce(Certificate.reminder_thresholds, Account.reminder_thresholds).label("thresholds"),
    Account.contacts.label("account_contacts"),
)
"""No PEM; and the chain, which may be long, only where something in it ends at another time than the certificate."""


def select_watched() -> Select[*tuple[Any, ...]]:
    """Rows for :func:`read_watched`; the caller adds which."""
    return select(*_COLUMNS).join(Account, Account.id == Certificate.account_id)


def read_watched(session: Session, rows: Sequence[AnyRow], *, told_by: datetime | None = None) -> list[Watched]:
    """The certificates of :func:`select_watched` with all that decides about their notices, in the same order.

    ``told_by``: of the ledger only what was written until then. Six statements, however many the rows.
    """
    replaced = [
        Replaced(certificate_id=row.id, successor_id=row.replaced_by_id, fingerprint_sha256=row.fingerprint_sha256)
        for row in rows
        if row.replaced_by_id is not None
    ]
    remainders = read_remainders(session, replaced)
    told = _told(session, [row.id for row in rows], told_by)
    unsubscribed = _unsubscribed(session, rows)
    return [
        _watched(row, remainders=remainders.get(row.id), told=told[row.id], unsubscribed=unsubscribed[row.account_id])
        for row in rows
    ]


def deadlines_of(kind: str, own: Validity, chain: Iterable[Mapping[str, Any]] | None) -> tuple[Deadline, ...]:
    """All that ends of a certificate, from its chain as it is stored; soonest first."""
    others = [_deadline(position, link) for position, link in enumerate(chain or ())][1:]
    return deadlines(CertificateType(kind), own, others)


def chain_data(deadline: Deadline) -> dict[str, Any]:
    """Which certificate of the chain ends, when it is not the certificate itself; as events say it."""
    link = deadline.link
    if link is None:
        return {}
    return {
        "chain_certificate": {
            "position": link.position,
            "subject": link.subject,
            "fingerprint_sha256": link.fingerprint_sha256,
        }
    }


def succession_data(watched: Watched) -> dict[str, Any]:
    """What took the certificate's place, and where that is not so yet; as events say it."""
    if not watched.subject.remainders:
        return {}
    lacking = [
        {"lack": str(each.lack)} | ({"region": each.region} if each.region else {})
        for each in watched.subject.remainders
    ]
    return {"replaced_by": watched.replaced_by, "lacking": lacking}


def _deadline(position: int, link: Mapping[str, Any]) -> Deadline:
    return Deadline(
        validity=Validity(
            not_before=datetime.fromisoformat(link["not_before"]), not_after=datetime.fromisoformat(link["not_after"])
        ),
        link=Link(position=position, subject=link["subject"], fingerprint_sha256=link["fingerprint_sha256"]),
    )


def _watched(row: AnyRow, *, remainders: Any, told: Any, unsubscribed: Collection[str]) -> Watched:
    thresholds = REMINDER_THRESHOLDS if row.thresholds is None else tuple(row.thresholds)
    contacts = row.contacts or row.account_contacts
    return Watched(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        common_name=row.common_name,
        type=row.type,
        fingerprint_sha256=row.fingerprint_sha256,
        replaced_by=row.replaced_by_id,
        subject=Subject(
            deadlines=deadlines_of(row.type, Validity(not_before=row.not_before, not_after=row.not_after), row.chain),
            thresholds=thresholds,
            hold=Hold(acknowledged_at=row.reminders_acknowledged_at, snoozed_until=row.reminders_snoozed_until),
            is_muted=row.reminders_muted,
            remainders=remainders,
            recipients=recipients_of(row.contacts, row.account_contacts, unsubscribed),
            told=told,
        ),
        unsubscribed=tuple(dict.fromkeys(each for each in contacts if each in unsubscribed)),
    )


def _told(
    session: Session, certificate_ids: Collection[str], told_by: datetime | None
) -> dict[str, dict[datetime, dict[str, int]]]:
    """The nearest threshold in the ledger, by certificate, deadline and recipient."""
    statement = (
        select(Reminder.certificate_id, Reminder.not_after, Reminder.recipient, func.min(Reminder.threshold))
        .where(Reminder.certificate_id.in_(certificate_ids))
        .group_by(Reminder.certificate_id, Reminder.not_after, Reminder.recipient)
    )
    if told_by is not None:
        statement = statement.where(Reminder.created_at <= told_by)
    told: dict[str, dict[datetime, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for certificate_id, not_after, recipient, threshold in session.execute(statement):
        told[certificate_id][not_after][recipient] = threshold
    return told


def _unsubscribed(session: Session, rows: Sequence[AnyRow]) -> dict[str, set[str]]:
    """Those of the contacts who want no mail, by account."""
    people = {person for row in rows for person in (*row.contacts, *row.account_contacts)}
    statement = select(Unsubscribed.account_id, Unsubscribed.recipient).where(
        Unsubscribed.account_id.in_({row.account_id for row in rows}), Unsubscribed.recipient.in_(people)
    )
    found: dict[str, set[str]] = defaultdict(set)
    for account_id, recipient in session.execute(statement):
        found[account_id].add(recipient)
    return found
