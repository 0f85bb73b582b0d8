"""What an API token may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """Read sees everything but keys; write starts jobs; download is the only way a private key leaves."""

    READ = "read"
    WRITE = "write"
    DOWNLOAD = "download"
    ADMIN = "admin"


ALL_SCOPES: Final = tuple(Scope)
