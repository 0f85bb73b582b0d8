"""What the people of an account manage themselves: tokens, people, their own password. Audited.

An account has no roles: everybody who is signed in may do all of it. Nobody can remove themselves, so an account that
has people keeps at least one; a new link is made only for somebody who has never signed in, so nobody becomes another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.crypto.passwords import MAX_LENGTH, is_password
from shared.crypto.vault import Vault
from shared.domain.scopes import Scope
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.models import Account, ApiToken, ConsoleSession, Person, SignInLink
from shared.usecases import accounts, audit, people, tokens
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.sign_in import SignedIn
from shared.usecases.tokens import Caller

INVITATION_LIFE: Final = timedelta(days=3)
"""Of the link that an invited person signs in with: it crosses a weekend, and works once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Somebody new, and the clear token of their first sign-in link, which is shown once."""

    person: Person
    link: str = field(repr=False)


def list_tokens(session: Session, caller: Caller, page: PageRequest) -> Page[ApiToken]:
    """The account's tokens, newest first, revoked ones too.

    Raises:
        Rejected: the cursor is not one of this list.
    """
    statement = select(ApiToken).where(ApiToken.account_id == caller.account_id)
    return read_page(session, statement, Order(id=ApiToken.id, descending=True), page)


def issue_token(
    session: Session, caller: Caller, *, name: str, scopes: Iterable[Scope], life: timedelta | None, now: datetime
) -> tuple[ApiToken, str]:
    """A new token of the account and its clear text, which is shown once."""
    token, clear = tokens.create_token(
        session,
        account_id=caller.account_id,
        name=name,
        scopes=scopes,
        now=now,
        expires_at=now + life if life else None,
    )
    audit.note(session, caller, "token.created", token.id, now=now, details={"name": name, "scopes": token.scopes})
    session.flush()
    return token, clear


def withdraw_token(session: Session, caller: Caller, token_id: str, *, now: datetime) -> None:
    """It works no more, at once.

    Raises:
        NotFound: the account has no such live token.
    """
    if not tokens.revoke_token(session, caller.account_id, token_id, now=now):
        raise NotFound("There is no such token, or it is revoked already.")
    audit.note(session, caller, "token.revoked", token_id, now=now)


def invite(session: Session, caller: Caller, *, email: str, now: datetime) -> Invitation:
    """Somebody new, who signs in by a link that works once within ``INVITATION_LIFE``.

    Raises:
        Rejected: the address is none, or belongs to a person already.
    """
    try:
        person = people.add_person(session, account_id=caller.account_id, email=email, now=now)
    except Conflict as error:
        raise _refused("email", error.code, "This address cannot be invited.", error.hint) from error
    audit.note(session, caller, "person.invited", person.id, now=now, details={"email": person.email})
    return Invitation(person=person, link=people.create_link(session, person, now=now, life=INVITATION_LIFE))


def invite_again(session: Session, caller: Caller, person_id: str, *, now: datetime) -> Invitation:
    """A new link for somebody who has never signed in; the old ones work no more.

    Raises:
        NotFound: none of that id in this account.
        Conflict: they have signed in: only an operator makes them links (``has_signed_in``).
    """
    person = find_person(session, caller, person_id)
    if person.signed_in_at is not None:
        raise Conflict(
            "This person has signed in already.",
            code="has_signed_in",
            hint="An operator makes a link: certfleet people link.",
        )
    session.execute(delete(SignInLink).where(SignInLink.person_id == person.id))
    audit.note(session, caller, "person.invited_again", person.id, now=now, details={"email": person.email})
    return Invitation(person=person, link=people.create_link(session, person, now=now, life=INVITATION_LIFE))


def remove_person(session: Session, caller: Caller, person_id: str, *, now: datetime) -> Person:
    """Their sessions and links go with them, at once. Two who remove each other: one of them stays.

    Raises:
        NotFound: none of that id in this account; or the caller has just been removed.
        Conflict: it is the caller (``cannot_remove_yourself``).
    """
    session.get_one(Account, caller.account_id, with_for_update={"key_share": True})
    find_person(session, caller, caller.token_id)
    person = find_person(session, caller, person_id)
    if person.id == caller.token_id:
        raise Conflict(
            "Nobody can remove themselves.",
            code="cannot_remove_yourself",
            hint="Let somebody else of the account do it: so it always has one who can sign in.",
        )
    people.remove_person(session, person)
    audit.note(session, caller, "person.removed", person.id, now=now, details={"email": person.email})
    return person


def has_password(session: Session, signed_in: SignedIn) -> bool:
    """Whether the person has one, and not only links."""
    return session.get_one(Person, signed_in.person_id).password_hash is not None


def change_password(session: Session, signed_in: SignedIn, *, current: str, password: str, now: datetime) -> None:
    """The person's own; their other sessions end, their links work no more.

    Whoever calls it counts the try before, and for itself: :func:`shared.usecases.sign_in.count_try`.

    Raises:
        Rejected: the present one is another, or the new one is too short or too long.
    """
    person = session.get_one(Person, signed_in.person_id, with_for_update={"key_share": True})
    if person.password_hash is not None and not is_password(person.password_hash, current[:MAX_LENGTH]):
        message = "This is not your present password."
        raise _refused("current", "wrong_password", message, "Without it, an operator makes you a link.")
    people.set_password(person, password)
    others = ConsoleSession.person_id == person.id, ConsoleSession.id != signed_in.session_id
    session.execute(delete(ConsoleSession).where(*others))
    session.execute(delete(SignInLink).where(SignInLink.person_id == person.id))
    audit.note(session, signed_in.caller, "person.password_changed", person.id, now=now)


def show_callback_secret(session: Session, vault: Vault, caller: Caller, *, now: datetime) -> str:
    """The secret that signs the callbacks of the account's jobs; the audit says who looked.

    Raises:
        NotFound, CannotOpen: it cannot be read.
    """
    audit.note(session, caller, "webhook.callback_secret_shown", caller.account_id, now=now)
    return accounts.callback_secret(session, vault, caller.account_id)


def find_person(session: Session, caller: Caller, person_id: str) -> Person:
    """Somebody of the caller's account.

    Raises:
        NotFound: none of that id in this account.
    """
    statement = select(Person).where(Person.id == person_id, Person.account_id == caller.account_id)
    person = session.execute(statement.execution_options(populate_existing=True)).scalar_one_or_none()
    if person is None:
        raise NotFound("There is no such person.", hint="They may have been removed already.")
    return person


def _refused(field: str, code: str, message: str, hint: str) -> Rejected:
    error = FieldError(field=field, code=code, message=message, hint=hint)
    return Rejected(message, code=code, hint=hint, errors=(error,))
