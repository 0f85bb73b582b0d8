"""How a failed attempt at a region is told to users."""

from __future__ import annotations

from typing import Any, Final

from shared.domain.retries import is_retryable
from shared.errors import CertfleetError

UNEXPECTED: Final = "The region's driver failed unexpectedly; the operator finds the place in the worker's log."


def error_document(error: Exception, *, retryable: bool) -> dict[str, Any]:
    """An error as users see it. A foreign exception's text stays out: nobody knows what it quotes."""
    if not isinstance(error, CertfleetError):
        return {"code": "internal_error", "message": UNEXPECTED, "retryable": retryable}
    document = {"code": error.code, "message": error.message, "retryable": retryable}
    if error.hint:
        document["hint"] = error.hint
    if is_retryable(error) and not retryable:
        document["message"] = f"{error.message} All attempts are used up."
    return document
