"""Create, check and revoke API tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.orm import Session

from shared.crypto.tokens import hash_token, is_well_formed, new_token, shown_prefix
from shared.domain.identifiers import new_id
from shared.domain.scopes import Scope
from shared.errors import Unauthenticated
from shared.models import ApiToken

USED_RESOLUTION: Final = timedelta(minutes=1)
"""``last_used_at`` is written at most this often, so that reads stay reads."""


_TOKENS: Final = ApiToken.__table__.c

_KNOWN: Final = select(
    *(_TOKENS.id, _TOKENS.account_id, _TOKENS.scopes, _TOKENS.expires_at, _TOKENS.last_used_at, _TOKENS.revoked_at)
).where(_TOKENS.token_hash == bindparam("token_hash"))
"""Asked at every request, so of the table: a question of the model takes twice the CPU here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking."""

    account_id: str
    token_id: str
    scopes: frozenset[str]


def create_token(
    session: Session,
    *,
    account_id: str,
    name: str,
    scopes: Iterable[Scope],
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """A new token and its clear text, which is shown once and never again."""
    clear = new_token()
    row = ApiToken(
        id=new_id("tok"),
        account_id=account_id,
        name=name,
        prefix=shown_prefix(clear),
        token_hash=hash_token(clear),
        scopes=sorted(scopes),
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    return row, clear


def authenticate(session: Session, clear: str, *, now: datetime) -> Caller:
    """Whose token this is.

    Raises:
        Unauthenticated: unknown, revoked or expired; the message never says which.
    """
    row = session.execute(_KNOWN, {"token_hash": hash_token(clear)}).one_or_none() if is_well_formed(clear) else None
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Unauthenticated(
            "The bearer token is missing or not valid.",
            hint="Send Authorization: Bearer <token>; create one with: certfleet tokens create --account NAME",
        )
    if row.last_used_at is None or row.last_used_at < now - USED_RESOLUTION:
        _note_use(session, row.id, now)
    return Caller(account_id=row.account_id, token_id=row.id, scopes=frozenset(row.scopes))


def list_tokens(session: Session, account_id: str) -> list[ApiToken]:
    """The account's tokens, oldest first."""
    return list(
        session.execute(select(ApiToken).where(ApiToken.account_id == account_id).order_by(ApiToken.id)).scalars()
    )


def revoke_token(session: Session, account_id: str, token_id: str, *, now: datetime) -> bool:
    """Stop a token from working; False when the account has no such live token."""
    statement = update(ApiToken).where(
        ApiToken.id == token_id, ApiToken.account_id == account_id, ApiToken.revoked_at.is_(None)
    )
    return session.execute(statement.values(revoked_at=now).returning(ApiToken.id)).scalar_one_or_none() is not None


def _note_use(session: Session, token_id: str, now: datetime) -> None:
    statement = update(ApiToken).where(
        ApiToken.id == token_id,
        or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < now - USED_RESOLUTION),
    )
    session.execute(statement.values(last_used_at=now).execution_options(synchronize_session=False))
