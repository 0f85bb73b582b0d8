"""E-mail addresses that we accept: one plain address, so that nothing can be injected into a mail's header."""

from __future__ import annotations

import re
from typing import Final

from shared.errors import FieldError, Rejected

MAX_ADDRESS: Final = 254
"""RFC 5321 §4.5.3.1.3, less the angle brackets (RFC 3696 erratum 1690)."""

INVALID_EMAIL: Final = "invalid_email"
ADDRESS_HINT: Final = f"Give one address of at most {MAX_ADDRESS} characters, such as ops@example.com."

_ADDRESS: Final = re.compile(
    r"(?!\.)(?!.*\.\.)(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}(?<!\.)@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
"""A dot-atom local part and a host name (RFC 5321 §4.1.2); no display names, quotes, comments or control characters.

Nor what begins an encoded word (``=?``): it is never in an address (RFC 2047 §5 (3)), and no header could be written.
"""


def is_address(text: str) -> bool:
    """Whether mail could be sent to it, by its looks."""
    return len(text) <= MAX_ADDRESS and _ADDRESS.fullmatch(text) is not None


def checked_address(text: str, *, field: str) -> str:
    """The address as it is.

    Raises:
        Rejected: naming ``field``.
    """
    if not is_address(text):
        error = FieldError(
            field=field, code=INVALID_EMAIL, message=f"{text!r} is not an e-mail address.", hint=ADDRESS_HINT
        )
        raise Rejected("A contact cannot be mailed to.", code=INVALID_EMAIL, errors=(error,))
    return text
