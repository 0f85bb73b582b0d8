"""Sign in to the console: by password or one-time link, counted; sessions that end by themselves or on demand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, case, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.crypto.passwords import MAX_LENGTH, is_password
from shared.crypto.tokens import hash_token, is_well_formed, new_token
from shared.domain.identifiers import new_id
from shared.domain.scopes import ALL_SCOPES
from shared.errors import Conflict, NotFound, Unauthenticated
from shared.models import Account, ConsoleSession, Person, SignInCount, SignInLink
from shared.usecases.tokens import Caller

IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
"""A session ends after either, whatever its browser does (OWASP ASVS 5.0 §7.3)."""

SEEN_RESOLUTION: Final = timedelta(minutes=1)
"""``seen_at`` is written at most this often, so that reads stay reads."""

WINDOW: Final = timedelta(minutes=15)
TRIES_BY_EMAIL: Final = 10
TRIES_BY_ADDRESS: Final = 50
"""Sign-ins within a window, good or bad; an office shares its address."""

BROWSER_LENGTH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A browser's session: who it is, and what its caller may do."""

    session_id: str
    person_id: str
    email: str
    account_name: str
    caller: Caller
    notice: str | None = None


def count_try(session: Session, *, email: str, address: str, now: datetime) -> None:
    """Count an attempt; commit it whatever becomes of the attempt.

    Raises:
        Conflict: too many from this address or for this e-mail (``too_many_sign_ins``, with ``retry_after``).
    """
    session.execute(delete(SignInCount).where(SignInCount.began_at <= now - WINDOW))
    by_email = _counted(session, f"email:{email.strip().lower()}", now=now)
    by_address = _counted(session, f"address:{address}", now=now)
    if by_email > TRIES_BY_EMAIL or by_address > TRIES_BY_ADDRESS:
        session.commit()
        raise Conflict(
            "Too many attempts to sign in.",
            code="too_many_sign_ins",
            hint="Wait a quarter of an hour, then try again.",
            retry_after=WINDOW,
        )


def sign_in_with_password(session: Session, *, email: str, password: str, now: datetime, browser: str) -> str:
    """A new session's clear token, for its cookie.

    Raises:
        Unauthenticated: no such person, no password, or another one; the message never says which.
    """
    person = session.execute(select(Person).where(Person.email == email.strip().lower())).scalar_one_or_none()
    if not is_password(person.password_hash if person else None, password[:MAX_LENGTH]) or person is None:
        raise Unauthenticated(
            "The e-mail address or the password is wrong.",
            code="sign_in_refused",
            hint="Try again, or have a sign-in link made: certfleet people link.",
        )
    return _begin(session, person, now=now, browser=browser)


def sign_in_with_link(session: Session, *, token: str, now: datetime, browser: str) -> str:
    """Use the link up; a new session's clear token.

    Raises:
        Unauthenticated: unknown, used or run out; the message never says which.
    """
    statement = update(SignInLink).where(*_good_link(token, now=now)).values(used_at=now)
    person_id = session.execute(statement.returning(SignInLink.person_id)).scalar_one_or_none()
    person = session.get(Person, person_id) if person_id else None
    if person is None:
        raise _link_refused()
    return _begin(session, person, now=now, browser=browser)


def check_link(session: Session, *, token: str, now: datetime) -> None:
    """Whether the link would work now. Changes nothing.

    Raises:
        Unauthenticated: it would not.
    """
    if session.execute(select(SignInLink.token_hash).where(*_good_link(token, now=now))).first() is None:
        raise _link_refused()


def current_session(session: Session, clear: str, *, now: datetime) -> SignedIn:
    """Whose session the cookie is.

    Raises:
        Unauthenticated: unknown, ended, idle for too long or too old.
    """
    row = session.execute(_KNOWN.where(ConsoleSession.token_hash == hash_token(clear))).one_or_none()
    if not is_well_formed(clear) or row is None or _is_over(row[0], now=now):
        raise Unauthenticated("You are not signed in.", code="not_signed_in", hint="Sign in to go on.")
    found, person, account = row
    if found.seen_at < now - SEEN_RESOLUTION:
        found.seen_at = now
    return SignedIn(
        session_id=found.id,
        person_id=person.id,
        email=person.email,
        account_name=account,
        caller=Caller(account_id=person.account_id, token_id=person.id, scopes=frozenset(ALL_SCOPES)),
        notice=found.notice,
    )


def end_session(session: Session, clear: str) -> None:
    """Sign this browser out; nothing happens when it is not signed in."""
    session.execute(delete(ConsoleSession).where(ConsoleSession.token_hash == hash_token(clear)))


def list_sessions(session: Session, signed_in: SignedIn, *, now: datetime) -> list[ConsoleSession]:
    """The person's live sessions, the latest used first."""
    statement = select(ConsoleSession).where(ConsoleSession.person_id == signed_in.person_id)
    rows = session.execute(statement.order_by(ConsoleSession.seen_at.desc(), ConsoleSession.id)).scalars()
    return [row for row in rows if not _is_over(row, now=now)]


def revoke_session(session: Session, signed_in: SignedIn, session_id: str) -> None:
    """Sign one of the person's own browsers out.

    Raises:
        NotFound: it is not theirs, or over.
    """
    statement = delete(ConsoleSession).where(
        ConsoleSession.id == session_id, ConsoleSession.person_id == signed_in.person_id
    )
    if session.execute(statement.returning(ConsoleSession.id)).first() is None:
        raise NotFound("There is no such session.", hint="It may have ended already.")


def note(session: Session, signed_in: SignedIn, text: str | None) -> None:
    """What the session's next page says; None: it has been said."""
    session.execute(update(ConsoleSession).where(ConsoleSession.id == signed_in.session_id).values(notice=text))


_KNOWN: Final = (
    select(ConsoleSession, Person, Account.name)
    .join(Person, Person.id == ConsoleSession.person_id)
    .join(Account, Account.id == Person.account_id)
)


def _is_over(row: ConsoleSession, *, now: datetime) -> bool:
    return row.expires_at <= now or row.seen_at <= now - IDLE


def _begin(session: Session, person: Person, *, now: datetime, browser: str) -> str:
    session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at <= now))
    clear = new_token()
    person.signed_in_at = now
    session.add(
        ConsoleSession(
            id=new_id("ses"),
            token_hash=hash_token(clear),
            person_id=person.id,
            browser="".join(filter(str.isprintable, browser))[:BROWSER_LENGTH],
            created_at=now,
            seen_at=now,
            expires_at=now + LONGEST,
        )
    )
    session.flush()
    return clear


def _good_link(token: str, *, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        SignInLink.token_hash == hash_token(token),
        SignInLink.used_at.is_(None),
        SignInLink.expires_at > now,
    )


def _link_refused() -> Unauthenticated:
    return Unauthenticated(
        "This sign-in link does not work any more.",
        code="link_refused",
        hint="A link works once and for a short time; have a new one made.",
    )


def _counted(session: Session, who: str, *, now: datetime) -> int:
    """How many there are in the current window, this one included. Only hashes of who it was are kept."""
    key = hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()
    is_old = SignInCount.began_at <= now - WINDOW
    statement = insert(SignInCount).values(key=key, began_at=now, count=1)
    statement = statement.on_conflict_do_update(
        index_elements=[SignInCount.key],
        set_={
            "count": case((is_old, 1), else_=SignInCount.count + 1),
            "began_at": case((is_old, now), else_=SignInCount.began_at),
        },
    )
    return session.execute(statement.returning(SignInCount.count)).scalar_one()
