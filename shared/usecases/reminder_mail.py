"""Reminders, sent: one digest a recipient of all that the ledger (``reminder_scan``) holds for them."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.quiet_hours import URGENT
from shared.domain.reminder_decisions import held_back
from shared.domain.reminders import ReminderState, days_left, urgency
from shared.domain.retries import backoff, is_retryable
from shared.errors import CertfleetError
from shared.events.log import FIRST_WAKE, wake
from shared.models import Account, Certificate, Reminder, leases
from shared.telemetry import describe_exception
from shared.usecases.account_settings import quiet_window
from shared.usecases.answers import is_unsubscribed
from shared.usecases.context import Context
from shared.usecases.mail import MAIL_REFUSED, Mail, Mailer, Template, message_id
from shared.usecases.reminder_digest import Digest, compose
from shared.usecases.reminder_subjects import Watched, read_watched, select_watched
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

DIGEST: Final = 50
"""Certificates a mail; more become a second mail. Mail programs cut HTML at about 100 kB (Gmail: 102 kB)."""

GIVE_UP: Final = timedelta(days=5)
"""Mail that cannot be sent is given up after this (RFC 5321 §4.5.4.1: "at least 4-5 days")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """The ledger rows that one mail is about, with their fences by id, and their certificates by id."""

    rows: Sequence[Reminder]
    fences: dict[str, int]
    message_id: str
    watched: Mapping[str, Watched]


def send(context: Context, mailer: Mailer, reminder_id: str, *, now: datetime) -> None:
    """Mail this notice and every other one that waits for the same recipient, if it is due. Safe to call at any time.

    At least once: a worker that dies after the mail server's answer and before our commit sends the same mail again
    when the lease runs out, of the same notices and with the same Message-ID.
    """
    with context.transaction() as session:
        claim = _claim(context, session, reminder_id, now=now)
    if claim is None:
        return
    try:
        mailer.send(_mail(claim, _digest(context, claim, now=now), now=now))
    except Exception as error:  # noqa: BLE001 - whatever the mailer raises, the rows must be given back
        _record_failure(context, claim, error, now=now)
    else:
        _record_sent(context, claim, now=now)


def _claim(context: Context, session: Session, reminder_id: str, *, now: datetime) -> _Claim | None:
    """Own the notice and its companions; those that are no longer wanted are settled here."""
    reminder = session.get(Reminder, reminder_id)
    if reminder is None:
        return None
    _one_at_a_time(session, reminder.account_id, reminder.recipient)
    fence = leases.claim(session, Reminder, reminder_id, now=now, lease=context.settings.lease)
    if fence is None:
        return None
    session.refresh(reminder)
    fences = {reminder_id: fence} | _claim_companions(context, session, reminder, now=now)
    rows = session.execute(select(Reminder).where(Reminder.id.in_(fences)).order_by(Reminder.id)).scalars().all()
    watched = _watched(session, {row.certificate_id for row in rows})
    wanted = _put_off(session, _suppress_unwanted(session, rows, watched, now=now), now=now)
    if not wanted:
        return None
    identity = wanted[0].message_id or message_id(
        "reminder", (row.id for row in wanted), sender=context.settings.mail_from
    )
    for row in wanted:
        row.message_id = identity
        row.attempt += 1
    return _Claim(rows=wanted, fences={row.id: fences[row.id] for row in wanted}, message_id=identity, watched=watched)


def _one_at_a_time(session: Session, account_id: str, recipient: str) -> None:
    """Two workers never put together a digest for the same recipient: the second finds the first one's leases."""
    key = f"reminder-digest:{account_id}:{recipient}"
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def _claim_companions(context: Context, session: Session, reminder: Reminder, *, now: datetime) -> dict[str, int]:
    """The other notices of the same mail: those of its first attempt, or at the first one all that wait."""
    statement = (
        select(Reminder.id)
        .where(
            Reminder.account_id == reminder.account_id,
            Reminder.recipient == reminder.recipient,
            Reminder.next_attempt_at <= now,
            Reminder.message_id.is_not_distinct_from(reminder.message_id),
            Reminder.id != reminder.id,
        )
        .order_by(Reminder.not_after, Reminder.id)
        .limit(DIGEST - 1)
    )
    claims = {
        row_id: leases.claim(session, Reminder, row_id, now=now, lease=context.settings.lease)
        for row_id in session.execute(statement).scalars()
    }
    return {row_id: fence for row_id, fence in claims.items() if fence is not None}


def _watched(session: Session, certificate_ids: Collection[str]) -> dict[str, Watched]:
    """Those of the certificates that are still valid."""
    statement = select_watched().where(Certificate.id.in_(certificate_ids), Certificate.state == CertificateState.VALID)
    return {each.id: each for each in read_watched(session, session.execute(statement).all())}


def _suppress_unwanted(
    session: Session, rows: Sequence[Reminder], watched: Mapping[str, Watched], *, now: datetime
) -> list[Reminder]:
    """Settle notices that a nearer one has overtaken, or that nobody wants any more.

    Meanwhile the certificate was replaced, muted, held or deleted, or the recipient has unsubscribed.
    """
    is_gone = is_unsubscribed(session, rows[0].account_id, rows[0].recipient)
    wanted = []
    for row in rows:
        if not is_gone and row.certificate_id in watched and _is_wanted(row, watched[row.certificate_id], now):
            wanted.append(row)
        else:
            row.state = ReminderState.SUPPRESSED
            leases.finished(row)
    return wanted


def _is_wanted(row: Reminder, watched: Watched, now: datetime) -> bool:
    nearest = watched.subject.told[row.not_after][row.recipient]
    return nearest == row.threshold and held_back(watched.subject, row.not_after, now) is None


def _put_off(session: Session, wanted: Sequence[Reminder], *, now: datetime) -> list[Reminder]:
    """In the account's quiet window, give back what is not urgent until its end; what is to be mailed now.

    What is given back will be a mail of its own: of a second one with the Message-ID of what goes now, mailboxes show
    nothing.
    """
    window = quiet_window(session.get_one(Account, wanted[0].account_id)) if wanted else None
    end = window.end_of(now) if window else None
    if end is None:
        return list(wanted)
    urgent = [row for row in wanted if urgency(days_left(row.not_after, now)) in URGENT]
    for row in wanted:
        if row not in urgent:
            row.message_id = None
            leases.due(row, end)
    return urgent


def _digest(context: Context, claim: _Claim, *, now: datetime) -> Digest:
    """Put together after the claim: a notice that cannot be written is an attempt that failed, like any other."""
    with context.transaction() as session:
        return compose(context, session, claim.rows, claim.watched, now=now)


def _mail(claim: _Claim, digest: Digest, *, now: datetime) -> Mail:
    return Mail(
        recipient=digest.recipient,
        subject=digest.subject,
        template=Template.REMINDER,
        content=digest,
        message_id=claim.message_id,
        at=now,
        unsubscribe_url=digest.unsubscribe_url,
    )


def _record_sent(context: Context, claim: _Claim, *, now: datetime) -> None:
    with context.transaction() as session:
        for row in _owned(session, claim):
            row.state = ReminderState.SENT
            row.sent_at = now
            row.error = None
            leases.finished(row)


def _record_failure(context: Context, claim: _Claim, error: Exception, *, now: datetime) -> None:
    log.warning("reminder_not_sent", count=len(claim.fences), exception=describe_exception(error))
    chance = random.random()  # noqa: S311 - jitter, not a secret
    with context.transaction() as session:
        rows = _owned(session, claim)
        if len(rows) > 1 and _is_about_content(error):
            _part(context, session, rows, now=now)
            return
        for row in rows:
            row.error = error.message if isinstance(error, CertfleetError) else "The mail could not be prepared."
            if is_retryable(error) and now < row.created_at + GIVE_UP:
                leases.due(row, now + backoff(row.attempt, chance=chance))
            else:
                row.state = ReminderState.FAILED
                leases.finished(row)


def _is_about_content(error: Exception) -> bool:
    """Whether one of the notices may be what is wrong with the mail, and the others be sent without it."""
    if isinstance(error, CertfleetError):
        return error.code == MAIL_REFUSED
    return True


def _part(context: Context, session: Session, rows: Sequence[Reminder], *, now: datetime) -> None:
    """Two mails instead of one that was not taken, and so on down to the one notice that nobody takes."""
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        identity = message_id("reminder", (row.id for row in half), sender=context.settings.mail_from)
        for row in half:
            row.message_id = identity
            leases.due(row, now, wake_at=now + FIRST_WAKE)
        wake(session, WakeUp(Task.MAIL, half[0].id))


def _owned(session: Session, claim: _Claim) -> list[Reminder]:
    """The claimed rows that are still ours, locked in a fixed order."""
    rows = (leases.owned(session, Reminder, row_id, fence=fence) for row_id, fence in sorted(claim.fences.items()))
    return [row for row in rows if row is not None]
