"""Calendar feeds: secret addresses at which calendars read when an account's certificates expire."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.crypto.tokens import hash_token
from shared.domain.certificates import CertificateState, title_of
from shared.domain.identifiers import new_id
from shared.domain.rollout import DeploymentState
from shared.errors import Conflict, NotFound
from shared.models import Account, CalendarFeed, Certificate, Deployment
from shared.usecases import audit
from shared.usecases.context import Context
from shared.usecases.mail import plain
from shared.usecases.tokens import Caller

MOST: Final = 50
"""Feeds of one account."""

SHOWN: Final = 5000
"""Expiries in a feed, soonest first."""

LOOK_BACK: Final = timedelta(days=90)
"""How long an expiry that has passed stays in the calendar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """One entry of a calendar. All text is one printable line each."""

    certificate_id: str
    title: str
    name: str
    at: datetime
    known_since: datetime
    regions: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """What a feed shows."""

    account: str
    expiries: tuple[Expiry, ...]


def create_feed(context: Context, session: Session, caller: Caller, *, name: str, now: datetime) -> tuple[str, str]:
    """A new feed: its id, and its address, which is shown this once (only a hash is kept).

    Raises:
        Conflict: the account has as many as it may have.
    """
    count = select(func.count()).select_from(CalendarFeed).where(CalendarFeed.account_id == caller.account_id)
    if session.execute(count).scalar_one() >= MOST:
        raise Conflict("The account has too many calendar feeds.", code="too_many_feeds", hint="Revoke one.")
    token = _new_token()
    feed = CalendarFeed(
        id=new_id("cal"), account_id=caller.account_id, name=name, token_hash=hash_token(token), created_at=now
    )
    session.add(feed)
    audit.note(session, caller, "calendar_feed.created", feed.id, now=now)
    return feed.id, _address(context, token)


def list_feeds(session: Session, account_id: str) -> Sequence[CalendarFeed]:
    """The account's feeds, oldest first."""
    statement = select(CalendarFeed).where(CalendarFeed.account_id == account_id).order_by(CalendarFeed.id)
    return session.execute(statement).scalars().all()


def rotate_feed(context: Context, session: Session, caller: Caller, feed_id: str, *, now: datetime) -> str:
    """A new address, shown this once; the old one finds nothing from now on.

    Raises:
        NotFound: none of that id in this account.
    """
    feed, token = find_feed(session, caller.account_id, feed_id), _new_token()
    feed.token_hash, feed.rotated_at = hash_token(token), now
    audit.note(session, caller, "calendar_feed.rotated", feed.id, now=now)
    return _address(context, token)


def revoke_feed(session: Session, caller: Caller, feed_id: str, *, now: datetime) -> None:
    """Its address finds nothing from now on.

    Raises:
        NotFound: none of that id in this account.
    """
    session.delete(find_feed(session, caller.account_id, feed_id))
    audit.note(session, caller, "calendar_feed.revoked", feed_id, now=now)


def find_feed(session: Session, account_id: str, feed_id: str) -> CalendarFeed:
    """The account's feed.

    Raises:
        NotFound: none of that id in this account.
    """
    statement = select(CalendarFeed).where(CalendarFeed.id == feed_id, CalendarFeed.account_id == account_id)
    feed = session.execute(statement.with_for_update(key_share=True)).scalar_one_or_none()
    if feed is None:
        raise NotFound("There is no such calendar feed.", hint="GET /v1/calendar-feeds lists yours.")
    return feed


def read_calendar(context: Context, session: Session, token: str, *, now: datetime) -> Calendar:
    """What the feed of that address shows. The address is looked up by its hash: how much of it is right takes no time.

    Raises:
        NotFound: no feed has, or has any more, that address.
    """
    statement = select(Account).join(CalendarFeed, CalendarFeed.account_id == Account.id)
    account = session.execute(statement.where(CalendarFeed.token_hash == hash_token(token))).scalar_one_or_none()
    if account is None:
        raise NotFound("There is no such calendar.", code="unknown_calendar", hint="Make a feed: certfleet reminders.")
    certificates = _expiring(session, account.id, now=now)
    regions = _regions(session, [certificate.id for certificate in certificates])
    return Calendar(
        account=plain(account.name),
        expiries=tuple(_expiry(context, certificate, regions.get(certificate.id, ())) for certificate in certificates),
    )


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _address(context: Context, token: str) -> str:
    return f"{context.settings.public_url}/calendar/{token}.ics"


def _expiring(session: Session, account_id: str, *, now: datetime) -> Sequence[Certificate]:
    """Valid, not muted, not replaced: what somebody still has to do something about."""
    statement = (
        select(Certificate)
        .where(
            Certificate.account_id == account_id,
            Certificate.state == CertificateState.VALID,
            ~Certificate.reminders_muted,
            Certificate.replaced_by_id.is_(None),
            Certificate.not_after > now - LOOK_BACK,
        )
        .order_by(Certificate.not_after, Certificate.id)
        .limit(SHOWN)
    )
    return session.execute(statement).scalars().all()


def _regions(session: Session, certificate_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    statement = (
        select(Deployment.certificate_id, func.array_agg(Deployment.region))
        .where(Deployment.certificate_id.in_(certificate_ids), Deployment.state != DeploymentState.REMOVED)
        .group_by(Deployment.certificate_id)
    )
    return {certificate_id: tuple(sorted(regions)) for certificate_id, regions in session.execute(statement)}


def _expiry(context: Context, certificate: Certificate, regions: tuple[str, ...]) -> Expiry:
    title = title_of(certificate.common_name, certificate.names, certificate.name)
    return Expiry(
        certificate_id=certificate.id,
        title=plain(title),
        name=plain(certificate.name),
        at=certificate.not_after or certificate.created_at,
        known_since=certificate.created_at,
        regions=regions,
        url=f"{context.settings.public_url}/certificates/{certificate.id}",
    )
