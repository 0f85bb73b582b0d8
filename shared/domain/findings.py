"""What validation says about an upload: one finding a fault, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error`` stops the job; ``warning`` does not; ``fixed`` was repaired by us, and is said."""

    ERROR = "error"
    WARNING = "warning"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault. ``field`` is the request's field (``certificate``, ``private_key``, ``regions``, …);
    ``line`` counts from 1 within that field. Messages never quote key material.
    """

    code: str
    severity: Severity
    field: str
    message: str
    hint: str
    line: int | None = None


def has_errors(findings: tuple[Finding, ...] | list[Finding]) -> bool:
    """Whether anything here stops the job."""
    return any(finding.severity is Severity.ERROR for finding in findings)
