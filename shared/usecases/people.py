"""People who may use an account's console: add, list, remove, give a password, make a sign-in link."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.crypto.passwords import MAX_LENGTH, MIN_LENGTH, hash_password
from shared.crypto.tokens import hash_token, new_token
from shared.domain.addresses import checked_address
from shared.domain.identifiers import new_id
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.models import Person, SignInLink

LINK_LIFE: Final = timedelta(minutes=30)
"""Of a link that was asked for; the operator's own may say otherwise."""


def add_person(session: Session, *, account_id: str, email: str, now: datetime) -> Person:
    """Somebody new, who signs in by link until a password is set.

    Raises:
        Conflict: the address belongs to somebody already, in whichever account (``person_exists``).
        Rejected: it is not an e-mail address.
    """
    address = checked_address(email.strip(), field="email").lower()
    if session.execute(select(Person.id).where(Person.email == address)).first():
        raise Conflict(f"{address} is a person here already.", code="person_exists", hint="Use another address.")
    person = Person(id=new_id("per"), account_id=account_id, email=address, created_at=now)
    session.add(person)
    session.flush()
    return person


def list_people(session: Session, account_id: str) -> list[Person]:
    """The account's people, by address."""
    return list(session.execute(select(Person).where(Person.account_id == account_id).order_by(Person.email)).scalars())


def find_person(session: Session, account_id: str, *, email: str) -> Person:
    """The account's person of that address.

    Raises:
        NotFound: the account has none.
    """
    statement = select(Person).where(Person.account_id == account_id, Person.email == email.strip().lower())
    person = session.execute(statement).scalar_one_or_none()
    if person is None:
        raise NotFound("The account has no person of that address.", hint="See: certfleet people list.")
    return person


def remove_person(session: Session, person: Person) -> None:
    """They are signed out everywhere at once: sessions and links go with the person."""
    session.execute(delete(Person).where(Person.id == person.id))


def set_password(person: Person, password: str) -> None:
    """Let the person sign in with it.

    Raises:
        Rejected: it is shorter or longer than we take.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        error = FieldError(
            field="password",
            code="invalid_password",
            message=f"It does not have between {MIN_LENGTH} and {MAX_LENGTH} characters.",
            hint="Take a few words; length is what counts.",
        )
        raise Rejected(error.message, errors=(error,))
    person.password_hash = hash_password(password)


def create_link(session: Session, person: Person, *, now: datetime, life: timedelta = LINK_LIFE) -> str:
    """A token that signs the person in once, within ``life``; what has run out or was used goes."""
    session.execute(
        delete(SignInLink).where(
            SignInLink.person_id == person.id, (SignInLink.expires_at <= now) | SignInLink.used_at.is_not(None)
        )
    )
    clear = new_token()
    session.add(SignInLink(token_hash=hash_token(clear), person_id=person.id, created_at=now, expires_at=now + life))
    session.flush()
    return clear


def link_address(public_url: str, token: str) -> str:
    """Where the link leads: a page that asks before it signs in, because mail programs open links by themselves."""
    return f"{public_url}/sign-in/{token}"
