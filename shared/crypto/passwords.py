"""Passwords of people: Argon2id (RFC 9106), with the parameters that OWASP's cheat sheet "Password Storage" gives."""

from __future__ import annotations

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 1_024
"""Far above any password; it bounds what one request can make us hash."""

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""19 MiB, two passes: about 25 ms. Sign-in is limited in number, so threads cannot fill the memory."""


def hash_password(password: str) -> str:
    """The encoded hash with its salt and parameters."""
    return _HASHER.hash(password.encode("utf-8", "surrogatepass"))


def is_password(stored: str | None, password: str) -> bool:
    """Whether the hash is this password's. Takes as long when there is no hash, so that time tells nothing."""
    try:
        _HASHER.verify(stored or _nobodys(), password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobodys() -> str:
    return hash_password("the password of nobody")
