"""What an account says of itself: name, contacts, when its people are reminded, and how it renews."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from marshmallow import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.config.settings import REMINDER_THRESHOLDS
from shared.domain.quiet_hours import QuietWindow
from shared.errors import Conflict, Rejected
from shared.models import Account, Reminder
from shared.schemas.accounts import AccountPatchIn
from shared.schemas.faults import field_errors
from shared.usecases import audit
from shared.usecases.accounts import hold_names, refuse_reserved
from shared.usecases.answers import recheck
from shared.usecases.context import Context
from shared.usecases.tokens import Caller

log = structlog.get_logger(__name__)

Document = dict[str, Any]

_AS_THEY_ARE: Final = ("id", "name", "contacts", "reminder_thresholds", "time_zone", "auto_renew", "renew_before_days")
_DECIDE_ABOUT_NOTICES: Final = frozenset({"contacts", "reminder_thresholds"})
_DECIDE_ABOUT_HOURS: Final = frozenset({"time_zone", "quiet_window"})


def read_settings(session: Session, account_id: str) -> Document:
    """The account's settings in the words of ``AccountOut``."""
    return settings_document(session.get_one(Account, account_id))


def settings_document(account: Account) -> Document:
    """The same, of a row."""
    own = account.reminder_thresholds
    return {
        **{name: getattr(account, name) for name in _AS_THEY_ARE},
        "effective_reminder_thresholds": list(REMINDER_THRESHOLDS) if own is None else own,
        "quiet_window": None
        if account.quiet_from is None
        else {"begins": account.quiet_from, "ends": account.quiet_until},
        "created_at": account.created_at,
    }


def checked_changes(raw: Mapping[str, Any]) -> Document:
    """Changes as people write them (``AccountPatchIn``), for forms and commands; the API has checked its own.

    Raises:
        Rejected: naming every field that is wrong.
    """
    try:
        return dict(AccountPatchIn().load(raw))
    except ValidationError as error:
        raise Rejected("Some settings need another look.", errors=field_errors(error.messages)) from error


def change_settings(context: Context, session: Session, caller: Caller, changes: Document, *, now: datetime) -> Account:
    """Set what is given, checked as by :func:`checked_changes`; what others are reminded of is looked at anew.

    Raises:
        Conflict: the name is taken.
        Rejected: the name is reserved.
    """
    account = session.get_one(Account, caller.account_id, with_for_update={"key_share": True}, populate_existing=True)
    before = settings_document(account)
    if changes.get("name", account.name) != account.name:
        refuse_reserved(context.settings, changes["name"])
        hold_names(session)
        _must_be_free(session, changes["name"])
    for name in sorted(changes):
        _set(account, name, changes[name])
    after = settings_document(account)
    changed = sorted(name for name in after if name in changes and after[name] != before[name])
    if not _DECIDE_ABOUT_NOTICES.isdisjoint(changed):
        recheck(account)
    if not _DECIDE_ABOUT_HOURS.isdisjoint(changed):
        _ask_the_window_again(session, account, now=now)
    if changed:
        audit.note(session, caller, "account.changed", account.id, now=now, details={"fields": changed})
    return account


def quiet_window(account: Account) -> QuietWindow | None:
    """When its people want no mail that is not urgent; ``None``: at no time.

    A zone that this machine's database does not know (any more) holds nothing back: better a mail at night than none.
    """
    if account.quiet_from is None or account.quiet_until is None:
        return None
    try:
        zone = ZoneInfo(account.time_zone)
    except ZoneInfoNotFoundError:
        log.warning("unknown_time_zone", account_id=account.id)
        return None
    return QuietWindow(begins=account.quiet_from, ends=account.quiet_until, zone=zone)


def _set(account: Account, name: str, value: Any) -> None:
    if name == "quiet_window":
        account.quiet_from = None if value is None else value["begins"]
        account.quiet_until = None if value is None else value["ends"]
    elif name == "reminder_thresholds" and value is not None:
        account.reminder_thresholds = sorted(value, reverse=True)
    else:
        setattr(account, name, value)


def _ask_the_window_again(session: Session, account: Account, *, now: datetime) -> None:
    """Notices that wait for the end of the window as it was are due now: the mailer asks the new one."""
    waiting = update(Reminder).where(
        Reminder.account_id == account.id,
        Reminder.next_wake_at.is_not(None),
        Reminder.next_attempt_at > now,
        Reminder.lease_until.is_(None),
        Reminder.attempt == 0,
    )
    session.execute(waiting.values(next_attempt_at=now, next_wake_at=now))


def _must_be_free(session: Session, name: str) -> None:
    if session.execute(select(Account.id).where(Account.name == name)).first():
        raise Conflict(
            "Another account has that name.",
            code="account_exists",
            hint="Choose another name.",
            context={"field": "name"},
        )
