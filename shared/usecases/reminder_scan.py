"""Reminders, found: what expires, each notice written into the ledger once. ``reminder_mail`` sends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, String, case, func, literal_column, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, array, insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import cast

from shared.domain.identifiers import new_id
from shared.domain.reminders import EXPIRED, Band, ReminderState, bands, days_left
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.models import Account, Certificate, PeriodicRun, Reminder
from shared.usecases.answers import is_held, subscribed
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run
from shared.wakeups import Task, WakeUp

AnyRow = Row[*tuple[Any, ...]]

NOBODY: Final = ""
"""The recipient of the ledger row that remembers a crossing of which there was nobody to tell."""

BATCH: Final = 500
"""Notices a transaction: bounds memory, and how long other writers of the same certificates wait."""

LOOK_BACK: Final = timedelta(days=30)
"""How long before the last complete scan an expiry may lie and still be looked for: old history is not read again."""

FIRST_WAKE: Final = timedelta(seconds=30)
"""The wake-up at the end of the scan normally starts the mail; the sweep steps in after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What one scan wrote down. All zero when nothing new was due."""

    events: int = 0
    reminders: int = 0
    without_recipient: int = 0
    by_threshold: dict[int, int] = field(default_factory=dict)
    """Events by threshold in days before expiry; -1 is "expired"."""


def scan(context: Context, *, now: datetime) -> ScanResult:
    """Write down every notice that is due and not yet written, and wake the mailers. Any number may run at once.

    Each batch is one transaction: ledger rows and events together. A scan that dies half-way is completed by the next.
    """
    found = Counter[int]()
    counts = Counter[str]()
    first_of: dict[tuple[str, str], str] = {}
    since = _looked_until(context, now=now)
    for band in bands():
        while True:
            with context.transaction() as session:
                batch = _record_batch(session, band, since=since, now=now)
            if not batch.size:
                break
            found[band.threshold] += batch.events
            counts.update(reminders=len(batch.reminders), without_recipient=batch.without_recipient)
            for reminder_id, account_id, recipient in batch.reminders:
                first_of.setdefault((account_id, recipient), reminder_id)
    with context.transaction() as session:
        note_run(session, Periodic.REMINDERS, now=now, count=found.total())
        events.wake(session, *(WakeUp(Task.MAIL, reminder_id) for reminder_id in first_of.values()))
    return ScanResult(events=found.total(), by_threshold={key: n for key, n in found.items() if n}, **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    size: int
    events: int
    without_recipient: int
    reminders: Sequence[tuple[str, str, str]]
    """Id, account and recipient of each new row that is to be mailed."""


def _looked_until(context: Context, *, now: datetime) -> datetime | None:
    """Expiries before this were dealt with by earlier scans; ``None`` when there was none."""
    with context.transaction() as session:
        last = session.get(PeriodicRun, Periodic.REMINDERS)
        return None if last is None else min(last.last_run_at, now) - LOOK_BACK


def _record_batch(session: Session, band: Band, *, since: datetime | None, now: datetime) -> _Batch:
    due = _due(session, band, since=since, now=now)
    if not due:
        return _Batch(size=0, events=0, without_recipient=0, reminders=())
    known = _recorded(session, due, band)
    reminders = _insert(session, due, band, now=now)
    crossed = {row.id: row for row in due if row.id not in known}
    told = Counter(row.certificate_id for row in reminders if row.recipient != NOBODY)
    _tell(session, crossed.values(), band, told=told, now=now)
    return _Batch(
        size=len(due),
        events=len(crossed),
        without_recipient=sum(row.recipient == NOBODY for row in reminders),
        reminders=[(row.id, row.account_id, row.recipient) for row in reminders if row.recipient != NOBODY],
    )


def _due(session: Session, band: Band, *, since: datetime | None, now: datetime) -> Sequence[AnyRow]:
    """Certificates of the band with a recipient who has not been told, locked against a second scan.

    The lock makes a concurrent scan wait; what it then reads in ``_recorded`` and writes in ``_insert`` is up to date.
    """
    people = func.unnest(_recipients()).table_valued("recipient").render_derived(name="people")
    statement = (
        select(
            Certificate.id,
            Certificate.account_id,
            Certificate.name,
            Certificate.common_name,
            Certificate.type,
            Certificate.fingerprint_sha256,
            Certificate.not_after,
            people.c.recipient,
        )
        .select_from(Certificate)
        .join(Account, Account.id == Certificate.account_id)
        .join(people, true())
        .where(*is_reminded(now), *_is_in(band, since=since, now=now), ~_is_told(people.c.recipient, band))
        .order_by(Certificate.not_after, Certificate.id)
        .limit(BATCH)
        .with_for_update(of=Certificate, key_share=True)
    )
    return session.execute(statement).all()


def is_reminded(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Which certificates get notices at all: valid, not muted, not held, not replaced. The one place that says so.

    The first two are written as in the index ``ix_certificates_expiry``, as literals, so that it serves the query. A
    replaced certificate is left alone from the moment of its replacement; that its successor is also *served*
    everywhere (promise 7) can be asked here as soon as listeners are probed: then this becomes "not replaced, or some
    deployment of the successor is not served", and the mail says which region still serves the old one.
    """
    return (
        Certificate.state == literal_column("'valid'"),
        ~Certificate.reminders_muted,
        ~is_held(now),
        Certificate.replaced_by_id.is_(None),
    )


def _is_in(band: Band, *, since: datetime | None, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """The band's rule in SQL; the same values as ``shared.domain.reminders.due_threshold``."""
    conditions = [
        Certificate.not_after < now + band.opens,
        Certificate.not_after - Certificate.not_before >= band.shortest_life,
    ]
    if band.closes is not None:
        conditions.append(Certificate.not_after >= now + band.closes)
    elif since is not None:
        conditions.append(Certificate.not_after >= since)
    return tuple(conditions)


def _recipients() -> ColumnElement[Any]:
    """The certificate's contacts, else the account's, else ``NOBODY``; without those who have unsubscribed."""
    own, general = subscribed(Certificate.contacts), subscribed(Account.contacts)
    return case(
        (func.cardinality(own) > 0, own),
        (func.cardinality(general) > 0, general),
        else_=cast(array([NOBODY]), ARRAY(String)),
    )


def _is_told(recipient: ColumnElement[Any], band: Band) -> ColumnElement[bool]:
    return (
        select(Reminder.id)
        .where(
            Reminder.certificate_id == Certificate.id,
            Reminder.not_after == Certificate.not_after,
            Reminder.recipient == recipient,
            Reminder.threshold <= band.threshold,
        )
        .exists()
    )


def _recorded(session: Session, due: Sequence[AnyRow], band: Band) -> set[str]:
    """Those of the certificates whose crossing was written down before, whoever was told then."""
    expiries = {(row.id, row.not_after) for row in due}
    statement = select(Reminder.certificate_id).where(
        tuple_(Reminder.certificate_id, Reminder.not_after).in_(expiries), Reminder.threshold <= band.threshold
    )
    return set(session.execute(statement).scalars())


def _insert(session: Session, due: Sequence[AnyRow], band: Band, *, now: datetime) -> Sequence[AnyRow]:
    statement = (
        insert(Reminder)
        .values([_ledger_row(row, band, now=now) for row in due])
        .on_conflict_do_nothing(
            index_elements=[Reminder.certificate_id, Reminder.not_after, Reminder.threshold, Reminder.recipient]
        )
        .returning(Reminder.id, Reminder.account_id, Reminder.certificate_id, Reminder.recipient)
    )
    return session.execute(statement).all()


def _ledger_row(row: AnyRow, band: Band, *, now: datetime) -> dict[str, Any]:
    has_recipient = row.recipient != NOBODY
    return {
        "id": new_id("rem"),
        "account_id": row.account_id,
        "certificate_id": row.id,
        "not_after": row.not_after,
        "threshold": band.threshold,
        "recipient": row.recipient,
        "state": ReminderState.PENDING if has_recipient else ReminderState.RECORDED,
        "created_at": now,
        "next_attempt_at": now if has_recipient else None,
        "next_wake_at": now + FIRST_WAKE if has_recipient else None,
    }


def _tell(session: Session, rows: Collection[AnyRow], band: Band, *, told: Counter[str], now: datetime) -> None:
    """Append the events, account by account in a fixed order, because each append locks its account's counter."""
    facts: dict[str, list[events.Fact]] = {}
    for row in rows:
        facts.setdefault(row.account_id, []).append(_fact(row, band, notified=told[row.id], now=now))
    for account_id in sorted(facts):
        events.append(session, account_id, facts[account_id], now=now)


def _fact(row: AnyRow, band: Band, *, notified: int, now: datetime) -> events.Fact:
    is_expired = band.threshold == EXPIRED
    return events.Fact(
        type=EventType.CERTIFICATE_EXPIRED if is_expired else EventType.CERTIFICATE_EXPIRING,
        data={
            "certificate_id": row.id,
            "name": row.name,
            "common_name": row.common_name,
            "type": row.type,
            "fingerprint_sha256": row.fingerprint_sha256,
            "not_after": row.not_after.isoformat().replace("+00:00", "Z"),
            "threshold": band.threshold,
            "days_left": days_left(row.not_after, now),
            "notified": notified,
        },
    )
