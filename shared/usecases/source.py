"""The source contract: what the product asks of a certificate service's adapter, and the values that pass between."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from shared.config.sources import CertificateService

ENTRY_POINT_GROUP: Final = "certfleet.sources"
"""A distribution adds a source by an entry point of this group: ``name = "module:Class"``, a :class:`SourceClass`."""

_OFFER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One issued certificate as the service lists it: a server certificate with its key, never a CA.

    Attributes:
        id: what the service calls it; 1 to 64 of ``A-Za-z0-9._-``, and it never comes to mean another certificate.
        name: what people call it there.
        names: the DNS names and addresses it is valid for, as far as the listing tells.
        key_algorithm: as in a region's key policy (``rsa-2048``); ``None`` where only the content tells.
        fingerprint_sha256: lower-case hex of the leaf's DER; ``None`` where the service does not tell.

    Raises:
        ValueError: the id holds anything else.
    """

    id: str
    name: str
    common_name: str | None = None
    names: tuple[str, ...] = ()
    issuer: str | None = None
    serial: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    key_algorithm: str | None = None
    fingerprint_sha256: str | None = None

    def __post_init__(self) -> None:
        if not _OFFER_ID.fullmatch(self.id):
            raise ValueError("an offer's id is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of offers; ``next_cursor`` is ``None`` on the last."""

    offers: tuple[Offer, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the service holds: PEM as it sends it. It is validated and re-encoded like any upload."""

    certificate_pem: str = field(repr=False)
    private_key_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A renewal that was ordered; ``offer_id`` is ``None`` until the new certificate is issued."""

    offer_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCapabilities:
    """What this service can do; constant, known without asking it.

    Attributes:
        renews: whether ``renew`` works; when False it raises ``Unsupported``.
        page_size: the most offers of one page.
        key_algorithms: what it issues; empty: anything, or not known.
    """

    renews: bool
    page_size: int
    key_algorithms: frozenset[str] = field(default_factory=frozenset)


@runtime_checkable
class Source(Protocol):
    """The adapter of one certificate service, for one account of ours. Suite: ``tests/contract/source_kit.py``.

    Obligations of every verb:

    * Raises only ``shared.errors.DriverError``, foreign exceptions are translated at the call (``raise … from``), and
      with the driver contract's meanings: ``AuthRefused``, ``Unsupported``, ``NotOffered`` and ``NotRenewable`` are
      permanent; ``QuotaExceeded`` is too (nothing left to order from); ``Busy`` and ``Unreachable`` promise that
      nothing was changed; an order that was sent and not answered is ``OutcomeUnknown``; ``Corrupt`` is an answer
      that cannot be.
    * Never waits without a bound (about 30 s at most).
    * Safe to call from several threads and processes at once.
    * Repeatable at any point, also after a crash in the middle.
    * No private key and no credential in messages, ``repr``, logs, URLs or process arguments.
    """

    @property
    def capabilities(self) -> SourceCapabilities:
        """Known without asking the service; never raises."""
        ...

    def list_offers(self, *, search: str | None = None, cursor: str | None = None, limit: int = 50) -> Listing:
        """Issued server certificates that the service holds with their keys, in an order that does not change.

        ``search`` is part of a name that the certificate is valid for; a service that can only match otherwise says so
        in its docstring. A ``limit`` above ``capabilities.page_size`` means that. ``cursor``: ``next_cursor`` of the
        page before, with the same search.
        """
        ...

    def fetch(self, offer_id: str) -> Content:
        """The content: leaf first, its intermediates, its key. The same for ever.

        Raises:
            NotOffered: the service has no such certificate, or gives its key to nobody.
        """
        ...

    def find_renewal(self, offer_id: str, *, reference: str) -> Renewal | None:
        """What became of the renewal that was perhaps ordered with this reference; ``None``: none was.

        Orders nothing, whatever it finds.

        A renewed certificate has the old one's names and a later end; the old one is still there.
        """
        ...

    def renew(self, offer_id: str, *, reference: str) -> Renewal:
        """Order a new certificate in the old one's place, once: the same reference again finds what it ordered.

        A reference is ours: 1 to 64 of ``A-Za-z0-9_-``, recorded before the call.

        The old one stays as it is. Where the service itself knows no references, the adapter looks before it orders
        (``find_renewal``); the caller looks, too, after an outcome that nobody knows.

        Raises:
            NotOffered: the service has no such certificate.
            NotRenewable: it cannot be renewed there (yet); the message says why, the hint what to do.
            Unsupported: ``capabilities.renews`` is False.
        """
        ...


@runtime_checkable
class Issues(Source, Protocol):
    """A source that issues certificates for any names. Optional."""

    def order(self, names: Sequence[str], *, reference: str, days: int | None = None) -> Offer:
        """A certificate for these names, the first one its common name; the same reference again finds what it ordered.

        Raises:
            Unsupported: a name that it does not issue for, or a lifetime.
        """
        ...


class SourceClass(Protocol):
    """What an entry point of :data:`ENTRY_POINT_GROUP` names: a class, or anything with ``for_service``."""

    def for_service(self, service: CertificateService) -> Source:
        """Build the source from ``service.settings``. Cheap, touches nothing but the secrets it is pointed at.

        Raises:
            Misconfigured: listing every problem of the settings.
        """
        ...
