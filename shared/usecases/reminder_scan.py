"""Reminders, found: what expires, each notice written into the ledger once. ``reminder_mail`` sends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Row, Select, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.domain.reminder_decisions import NOBODY, Decision, decide, next_look
from shared.domain.reminders import EXPIRED, ReminderState, days_left
from shared.errors import Transient
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.models import Account, Certificate, Reminder
from shared.models.certificates import LOOK_NOW
from shared.telemetry import describe_exception
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run
from shared.usecases.reminder_subjects import Watched, chain_data, read_watched, select_watched, succession_data
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

AnyRow = Row[*tuple[Any, ...]]

BATCH: Final = 500
"""Certificates a transaction: bounds memory, and how long other writers of the same certificates wait."""

ROWS: Final = 2000
"""Ledger rows a statement."""

RECHECK: Final = 5000
"""Certificates a transaction that are marked because their account's settings changed."""

PUT_OFF: Final = timedelta(hours=1)
"""After which a certificate that could not be judged is looked at again: thresholds are days apart."""

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

    It looks at the certificates whose ``next_notice_at`` has passed, and at no others. Each batch is one transaction:
    ledger rows, events and when to look again. A scan that dies half-way is completed by the next.
    """
    found = Counter[int]()
    counts = Counter[str]()
    first_of: dict[tuple[str, str], str] = {}
    _recheck_accounts(context)
    for batch in _batches(context, now=now):
        found.update(batch.events)
        counts.update(reminders=len(batch.reminders), without_recipient=batch.without_recipient)
        for reminder_id, account_id, recipient in batch.reminders:
            first_of.setdefault((account_id, recipient), reminder_id)
    with context.transaction() as session:
        note_run(session, Periodic.REMINDERS, now=now, count=found.total())
        events.wake(session, *(WakeUp(Task.MAIL, reminder_id) for reminder_id in first_of.values()))
    return ScanResult(events=found.total(), by_threshold=dict(found), **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    size: int
    events: Counter[int] = field(default_factory=Counter)
    without_recipient: int = 0
    reminders: Sequence[tuple[str, str, str]] = ()
    """Id, account and recipient of each new row that is to be mailed."""


def _recheck_accounts(context: Context) -> None:
    """Mark the certificates of accounts whose settings changed, some at a time, each account from where it was left."""
    with context.transaction() as session:
        statement = select(Account.id).where(Account.reminders_recheck_after.is_not(None)).order_by(Account.id)
        account_ids = session.execute(statement).scalars().all()
    for account_id in account_ids:
        is_done = False
        while not is_done:
            with context.transaction() as session:
                is_done = _recheck_some(session, account_id)


def _recheck_some(session: Session, account_id: str) -> bool:
    """Whether that was all."""
    account = session.get_one(Account, account_id, with_for_update={"key_share": True}, populate_existing=True)
    if account.reminders_recheck_after is None:
        return True
    statement = (
        select(Certificate.id)
        .where(
            Certificate.account_id == account_id,
            Certificate.id > account.reminders_recheck_after,
            Certificate.state == "valid",
        )
        .order_by(Certificate.id)
        .limit(RECHECK)
        .with_for_update(key_share=True)
    )
    ids = session.execute(statement).scalars().all()
    session.execute(update(Certificate).where(Certificate.id.in_(ids)).values(next_notice_at=LOOK_NOW))
    account.reminders_recheck_after = ids[-1] if len(ids) == RECHECK else None
    return account.reminders_recheck_after is None


def _batches(context: Context, *, now: datetime) -> Iterator[_Batch]:
    """All that is due, batch by batch; a batch that fails is gone through one by one, so that one spoils no other.

    Raises:
        Transient: the database is away; the next scan goes on from here.
    """
    while True:
        try:
            with context.transaction() as session:
                batch = _record_batch(session, session.execute(due(now)).all(), now=now)
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one certificate, the others have theirs
            log.warning("reminder_batch_failed", exception=describe_exception(error))
            yield from (_record_one(context, now=now) for _ in range(BATCH))
            continue
        if not batch.size:
            return
        yield batch


def _record_one(context: Context, *, now: datetime) -> _Batch:
    """The next certificate alone; one that cannot be judged is put off, so that it is not in the way for ever."""
    with context.transaction() as session:
        rows = session.execute(due(now, most=1)).all()
        try:
            with session.begin_nested():
                return _record_batch(session, rows, now=now)
        except Exception as error:  # noqa: BLE001 - see _batches
            log.error("certificate_not_judged", object=rows[0].id, exception=describe_exception(error))  # noqa: TRY400 - the description names the place, and quotes nothing
            spoiled = update(Certificate).where(Certificate.id == rows[0].id)
            session.execute(spoiled.values(next_notice_at=now + PUT_OFF))
            return _Batch(size=1)


def _record_batch(session: Session, rows: Sequence[AnyRow], *, now: datetime) -> _Batch:
    if not rows:
        return _Batch(size=0)
    watched = read_watched(session, rows)
    decided = [(each, decision) for each in watched for decision in decide(each.subject, now) if decision.recipients]
    ledger = [_ledger_row(each, decision, to, now=now) for each, decision in decided for to in decision.recipients]
    reminders = _insert(session, ledger)
    _look_again(session, watched, now=now)
    news = [(each, decision) for each, decision in decided if decision.is_news]
    _tell(session, news, now=now)
    return _Batch(
        size=len(rows),
        events=Counter(decision.threshold for _, decision in news if decision.threshold is not None),
        without_recipient=sum(row.recipient == NOBODY for row in reminders),
        reminders=[(row.id, row.account_id, row.recipient) for row in reminders if row.recipient != NOBODY],
    )


def due(now: datetime, *, most: int = BATCH) -> Select[*tuple[Any, ...]]:
    """The certificates to look at now, those that waited longest first; locked, without those that others hold.

    A range of ``ix_certificates_next_notice``; its predicate is written as in the index, as literals, so that it serves
    the query. Nobody waits for a lock, so that two scans share the work and stand in nobody's way.
    """
    return (
        select_watched()
        .where(
            Certificate.state == literal_column("'valid'"),
            ~Certificate.reminders_muted,
            Certificate.next_notice_at <= now,
        )
        .order_by(Certificate.next_notice_at, Certificate.id)
        .limit(most)
        .with_for_update(of=Certificate, key_share=True, skip_locked=True)
    )


def _look_again(session: Session, watched: Iterable[Watched], *, now: datetime) -> None:
    looks = [(each.id, next_look(each.subject, now)) for each in watched]
    session.execute(_LOOK_AGAIN, {"ids": [id_ for id_, _ in looks], "moments": [moment for _, moment in looks]})


_LOOK_AGAIN: Final = text("""
    UPDATE certificates SET next_notice_at = looked.again
    FROM unnest(CAST(:ids AS text[]), CAST(:moments AS timestamptz[])) AS looked (id, again)
    WHERE certificates.id = looked.id
""")


def _insert(session: Session, rows: Sequence[dict[str, Any]]) -> list[AnyRow]:
    """The rows that were not there yet. Nobody else writes them meanwhile, who does not hold the certificates."""
    written: list[AnyRow] = []
    for begin in range(0, len(rows), ROWS):
        statement = (
            insert(Reminder)
            .values(rows[begin : begin + ROWS])
            .on_conflict_do_nothing(
                index_elements=[Reminder.certificate_id, Reminder.not_after, Reminder.threshold, Reminder.recipient]
            )
            .returning(Reminder.id, Reminder.account_id, Reminder.recipient)
        )
        written += session.execute(statement).all()
    return written


def _ledger_row(watched: Watched, decision: Decision, recipient: str, *, now: datetime) -> dict[str, Any]:
    has_recipient = recipient != NOBODY
    return {
        "id": new_id("rem"),
        "account_id": watched.account_id,
        "certificate_id": watched.id,
        "not_after": decision.deadline.at,
        "threshold": decision.threshold,
        "recipient": recipient,
        "state": ReminderState.PENDING if has_recipient else ReminderState.RECORDED,
        "created_at": now,
        "next_attempt_at": now if has_recipient else None,
        "next_wake_at": now + FIRST_WAKE if has_recipient else None,
    }


def _tell(session: Session, news: Iterable[tuple[Watched, Decision]], *, now: datetime) -> None:
    """Append the events, account by account in a fixed order, because each append locks its account's counter."""
    facts: dict[str, list[events.Fact]] = {}
    for watched, decision in news:
        facts.setdefault(watched.account_id, []).append(_fact(watched, decision, now=now))
    for account_id in sorted(facts):
        events.append(session, account_id, facts[account_id], now=now)


def _fact(watched: Watched, decision: Decision, *, now: datetime) -> events.Fact:
    is_expired = decision.threshold == EXPIRED
    return events.Fact(
        type=EventType.CERTIFICATE_EXPIRED if is_expired else EventType.CERTIFICATE_EXPIRING,
        data={
            "certificate_id": watched.id,
            "name": watched.name,
            "common_name": watched.common_name,
            "type": watched.type,
            "fingerprint_sha256": watched.fingerprint_sha256,
            "not_after": decision.deadline.at.isoformat().replace("+00:00", "Z"),
            "threshold": decision.threshold,
            "days_left": days_left(decision.deadline.at, now),
            "notified": sum(recipient != NOBODY for recipient in decision.recipients),
            **chain_data(decision.deadline),
            **succession_data(watched),
        },
    )
