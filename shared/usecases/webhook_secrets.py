"""What signs an endpoint's deliveries: the current secret or key, and older ones for as long as a rotation overlaps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from shared.crypto.vault import Binding, Vault
from shared.crypto.webhook_signature import new_private_key, new_secret, public_key_of
from shared.domain.webhooks import SignatureScheme
from shared.errors import NotFound
from shared.models import Account, Purpose, WebhookEndpoint
from shared.usecases import accounts, secrets

MAX_OLD: Final = 3
"""Rotating in a hurry must not grow the signature header without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What its owner verifies with: a ``secret``, in clear for this once, or a ``public_key``. The other is null."""

    scheme: SignatureScheme
    secret: str | None = field(default=None, repr=False)
    public_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signing:
    """One secret or private key, and until when it signs; the current one has no end."""

    secret: str = field(repr=False)
    until: datetime | None


def create(session: Session, vault: Vault, endpoint: WebhookEndpoint) -> Shown:
    """The endpoint's first secret or key pair, of its ``signature_scheme``."""
    return _begin(session, vault, endpoint, old=[])


def rotate(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, overlap: timedelta, now: datetime) -> Shown:
    """A new secret or key pair of the endpoint's ``signature_scheme``, which may be another than before.

    The old ones, of whichever scheme, sign too until ``now + overlap`` at the latest.

    Raises:
        NotFound, CannotOpen: the present secret cannot be read.
    """
    old = _ending(_live(session, vault, _binding(endpoint), now=now), now + overlap)
    return _begin(session, vault, endpoint, old=old)


def rotate_callback_secret(
    session: Session, vault: Vault, account_id: str, *, overlap: timedelta, now: datetime
) -> str:
    """A new secret of the account's callbacks; the old ones sign too until ``now + overlap`` at the latest.

    They are kept beside it, so that a release that knows of one secret only still finds the newest.

    Raises:
        NotFound, CannotOpen: the present secret cannot be read.
    """
    session.get_one(Account, account_id, with_for_update={"key_share": True})
    present = _Signing(secret=accounts.callback_secret(session, vault, account_id), until=None)
    old = _ending([present, *_old_callback_secrets(session, vault, account_id, now=now)], now + overlap)
    _keep(session, vault, _old_binding(account_id), old)
    return accounts.rotate_callback_secret(session, vault, account_id)


def signing_secrets(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, now: datetime) -> tuple[str, ...]:
    """What signs a delivery now, newest first; for a job's ``callback_url`` the account's callback secrets.

    Raises:
        NotFound, CannotOpen: it cannot be read.
    """
    if endpoint.job_id is None:
        return tuple(signing.secret for signing in _live(session, vault, _binding(endpoint), now=now))
    old = _old_callback_secrets(session, vault, endpoint.account_id, now=now)
    present = accounts.callback_secret(session, vault, endpoint.account_id)
    return (present, *(signing.secret for signing in old))


def drop(session: Session, endpoint: WebhookEndpoint) -> None:
    """Destroy them."""
    secrets.drop(session, endpoint.id, Purpose.WEBHOOK_SECRET)


def _begin(session: Session, vault: Vault, endpoint: WebhookEndpoint, *, old: list[_Signing]) -> Shown:
    scheme = SignatureScheme(endpoint.signature_scheme)
    secret = new_private_key() if scheme is SignatureScheme.ED25519 else new_secret()
    _keep(session, vault, _binding(endpoint), [_Signing(secret=secret, until=None), *old])
    if scheme is SignatureScheme.HMAC:
        endpoint.public_key = None
        return Shown(scheme=scheme, secret=secret)
    endpoint.public_key = public_key_of(secret)
    return Shown(scheme=scheme, public_key=endpoint.public_key)


def _ending(signings: list[_Signing], end: datetime) -> list[_Signing]:
    """The newest of them, none beyond the end."""
    return [_Signing(secret=each.secret, until=min(each.until or end, end)) for each in signings[:MAX_OLD]]


def _old_callback_secrets(session: Session, vault: Vault, account_id: str, *, now: datetime) -> list[_Signing]:
    try:
        return _live(session, vault, _old_binding(account_id), now=now)
    except NotFound:
        return []


def _live(session: Session, vault: Vault, binding: Binding, *, now: datetime) -> list[_Signing]:
    kept = json.loads(secrets.read(session, vault, binding))
    signings = [_Signing(secret=secret, until=until and datetime.fromisoformat(until)) for secret, until in kept]
    return [signing for signing in signings if signing.until is None or signing.until > now]


def _keep(session: Session, vault: Vault, binding: Binding, signings: list[_Signing]) -> None:
    document = [[signing.secret, signing.until and signing.until.isoformat()] for signing in signings]
    secrets.keep(session, vault, binding, json.dumps(document).encode())


def _binding(endpoint: WebhookEndpoint) -> Binding:
    return Binding(account_id=endpoint.account_id, subject_id=endpoint.id, purpose=Purpose.WEBHOOK_SECRET)


def _old_binding(account_id: str) -> Binding:
    return Binding(account_id=account_id, subject_id=account_id, purpose=Purpose.OLD_CALLBACK_SECRETS)
