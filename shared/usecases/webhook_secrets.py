"""The secrets of a webhook endpoint: the current one, and older ones for as long as a rotation overlaps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from shared.crypto.vault import Binding, Vault
from shared.crypto.webhook_signature import new_secret
from shared.models import Purpose, WebhookEndpoint
from shared.usecases import accounts, secrets

MAX_OLD: Final = 3
"""Rotating in a hurry must not grow the signature header without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signing:
    """One secret, and until when it signs; the current one has no end."""

    secret: str = field(repr=False)
    until: datetime | None


def create(session: Session, vault: Vault, endpoint: WebhookEndpoint) -> str:
    """The endpoint's first secret, in clear for this once."""
    secret = new_secret()
    _keep(session, vault, endpoint, [_Signing(secret=secret, until=None)])
    return secret


def rotate(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, overlap: timedelta, now: datetime) -> str:
    """A new secret, in clear for this once; the old ones sign too until ``now + overlap`` at the latest.

    Raises:
        NotFound, CannotOpen: the present secret cannot be read.
    """
    end = now + overlap
    old = [
        _Signing(secret=signing.secret, until=min(signing.until or end, end))
        for signing in _live(session, vault, endpoint, now=now)
    ]
    secret = new_secret()
    _keep(session, vault, endpoint, [_Signing(secret=secret, until=None), *old[:MAX_OLD]])
    return secret


def signing_secrets(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, now: datetime) -> tuple[str, ...]:
    """What signs a delivery now, newest first; for a job's ``callback_url`` the account's callback secret.

    Raises:
        NotFound, CannotOpen: it cannot be read.
    """
    if endpoint.job_id is not None:
        return (accounts.callback_secret(session, vault, endpoint.account_id),)
    return tuple(signing.secret for signing in _live(session, vault, endpoint, now=now))


def drop(session: Session, endpoint: WebhookEndpoint) -> None:
    """Destroy them."""
    secrets.drop(session, endpoint.id, Purpose.WEBHOOK_SECRET)


def _live(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, now: datetime) -> list[_Signing]:
    kept = json.loads(secrets.read(session, vault, _binding(endpoint)))
    signings = [_Signing(secret=secret, until=until and datetime.fromisoformat(until)) for secret, until in kept]
    return [signing for signing in signings if signing.until is None or signing.until > now]


def _keep(session: Session, vault: Vault, endpoint: WebhookEndpoint, signings: list[_Signing]) -> None:
    document = [[signing.secret, signing.until and signing.until.isoformat()] for signing in signings]
    secrets.keep(session, vault, _binding(endpoint), json.dumps(document).encode())


def _binding(endpoint: WebhookEndpoint) -> Binding:
    return Binding(account_id=endpoint.account_id, subject_id=endpoint.id, purpose=Purpose.WEBHOOK_SECRET)
