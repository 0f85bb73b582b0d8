"""Answer reminders: acknowledge, snooze, mute and resume those of a certificate; unsubscribe a recipient."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.domain.answers import floor_of
from shared.domain.certificates import CertificateState
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.models import Account, Certificate, Unsubscribed
from shared.models.certificates import LOOK_NOW
from shared.usecases import audit
from shared.usecases.browsing import find_certificate
from shared.usecases.tokens import Caller


def acknowledge(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Certificate:
    """Somebody takes care of it: no more reminders until the floor. The first acknowledgement stays.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
    """
    certificate = _answerable(session, caller, certificate_id)
    if certificate.reminders_acknowledged_at is None:
        certificate.reminders_acknowledged_at = now
        certificate.reminders_acknowledged_by = caller.token_id
        audit.note(session, caller, "reminders.acknowledged", certificate.id, now=now)
    return certificate


def snooze(session: Session, caller: Caller, certificate_id: str, *, until: datetime, now: datetime) -> Certificate:
    """No reminders before ``until``, which lies between now and the floor.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
        Rejected: ``until`` is past, or beyond the floor.
    """
    certificate = _answerable(session, caller, certificate_id)
    latest = floor_of(certificate.not_after or now)
    if not now < until <= latest:
        raise _outside(latest, now=now)
    if until != certificate.reminders_snoozed_until:
        certificate.next_notice_at = LOOK_NOW
        certificate.reminders_snoozed_until = until
        certificate.reminders_snoozed_by = caller.token_id
        details = {"until": _written(until)}
        audit.note(session, caller, "reminders.snoozed", certificate.id, now=now, details=details)
    return certificate


def mute(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Certificate:
    """Nobody is reminded of this certificate any more.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
    """
    certificate = _answerable(session, caller, certificate_id)
    if not certificate.reminders_muted:
        certificate.reminders_muted = True
        audit.note(session, caller, "reminders.muted", certificate.id, now=now)
    return certificate


def withdraw_acknowledgement(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Certificate:
    """Nobody takes care of it after all.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
    """
    certificate = _answerable(session, caller, certificate_id)
    if certificate.reminders_acknowledged_at is not None:
        certificate.reminders_acknowledged_at = certificate.reminders_acknowledged_by = None
        certificate.next_notice_at = LOOK_NOW
        audit.note(session, caller, "reminders.acknowledgement_withdrawn", certificate.id, now=now)
    return certificate


def end_snooze(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Certificate:
    """Reminders come again at once.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
    """
    certificate = _answerable(session, caller, certificate_id)
    if certificate.reminders_snoozed_until is not None:
        certificate.reminders_snoozed_until = certificate.reminders_snoozed_by = None
        certificate.next_notice_at = LOOK_NOW
        audit.note(session, caller, "reminders.snooze_ended", certificate.id, now=now)
    return certificate


def resume(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Certificate:
    """Take every answer back: not acknowledged, not snoozed, not muted.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it has no expiry yet, or is being deleted.
    """
    withdraw_acknowledgement(session, caller, certificate_id, now=now)
    certificate = end_snooze(session, caller, certificate_id, now=now)
    if certificate.reminders_muted:
        certificate.reminders_muted = False
        audit.note(session, caller, "reminders.unmuted", certificate.id, now=now)
    return certificate


def unsubscribe(session: Session, caller: Caller, recipient: str, *, now: datetime) -> bool:
    """No reminders of this account to ``recipient`` any more; False when that was so already."""
    statement = insert(Unsubscribed).values(account_id=caller.account_id, recipient=recipient, at=now)
    is_new = session.execute(statement.on_conflict_do_nothing().returning(Unsubscribed.at)).first() is not None
    if is_new:
        _recheck_account(session, caller)  # where it was the last contact, others are told instead
        audit.note(session, caller, "reminders.unsubscribed", recipient, now=now)
    return is_new


def subscribe_again(session: Session, caller: Caller, recipient: str, *, now: datetime) -> None:
    """Reminders go to ``recipient`` again.

    Raises:
        NotFound: that recipient has not unsubscribed.
    """
    statement = delete(Unsubscribed).where(
        Unsubscribed.account_id == caller.account_id, Unsubscribed.recipient == recipient
    )
    if session.execute(statement.returning(Unsubscribed.at)).first() is None:
        raise NotFound("That recipient has not unsubscribed.", hint="GET /v1/reminders/unsubscribed lists who has.")
    _recheck_account(session, caller)
    audit.note(session, caller, "reminders.subscribed_again", recipient, now=now)


def list_unsubscribed(session: Session, account_id: str) -> Sequence[Unsubscribed]:
    """Who wants no reminders of this account, by address."""
    statement = select(Unsubscribed).where(Unsubscribed.account_id == account_id)
    return session.execute(statement.order_by(Unsubscribed.recipient)).scalars().all()


def is_unsubscribed(session: Session, account_id: str, recipient: str) -> bool:
    """Whether the recipient wants no reminders of this account."""
    return session.get(Unsubscribed, (account_id, recipient)) is not None


def _recheck_account(session: Session, caller: Caller) -> None:
    recheck(session.get_one(Account, caller.account_id, with_for_update={"key_share": True}, populate_existing=True))


def recheck(account: Account) -> None:
    """Have the next scan look at all of the account's certificates: what decides about their notices has changed."""
    account.reminders_recheck_after = ""


def _answerable(session: Session, caller: Caller, certificate_id: str) -> Certificate:
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    if certificate.state != CertificateState.VALID:
        raise Conflict(
            f"The certificate is {certificate.state}: nobody is reminded of it.",
            code="certificate_not_valid",
            hint="Nothing to do.",
        )
    return certificate


def _outside(latest: datetime, *, now: datetime) -> Rejected:
    message = f"Reminders can be held back until {_written(latest)}, three days before its end, and no later."
    if latest <= now:
        message = "It ends within three days, or has ended: reminders cannot be held back any more."
    hint = "Replace or renew it; or mute its reminders."
    error = FieldError(field="until", code="snooze_out_of_range", message=message, hint=hint)
    return Rejected(message, code=error.code, hint=hint, errors=(error,))


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
