"""Webhook signatures as Standard Webhooks 1.0.0 has them, symmetric scheme ``v1``: HMAC-SHA256 over id, time, body."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as random
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from shared.errors import CertfleetError

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the mark of a secret, not one
TOLERANCE: Final = timedelta(minutes=5)
"""How far a timestamp may lie from now, either way; what the specification's own libraries use."""

_SECRET_BYTES: Final = 32
_SHORTEST_SECRET: Final = 24
_LONGEST_SECRET: Final = 64
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class SignatureRejected(CertfleetError):
    """The request was not signed with one of the secrets, or too long ago, or its headers are damaged."""

    code = "webhook_signature_rejected"


def new_secret() -> str:
    """``whsec_`` and base64 of 32 random bytes (the specification asks for 24 to 64)."""
    return SECRET_PREFIX + b64encode(random.token_bytes(_SECRET_BYTES)).decode()


def sign(message_id: str, timestamp: datetime, *, body: bytes, secrets: Sequence[str]) -> str:
    """The ``webhook-signature`` header: one ``v1,<base64>`` for each secret, separated by spaces.

    Args:
        message_id: without a full stop, which separates what is signed.
        timestamp: the time of this attempt, aware; whole seconds are signed.
        body: exactly the bytes that are sent.
        secrets: ``whsec_…``; several during a rotation, newest first.

    Raises:
        ValueError: the id or a secret is not of that form. The message never quotes a secret.
    """
    if not message_id or "." in message_id:
        raise ValueError("a message id is not empty and has no full stop")
    return " ".join(_signatures(message_id, str(unix_seconds(timestamp)), body=body, secrets=secrets))


def headers(message_id: str, timestamp: datetime, *, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of a signed request; see :func:`sign`."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(unix_seconds(timestamp)),
        SIGNATURE_HEADER: sign(message_id, timestamp, body=body, secrets=secrets),
    }


def verify(body: bytes, received: Mapping[str, str], *, secrets: Sequence[str], now: datetime) -> None:
    """Return if one of the signatures is ours and fresh. Compares in constant time.

    Args:
        body: the raw request body, before any parsing.
        received: the request's headers, names in any case.
        secrets: ``whsec_…``; any of them will do.
        now: aware.

    Raises:
        SignatureRejected: for everything that is wrong with the request, however malformed.
        ValueError: a secret of ours is malformed.
    """
    lowered = {name.lower(): value for name, value in received.items()}
    message_id, timestamp, offered = (lowered.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if not (message_id and timestamp and offered):
        raise SignatureRejected("A webhook header is missing: webhook-id, webhook-timestamp or webhook-signature.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRejected("The webhook-timestamp is not a number of seconds.")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise SignatureRejected("The webhook-timestamp is too far from now.", hint="Check this machine's clock.")
    _match(offered, _signatures(message_id, timestamp, body=body, secrets=secrets))


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down.

    Raises:
        ValueError: ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    return int(moment.timestamp() // 1)


def _match(offered: str, expected: Iterable[str]) -> None:
    candidates = [candidate.encode("utf-8", "replace") for candidate in offered.split(" ")]
    wanted = [signature.encode() for signature in expected]
    matches = [hmac.compare_digest(candidate, signature) for candidate in candidates for signature in wanted]
    if not any(matches):
        raise SignatureRejected("No signature matches.", hint="Compare the raw body, before it is parsed.")


def _signatures(message_id: str, timestamp: str, *, body: bytes, secrets: Sequence[str]) -> list[str]:
    content = f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body
    digests = (hmac.new(_key(secret), content, hashlib.sha256).digest() for secret in secrets)
    return ["v1," + b64encode(digest).decode() for digest in digests]


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not _SHORTEST_SECRET <= len(key) <= _LONGEST_SECRET:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes") from None
    return key
