"""API tokens: 256 random bits with a checksum, shown once, kept only as a SHA-256.

A fast hash is right here: the secret has 256 bits, so nobody can search for it, and the API checks one per request.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from typing import Final

PREFIX: Final = "certfleet_"
"""Lets secret scanners recognise a leaked token."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY: Final = 43
_CHECKSUM: Final = 6
SHOWN: Final = len(PREFIX) + 6
"""How many characters are kept in clear, for recognition."""


def new_token() -> str:
    """``certfleet_`` + 43 base-62 characters + 6 of checksum."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_BODY))
    return PREFIX + body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Whether the checksum holds: a mistyped token is refused without asking the database."""
    body, checksum = token[len(PREFIX) : -_CHECKSUM], token[-_CHECKSUM:]
    return token.startswith(PREFIX) and len(body) == _BODY and token.isascii() and _checksum(body) == checksum


def hash_token(token: str) -> str:
    """What is stored and looked up: lower-case hex SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def shown_prefix(token: str) -> str:
    """The recognisable start of a token."""
    return token[:SHOWN]


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
