"""Webhook signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 (``v1``) and Ed25519 (``v1a``).

Both are over id, time and body. A key's prefix says what it is: ``whsec_`` a shared secret, ``whsk_`` a private and
``whpk_`` a public Ed25519 key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as random
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import CertfleetError

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the mark of a secret, not one
PRIVATE_KEY_PREFIX: Final = "whsk_"
PUBLIC_KEY_PREFIX: Final = "whpk_"
TOLERANCE: Final = timedelta(minutes=5)
"""How far a timestamp may lie from now, either way; what the specification's own libraries use."""

_SECRET_BYTES: Final = 32
_SHORTEST_SECRET: Final = 24
_LONGEST_SECRET: Final = 64
_ED25519_BYTES: Final = 32
"""A private key is written as its seed, a public key as it is (RFC 8032 §5.1.5)."""
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class SignatureRejected(CertfleetError):
    """The request was not signed with one of the secrets, or too long ago, or its headers are damaged."""

    code = "webhook_signature_rejected"


def new_secret() -> str:
    """``whsec_`` and base64 of 32 random bytes (the specification asks for 24 to 64)."""
    return SECRET_PREFIX + b64encode(random.token_bytes(_SECRET_BYTES)).decode()


def new_private_key() -> str:
    """``whsk_`` and base64 of an Ed25519 private key's 32 bytes."""
    return PRIVATE_KEY_PREFIX + b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def public_key_of(private_key: str) -> str:
    """``whpk_`` and base64 of the public key that belongs to a ``whsk_`` key.

    Raises:
        ValueError: it is not of that form. The message never quotes it.
    """
    return PUBLIC_KEY_PREFIX + b64encode(_private(private_key).public_key().public_bytes_raw()).decode()


def sign(message_id: str, timestamp: datetime, *, body: bytes, secrets: Sequence[str]) -> str:
    """The ``webhook-signature`` header: one ``v1,<base64>`` or ``v1a,<base64>`` a secret, separated by spaces.

    Args:
        message_id: without a full stop, which separates what is signed.
        timestamp: the time of this attempt, aware; whole seconds are signed.
        body: exactly the bytes that are sent.
        secrets: ``whsec_…`` or ``whsk_…``; several during a rotation, newest first.

    Raises:
        ValueError: the id or a secret is not of that form. The message never quotes a secret.
    """
    if not message_id or "." in message_id:
        raise ValueError("a message id is not empty and has no full stop")
    content = _content(message_id, str(unix_seconds(timestamp)), body)
    return " ".join(_signature(content, secret) for secret in secrets)


def headers(message_id: str, timestamp: datetime, *, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of a signed request; see :func:`sign`."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(unix_seconds(timestamp)),
        SIGNATURE_HEADER: sign(message_id, timestamp, body=body, secrets=secrets),
    }


def verify(body: bytes, received: Mapping[str, str], *, secrets: Sequence[str], now: datetime) -> None:
    """Return if one of the signatures is ours and fresh. Secrets are compared in constant time.

    Args:
        body: the raw request body, before any parsing.
        received: the request's headers, names in any case.
        secrets: ``whsec_…`` or ``whpk_…``; any of them will do.
        now: aware.

    Raises:
        SignatureRejected: for everything that is wrong with the request, however malformed.
        ValueError: a secret or key of ours is malformed.
    """
    lowered = {name.lower(): value for name, value in received.items()}
    message_id, timestamp, offered = (lowered.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if not (message_id and timestamp and offered):
        raise SignatureRejected("A webhook header is missing: webhook-id, webhook-timestamp or webhook-signature.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRejected("The webhook-timestamp is not a number of seconds.")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise SignatureRejected("The webhook-timestamp is too far from now.", hint="Check this machine's clock.")
    content = _content(message_id, timestamp, body)
    matches = [_is_signed(content, offered.split(" "), key=secret) for secret in secrets]
    if not any(matches):
        raise SignatureRejected("No signature matches.", hint="Compare the raw body, before it is parsed.")


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down.

    Raises:
        ValueError: ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    return int(moment.timestamp() // 1)


def _content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body


def _signature(content: bytes, secret: str) -> str:
    if secret.startswith(PRIVATE_KEY_PREFIX):
        return "v1a," + b64encode(_private(secret).sign(content)).decode()
    return "v1," + b64encode(hmac.new(_shared(secret), content, hashlib.sha256).digest()).decode()


def _is_signed(content: bytes, offered: Sequence[str], *, key: str) -> bool:
    if key.startswith(PUBLIC_KEY_PREFIX):
        public = Ed25519PublicKey.from_public_bytes(_ed25519(key, PUBLIC_KEY_PREFIX))
        return any(_is_ed25519(public, content, candidate) for candidate in offered)
    expected = _signature(content, key).encode()
    return any([hmac.compare_digest(candidate.encode("utf-8", "replace"), expected) for candidate in offered])  # noqa: C419 - compares all: the time tells nothing


def _is_ed25519(public: Ed25519PublicKey, content: bytes, candidate: str) -> bool:
    scheme, _, signature = candidate.partition(",")
    try:
        public.verify(b64decode(signature, validate=True), content)
    except (ValueError, InvalidSignature):
        return False
    return scheme == "v1a"


def _private(key: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_ed25519(key, PRIVATE_KEY_PREFIX))


def _ed25519(key: str, prefix: str) -> bytes:
    decoded = _decoded(key, prefix)
    if len(decoded) != _ED25519_BYTES:
        raise ValueError(f"an Ed25519 webhook key is {prefix} and base64 of {_ED25519_BYTES} bytes")
    return decoded


def _shared(secret: str) -> bytes:
    decoded = _decoded(secret, SECRET_PREFIX)
    if not _SHORTEST_SECRET <= len(decoded) <= _LONGEST_SECRET:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes")
    return decoded


def _decoded(key: str, prefix: str) -> bytes:
    """The bytes, or none if it is not of that form; whoever asked says so without quoting it."""
    try:
        return b64decode(key.removeprefix(prefix), validate=True) if key.startswith(prefix) else b""
    except ValueError:
        return b""
