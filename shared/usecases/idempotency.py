"""Same key, same answer: the first answer to a POST with an Idempotency-Key is kept and given again.

The key is taken in the transaction of the deed. A second request with it waits at the unique index for that
transaction: after its commit it gets the stored answer, after its rollback it does the deed itself. So the two can
never both happen, and 409 ("still in progress") is never needed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.crypto.vault import Binding
from shared.domain.identifiers import new_id
from shared.errors import FieldError, Transient, Unprocessable
from shared.models import IdempotentAnswer, Purpose, Secret
from shared.usecases import secrets
from shared.usecases.context import Context
from shared.usecases.tokens import Caller

KEPT: Final = timedelta(hours=24)
"""How long an answer is kept at least; what Stripe's API does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """What was answered. The body may hold a secret that is shown once."""

    status: int
    location: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A key that is ours now, or (``answer``) was somebody's before."""

    id: str
    answer: StoredAnswer | None = None


def request_hash(method: str, path: str, body: bytes) -> str:
    """What makes two requests the same."""
    parts = (method.encode(), path.encode("utf-8", "surrogateescape"), body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def reserve(
    context: Context, session: Session, caller: Caller, *, key: str, fingerprint: str, now: datetime
) -> Reservation:
    """Take the key, waiting for whoever holds it right now.

    Raises:
        Unprocessable: the key was used for another request (``idempotency_key_reused``).
    """
    statement = insert(IdempotentAnswer).values(
        id=new_id("ida"), account_id=caller.account_id, key_hash=_hashed(key), request_hash=fingerprint, created_at=now
    )
    keys = [IdempotentAnswer.account_id, IdempotentAnswer.key_hash]
    statement = statement.on_conflict_do_nothing(index_elements=keys)
    taken = session.execute(statement.returning(IdempotentAnswer.id)).scalar_one_or_none()
    if taken is not None:
        return Reservation(id=taken)
    return _earlier(context, session, caller, key=key, fingerprint=fingerprint)


def store(context: Context, session: Session, caller: Caller, reservation: Reservation, answer: StoredAnswer) -> None:
    """Keep the answer, sealed, in the transaction of the deed."""
    row = session.get_one(IdempotentAnswer, reservation.id)
    row.status, row.location = answer.status, answer.location
    secrets.keep(session, context.vault, _binding(caller, reservation.id), answer.body)


def forget_old(session: Session, *, now: datetime, limit: int = 500) -> int:
    """Delete up to ``limit`` answers older than ``KEPT``; returns how many. Repeat until 0."""
    old = select(IdempotentAnswer.id).where(IdempotentAnswer.created_at < now - KEPT)
    ids = list(session.execute(old.limit(limit).with_for_update(key_share=True, skip_locked=True)).scalars())
    session.execute(delete(Secret).where(Secret.subject_id.in_(ids), Secret.purpose == Purpose.ANSWER))
    session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.id.in_(ids)))
    return len(ids)


def _earlier(context: Context, session: Session, caller: Caller, *, key: str, fingerprint: str) -> Reservation:
    statement = select(IdempotentAnswer).where(
        IdempotentAnswer.account_id == caller.account_id, IdempotentAnswer.key_hash == _hashed(key)
    )
    row = session.execute(statement).scalar_one_or_none()
    if row is None or row.status is None:
        raise Transient("The answer to this key was just forgotten.", hint="Send the request again.")
    if row.request_hash != fingerprint:
        raise _reused()
    body = secrets.read(session, context.vault, _binding(caller, row.id))
    return Reservation(id=row.id, answer=StoredAnswer(status=row.status, location=row.location, body=body))


def _hashed(key: str) -> str:
    """Keys are the client's words, which may hold anything: they are compared, never kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _reused() -> Unprocessable:
    error = FieldError(
        field="Idempotency-Key",
        code="idempotency_key_reused",
        message="The key was used for another request.",
        hint="Use a new key for every new request, and the same one only to repeat it.",
    )
    return Unprocessable(error.message, code=error.code, hint=error.hint, errors=(error,))


def _binding(caller: Caller, answer_id: str) -> Binding:
    return Binding(account_id=caller.account_id, subject_id=answer_id, purpose=Purpose.ANSWER)
