"""Keep, read, drop and re-wrap secrets: the vault on one side, rows on the other."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.crypto.vault import Binding, Sealed, Vault
from shared.errors import NotFound
from shared.models import Purpose, Secret


def keep(session: Session, vault: Vault, binding: Binding, secret: bytes) -> None:
    """Seal and store; an older secret of the same subject and purpose is replaced.

    Its row is held first: whoever wraps it anew meanwhile would leave one secret's wrapping around another's content.
    """
    fresh = sealed_row(vault, binding, secret)
    place = (binding.subject_id, binding.purpose)
    kept = session.get(Secret, place, with_for_update={"key_share": True}, populate_existing=True)
    if kept is None:
        session.add(fresh)
    else:
        kept.account_id, kept.kek_id = fresh.account_id, fresh.kek_id
        kept.wrapped_key, kept.ciphertext = fresh.wrapped_key, fresh.ciphertext


def sealed_row(vault: Vault, binding: Binding, secret: bytes) -> Secret:
    """A first secret of its subject and purpose, sealed, for whoever stores it together with other rows."""
    sealed = vault.seal(secret, binding)
    return Secret(
        subject_id=binding.subject_id,
        purpose=binding.purpose,
        account_id=binding.account_id,
        kek_id=sealed.kek_id,
        wrapped_key=sealed.wrapped_key,
        ciphertext=sealed.ciphertext,
    )


def read(session: Session, vault: Vault, binding: Binding) -> bytes:
    """The secret in clear; hold it as briefly as you can.

    Raises:
        NotFound: nothing is kept for this subject and purpose in this account.
        CannotOpen: it does not open (``shared/crypto/vault.py``).
    """
    return opened(vault, binding, session.get(Secret, (binding.subject_id, binding.purpose)))


def opened(vault: Vault, binding: Binding, row: Secret | None) -> bytes:
    """As :func:`read`, from the row."""
    if row is None or row.account_id != binding.account_id:
        raise NotFound("No such secret is kept.", code="secret_not_found")
    return vault.open(_sealed(row), binding)


def drop(session: Session, subject_id: str, *purposes: Purpose) -> None:
    """Destroy the subject's secrets of these purposes."""
    session.execute(delete(Secret).where(Secret.subject_id == subject_id, Secret.purpose.in_(purposes)))


def rewrap_batch(session: Session, vault: Vault, *, limit: int = 500) -> int:
    """Re-wrap up to ``limit`` secrets that are not under the active KEK; returns how many. Repeat until 0."""
    statement = (
        select(Secret)
        .where(Secret.kek_id != vault.active)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    rows = session.execute(statement).scalars().all()
    for row in rows:
        binding = Binding(account_id=row.account_id, subject_id=row.subject_id, purpose=row.purpose)
        sealed = vault.rewrap(_sealed(row), binding)
        row.kek_id, row.wrapped_key = sealed.kek_id, sealed.wrapped_key
    return len(rows)


def _sealed(row: Secret) -> Sealed:
    return Sealed(kek_id=row.kek_id, wrapped_key=row.wrapped_key, ciphertext=row.ciphertext)
