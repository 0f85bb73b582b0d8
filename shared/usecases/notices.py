"""Tell an account's contacts something by mail: written with the deed, once each, sent afterwards."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.domain.notices import NoticeKind, NoticeState
from shared.domain.retries import backoff, is_retryable
from shared.errors import CertfleetError
from shared.events import log as events
from shared.events.log import FIRST_WAKE
from shared.models import Account, Notice, WebhookEndpoint, leases
from shared.telemetry import describe_exception
from shared.usecases.context import Context
from shared.usecases.mail import Mail, Mailer, Template, message_id, plain
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

NOBODY: Final = ""

GIVE_UP: Final = timedelta(days=5)
"""Mail that cannot be sent is given up after this (RFC 5321 §4.5.4.1: "at least 4-5 days")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What to tell. ``content`` holds plain texts; ``occasion`` tells it apart from others of its kind and subject."""

    kind: NoticeKind
    subject: str
    occasion: datetime
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a notice's template shows."""

    kind: NoticeKind
    account: str
    recipient: str
    public_url: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    notice_id: str
    fence: int
    mail: Mail


def tell(session: Session, account_id: str, news: News, *, now: datetime) -> None:
    """A notice to each contact of the account, in the transaction of what it tells of; the same news only once."""
    contacts = session.get_one(Account, account_id).contacts
    for recipient in contacts or [NOBODY]:
        notice_id = _add(session, account_id, news, recipient=recipient, now=now)
        if notice_id is not None and recipient != NOBODY:
            events.wake(session, WakeUp(Task.NOTICE, notice_id))


def send(context: Context, mailer: Mailer, notice_id: str, *, now: datetime) -> None:
    """Mail the notice, if it is due. Safe to call at any time.

    A worker that dies between the mail server's answer and our commit sends it once more, with the same Message-ID.
    """
    with context.transaction() as session:
        claim = _claim(context, session, notice_id, now=now)
    if claim is None:
        return
    failure: Exception | None = None
    try:
        mailer.send(claim.mail)
    except Exception as error:  # noqa: BLE001 - whatever the mailer raises, the row must be given back
        failure = error
        log.warning("notice_not_sent", exception=describe_exception(error))
    with context.transaction() as session:
        _record(session, claim, failure, now=now)


def _add(session: Session, account_id: str, news: News, *, recipient: str, now: datetime) -> str | None:
    is_told = recipient != NOBODY
    statement = insert(Notice).values(
        id=new_id("ntc"),
        account_id=account_id,
        kind=news.kind,
        subject=news.subject,
        occasion=news.occasion,
        recipient=recipient,
        content=dict(news.content),
        state=NoticeState.PENDING if is_told else NoticeState.RECORDED,
        attempt=0,
        fence=0,
        created_at=now,
        next_attempt_at=now if is_told else None,
        next_wake_at=now + FIRST_WAKE if is_told else None,
    )
    once = statement.on_conflict_do_nothing(
        index_elements=[Notice.kind, Notice.subject, Notice.occasion, Notice.recipient]
    )
    return session.execute(once.returning(Notice.id)).scalar_one_or_none()


def _claim(context: Context, session: Session, notice_id: str, *, now: datetime) -> _Claim | None:
    fence = leases.claim(session, Notice, notice_id, now=now, lease=context.settings.lease)
    if fence is None:
        return None
    notice = session.get_one(Notice, notice_id, populate_existing=True)
    if not _is_wanted(session, notice):
        notice.state = NoticeState.SUPPRESSED
        leases.finished(notice)
        return None
    notice.attempt += 1
    return _Claim(notice_id=notice_id, fence=fence, mail=_mail(context, session, notice, now=now))


def _is_wanted(session: Session, notice: Notice) -> bool:
    """A warning that comes too late helps nobody: the receiver is well again, or its endpoint gone."""
    endpoint = session.get_one(WebhookEndpoint, notice.subject)
    is_warning = notice.kind == NoticeKind.WEBHOOK_FAILING
    return endpoint.deleted_at is None and not (is_warning and endpoint.failing_since is None)


def _mail(context: Context, session: Session, notice: Notice, *, now: datetime) -> Mail:
    settings = context.settings
    letter = Letter(
        kind=NoticeKind(notice.kind),
        account=plain(session.get_one(Account, notice.account_id).name),
        recipient=notice.recipient,
        public_url=settings.public_url,
        content=notice.content,
    )
    return Mail(
        recipient=notice.recipient,
        subject=str(notice.content["title"]),
        template=Template.NOTICE,
        content=letter,
        message_id=message_id("notice", [notice.id], sender=settings.mail_from),
        at=now,
    )


def _record(session: Session, claim: _Claim, failure: Exception | None, *, now: datetime) -> None:
    notice = leases.owned(session, Notice, claim.notice_id, fence=claim.fence)
    if notice is None:
        return
    if failure is None:
        notice.state, notice.sent_at, notice.error = NoticeState.SENT, now, None
        leases.finished(notice)
        return
    notice.error = failure.message if isinstance(failure, CertfleetError) else "The mail could not be prepared."
    if is_retryable(failure) and now < notice.created_at + GIVE_UP:
        chance = random.random()  # noqa: S311 - jitter, not a secret
        leases.due(notice, now + backoff(notice.attempt, chance=chance))
    else:
        notice.state = NoticeState.FAILED
        leases.finished(notice)
