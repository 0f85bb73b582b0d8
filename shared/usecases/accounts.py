"""Accounts: create and find them, their contacts, and the secret that signs their jobs' callbacks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.crypto.vault import Binding, Vault
from shared.crypto.webhook_signature import new_secret
from shared.domain.addresses import checked_address
from shared.domain.identifiers import new_id
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.models import Account, Purpose
from shared.usecases import secrets

ID_PREFIX: Final = "acc_"


def create_account(session: Session, vault: Vault, *, name: str, now: datetime) -> Account:
    """A new account, with the secret that signs its jobs' callbacks.

    Raises:
        Conflict: the name is taken.
    """
    hold_names(session)
    if session.execute(select(Account.id).where(Account.name == name)).first():
        raise Conflict(f"An account named {name!r} exists already.", code="account_exists", hint="Choose another name.")
    account = Account(id=new_id(ID_PREFIX.rstrip("_")), name=name, contacts=[], created_at=now)
    session.add(account)
    session.flush()
    rotate_callback_secret(session, vault, account.id)
    return account


def refuse_reserved(settings: Settings, name: str) -> None:
    """Accounts choose their names themselves, and a certificate service belongs to a name or an id: to nobody else's.

    Raises:
        Rejected: the name is spelled like an id, or the operator has declared a service for it (``name_reserved``).
    """
    if not name.startswith(ID_PREFIX) and all(service.account != name for service in settings.sources.values()):
        return
    error = FieldError(
        field="name",
        code="name_reserved",
        message="The name is reserved.",
        hint="Choose another name, or ask the operator.",
    )
    raise Rejected(error.message, code=error.code, hint=error.hint, errors=(error,))


def hold_names(session: Session) -> None:
    """Until the commit: of two who want the same name at once, the second waits, and then finds it taken."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("account_names"))))


def find_account(session: Session, *, name: str) -> Account:
    """The account of that name.

    Raises:
        NotFound: there is none.
    """
    account = session.execute(select(Account).where(Account.name == name)).scalar_one_or_none()
    if account is None:
        raise NotFound(f"There is no account named {name!r}.", hint=f"Create it with: certfleet accounts create {name}")
    return account


def list_accounts(session: Session) -> list[Account]:
    """All accounts, by name; for operators only."""
    return list(session.execute(select(Account).order_by(Account.name)).scalars())


def set_contacts(account: Account, contacts: Iterable[str]) -> None:
    """Who gets the reminders of certificates without contacts of their own.

    Raises:
        Rejected: an address that mail could not be sent to.
    """
    account.contacts = [checked_address(contact, field="contacts") for contact in contacts]


def set_renewal(account: Account, *, auto_renew: bool, before_days: int | None) -> None:
    """Whether managed certificates that do not say themselves are renewed without being asked to, and how early.

    ``before_days``: before their end; ``None``: a third of their life.
    """
    account.auto_renew, account.renew_before_days = auto_renew, before_days


def callback_secret(session: Session, vault: Vault, account_id: str) -> str:
    """The ``whsec_`` secret that signs deliveries to ``callback_url``."""
    return secrets.read(session, vault, _binding(account_id)).decode()


def rotate_callback_secret(session: Session, vault: Vault, account_id: str) -> str:
    """A new callback secret; the old one signs nothing from now on."""
    secret = new_secret()
    secrets.keep(session, vault, _binding(account_id), secret.encode())
    return secret


def _binding(account_id: str) -> Binding:
    return Binding(account_id=account_id, subject_id=account_id, purpose=Purpose.CALLBACK_SECRET)
