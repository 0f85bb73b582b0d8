"""The simulator: what a scan at some moment would send, to whom and why; and why not. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from marshmallow import ValidationError
from sqlalchemy import ColumnElement, Integer, case, func, select
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.orm import Session

from shared.config.settings import REMINDER_THRESHOLDS
from shared.domain.certificates import CertificateState
from shared.domain.quiet_hours import URGENT
from shared.domain.reminder_decisions import LOOK_BACK, NOBODY, Decision, Silence, decide
from shared.domain.reminders import EXPIRED, FARTHEST, Urgency, days_left, urgency
from shared.errors import Rejected
from shared.models import Account, Certificate, Reminder
from shared.schemas.faults import field_errors
from shared.schemas.reminders import PreviewQuery
from shared.usecases.account_settings import quiet_window
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.reminder_mail import DIGEST
from shared.usecases.reminder_subjects import Watched, chain_data, read_watched, select_watched, succession_data

Document = dict[str, Any]

MOST: Final = 5000
"""Certificates of a whole preview; more are paged through."""

NO_RECIPIENT: Final = "no_recipient"
UNSUBSCRIBED: Final = "unsubscribed"
"""Why nobody is mailed though something is due: nobody is named, or all of them have unsubscribed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would happen at ``at``, in the words of ``PreviewOut``.

    ``mails``: to whom, when, and about which certificates by urgency. ``silent``: what is near its end, and why nobody
    is told of it. ``next_cursor``: there is more.
    """

    at: datetime
    mails: list[Document]
    silent: list[Document]
    next_cursor: str | None


def preview_document(found: Preview) -> Document:
    """In the words of ``PreviewOut``."""
    return {"date": found.at, "mails": found.mails, "silent": found.silent, "next_cursor": found.next_cursor}


def checked_moment(written: str) -> datetime:
    """The moment of a preview as people write it (``PreviewQuery.date``), for forms and commands.

    Raises:
        Rejected: it is none, or too far away.
    """
    try:
        moment: datetime = PreviewQuery().load({"date": written})["date"]
    except ValidationError as error:
        raise Rejected("The date needs another look.", errors=field_errors(error.messages)) from error
    return moment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    watched: Watched
    decision: Decision


def preview(session: Session, account_id: str, *, at: datetime, page: PageRequest) -> Preview:
    """As if a scan ran at that moment, past or future, with today's certificates, settings and answers.

    Of the ledger what was written until then counts. A page is made of the certificates that are near, those that end
    first first; ``mails`` are those about the page's certificates.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    found = _near(session, account_id, at=at, page=page)
    return _preview(session, account_id, found.items, at=at, next_cursor=found.next_cursor)


def whole_preview(session: Session, account_id: str, *, at: datetime) -> Preview:
    """The same for ``MOST`` certificates at once; ``next_cursor`` says that there were more."""
    request = PageRequest(limit=MOST, cursor=None, binding=(account_id, "reminders", at.isoformat()))
    return preview(session, account_id, at=at, page=request)


def _near(session: Session, account_id: str, *, at: datetime, page: PageRequest) -> Page[str]:
    """Ids of what has crossed its farthest threshold, and did not end long before."""
    statement = (
        select(Certificate.id)
        .join(Account, Account.id == Certificate.account_id)
        .where(
            Certificate.account_id == account_id,
            Certificate.state == CertificateState.VALID,
            Certificate.created_at <= at,
            Certificate.ends_first_at < at + timedelta(days=FARTHEST + 1),
            Certificate.ends_first_at < at + _farthest(),
            Certificate.ends_last_at >= at - LOOK_BACK,
        )
    )
    ends_first: Any = Certificate.ends_first_at
    order = Order(
        id=Certificate.id,
        descending=False,
        key=ends_first,
        write=lambda moment: moment.isoformat(),
        read=datetime.fromisoformat,
    )
    return read_page(session, statement, order, page)


def _farthest() -> ColumnElement[Any]:
    """How long before its end the certificate's farthest threshold is crossed; thresholds are kept farthest first."""
    own = func.coalesce(Certificate.reminder_thresholds, Account.reminder_thresholds, type_=ARRAY(Integer))
    days = case((own.is_(None), max(REMINDER_THRESHOLDS)), else_=func.coalesce(own[1], EXPIRED))
    return func.make_interval(0, 0, 0, days + 1)


def _preview(
    session: Session, account_id: str, ids: Sequence[str], *, at: datetime, next_cursor: str | None
) -> Preview:
    rows = session.execute(select_watched().where(Certificate.id.in_(ids))).all()
    place = {certificate_id: number for number, certificate_id in enumerate(ids)}
    watched = sorted(read_watched(session, rows, told_by=at), key=lambda each: place[each.id])
    items = [
        _Item(watched=each, decision=decision)
        for each in watched
        for decision in decide(each.subject, at)
        if decision.threshold is not None
    ]
    window = quiet_window(session.get_one(Account, account_id))
    quiet_end = window.end_of(at) if window else None
    told = _told(session, [each.watched.id for each in items if each.decision.silence is not None], at)
    return Preview(
        at=at,
        mails=list(_mails(items, at=at, quiet_end=quiet_end)),
        silent=[_silent(item, told, at=at) for item in items if _reason(item) is not None],
        next_cursor=next_cursor,
    )


def _reason(item: _Item) -> str | None:
    """Why nobody gets a mail of it; ``None``: somebody does."""
    if item.decision.silence is not None:
        is_nobody = item.watched.subject.recipients == (NOBODY,) and item.decision.silence is Silence.ALREADY_TOLD
        return _nobody(item) if is_nobody else item.decision.silence.value
    return _nobody(item) if item.decision.recipients == (NOBODY,) else None


def _nobody(item: _Item) -> str:
    return UNSUBSCRIBED if item.watched.unsubscribed else NO_RECIPIENT


def _mails(items: Iterable[_Item], *, at: datetime, quiet_end: datetime | None) -> Iterator[Document]:
    """As the mailer makes them: a recipient's notices together, those that wait for the window's end apart."""
    for_whom: dict[tuple[str, datetime], list[_Item]] = defaultdict(list)
    for item in items:
        for recipient in item.decision.recipients:
            if recipient != NOBODY:
                is_put_off = quiet_end is not None and _urgency(item, at) not in URGENT
                for_whom[recipient, quiet_end if is_put_off and quiet_end else at].append(item)
    for (recipient, sent_at), found in sorted(for_whom.items(), key=lambda pair: pair[0]):
        found.sort(key=lambda item: item.decision.deadline.at)
        for begin in range(0, len(found), DIGEST):
            yield _mail(recipient, found[begin : begin + DIGEST], at=at, sent_at=sent_at)


def _mail(recipient: str, items: Sequence[_Item], *, at: datetime, sent_at: datetime) -> Document:
    groups = [
        {"urgency": level.value, "certificates": [_due(item, at=at) for item in found]}
        for level, found in groupby(items, key=lambda item: _urgency(item, at))
    ]
    return {"recipient": recipient, "sent_at": sent_at, "waits_for_quiet_window": sent_at != at, "groups": groups}


def _urgency(item: _Item, at: datetime) -> Urgency:
    return urgency(days_left(item.decision.deadline.at, at))


def _due(item: _Item, *, at: datetime) -> Document:
    return {**_about(item, at=at), "is_news": item.decision.is_news}


def _silent(item: _Item, told: _Told, *, at: datetime) -> Document:
    return {
        **_about(item, at=at),
        "urgency": _urgency(item, at).value,
        "reason": _reason(item),
        "until": item.decision.until,
        "told": told.get((item.watched.id, item.decision.deadline.at), []),
    }


def _about(item: _Item, *, at: datetime) -> Document:
    watched, deadline = item.watched, item.decision.deadline
    return {
        "certificate_id": watched.id,
        "name": watched.name,
        "common_name": watched.common_name,
        "type": watched.type,
        "not_after": deadline.at,
        "days_left": days_left(deadline.at, at),
        "threshold": item.decision.threshold,
        "recipients": [recipient for recipient in watched.subject.recipients if recipient != NOBODY],
        "unsubscribed": list(watched.unsubscribed),
        **chain_data(deadline),
        **succession_data(watched),
    }


_Told = dict[tuple[str, datetime], list[Document]]


def _told(session: Session, certificate_ids: Sequence[str], told_by: datetime) -> _Told:
    """Of each recipient the nearest notice in the ledger."""
    statement = (
        select(Reminder)
        .where(
            Reminder.certificate_id.in_(certificate_ids),
            Reminder.recipient != NOBODY,
            Reminder.created_at <= told_by,
        )
        .ext(distinct_on(Reminder.certificate_id, Reminder.not_after, Reminder.recipient))
        .order_by(Reminder.certificate_id, Reminder.not_after, Reminder.recipient, Reminder.threshold)
    )
    found: _Told = defaultdict(list)
    for row in session.execute(statement).scalars():
        document = {name: getattr(row, name) for name in ("recipient", "threshold", "state", "sent_at")}
        found[row.certificate_id, row.not_after].append(document)
    return found
