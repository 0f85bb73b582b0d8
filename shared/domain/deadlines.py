"""What ends, and when: a certificate is as good as the first certificate of what is sent with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.certificates import CertificateType


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when a certificate is valid, both ends included (RFC 5280 §4.1.2.5)."""

    not_before: datetime
    not_after: datetime

    @property
    def lifetime(self) -> timedelta:
        """All of it."""
        return self.not_after - self.not_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One certificate of the chain (or of a bundle of CAs). ``position``: as sent, 0 is the first."""

    position: int
    subject: str
    fingerprint_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A moment at which something of a certificate ends. ``link``: what; ``None``: the certificate itself."""

    validity: Validity
    link: Link | None = None

    @property
    def at(self) -> datetime:
        """The last valid instant; what the ledger knows the deadline by."""
        return self.validity.not_after


def deadlines(kind: CertificateType, own: Validity, others: Sequence[Deadline]) -> tuple[Deadline, ...]:
    """All that is worth a notice of its own, soonest first.

    A server certificate ends with the first of its chain: each intermediate that ends before it counts, those that
    outlive it do not (RFC 5280 §6.1.3 (a)(2): every certificate of the path must be valid). In a bundle of CAs each one
    counts, because each is trusted for itself. What ends in the same second is said once.
    """
    ends = {own.not_after: Deadline(validity=own)}
    for each in others:
        if kind is CertificateType.CA or each.at < own.not_after:
            ends.setdefault(each.at, each)
    return tuple(ends[at] for at in sorted(ends))
