"""Certificate services that live in this process, with faults and knobs, and the source ``MemorySource`` for them.

::

    service = MemoryService(clock)
    offered = service.issue("www.example.com")
    service.faults.add("renew", OutcomeUnknown, after=True)   # ordered, and the answer lost
    service.is_slow = True                                    # orders wait for ``issue_pending``
    source = MemorySource(service)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives import hashes

from shared.config.sources import CertificateService
from shared.errors import DriverError, NotOffered, NotRenewable, Unsupported
from shared.usecases.clock import Clock
from shared.usecases.source import Content, Listing, Offer, Renewal, SourceCapabilities
from tests.support import pki


@dataclass(slots=True)
class Faults:
    """What each verb raises next: before it does anything, or after it did."""

    before: list[tuple[str, DriverError]] = field(default_factory=list)
    after: list[tuple[str, DriverError]] = field(default_factory=list)

    def add(self, verb: str, kind: type[DriverError], *, after: bool = False, times: int = 1) -> None:
        queue = self.after if after else self.before
        queue.extend((verb, kind(f"as told: {verb}")) for _ in range(times))

    def raise_next(self, queue: list[tuple[str, DriverError]], verb: str) -> None:
        for waiting in queue:
            if waiting[0] == verb:
                queue.remove(waiting)
                raise waiting[1]


@dataclass(slots=True)
class MemoryService:
    """What the service holds. ``orders``: every renewal that was ordered, by certificate and reference, in order."""

    clock: Clock
    faults: Faults = field(default_factory=Faults)
    is_slow: bool = False
    renews: bool = True
    life: timedelta = timedelta(days=90)
    offers: dict[str, tuple[Offer, Content]] = field(default_factory=dict)
    orders: dict[tuple[str, str], str | None] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    on_call: Callable[[str], None] = lambda _verb: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def issue(self, *names: str, key: str = "rsa-2048", life: timedelta | None = None) -> Offer:
        """A certificate for these names, offered from now on."""
        number = len(self.offers) + 1
        now = self.clock().replace(microsecond=0)
        issued = pki.server_with_chain(
            *names, key=key, number=100 + number % 4, not_before=now, not_after=now + (life or self.life)
        )
        offer = Offer(
            id=f"m{number:04}",
            name=names[0],
            common_name=names[0],
            names=names,
            not_before=now,
            not_after=now + (life or self.life),
            key_algorithm=key,
            fingerprint_sha256=issued.certificate.fingerprint(hashes.SHA256()).hex(),
        )
        self.offers[offer.id] = (offer, Content(certificate_pem=issued.chain_pem, private_key_pem=issued.key_pem))
        return offer

    def issue_pending(self) -> None:
        """Issue what was ordered and waits."""
        with self.lock:
            for place, issued in list(self.orders.items()):
                if issued is None:
                    self.orders[place] = self._successor(place[0])

    def renew(self, offer_id: str, reference: str) -> str | None:
        with self.lock:
            if (offer_id, reference) not in self.orders:
                self.orders[offer_id, reference] = None if self.is_slow else self._successor(offer_id)
            return self.orders[offer_id, reference]

    def _successor(self, offer_id: str) -> str:
        old = self.offers[offer_id][0]
        return self.issue(*old.names, key=old.key_algorithm or "rsa-2048").id


class MemorySource:
    """A source for a :class:`MemoryService`."""

    def __init__(self, service: MemoryService) -> None:
        self._service = service

    @property
    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(renews=self._service.renews, page_size=100)

    def list_offers(self, *, search: str | None = None, cursor: str | None = None, limit: int = 50) -> Listing:
        self._begin("list_offers")
        offers = [offer for offer, _ in self._service.offers.values() if cursor is None or offer.id > cursor]
        if search:
            offers = [offer for offer in offers if any(search in name for name in offer.names)]
        shown = offers[: min(limit, 100)]
        return Listing(offers=tuple(shown), next_cursor=shown[-1].id if len(shown) < len(offers) else None)

    def fetch(self, offer_id: str) -> Content:
        self._begin("fetch")
        return self._known(offer_id)[1]

    def find_renewal(self, offer_id: str, *, reference: str) -> Renewal | None:
        self._begin("find_renewal")
        orders = self._service.orders
        return Renewal(offer_id=orders[offer_id, reference]) if (offer_id, reference) in orders else None

    def renew(self, offer_id: str, *, reference: str) -> Renewal:
        self._begin("renew")
        if not self._service.renews:
            raise Unsupported("This service renews nothing.")
        offer, _ = self._known(offer_id)
        if offer.name.startswith("never."):
            raise NotRenewable("This one is not renewed.", hint="Order another.")
        renewal = Renewal(offer_id=self._service.renew(offer_id, reference))
        self._service.faults.raise_next(self._service.faults.after, "renew")
        return renewal

    def _known(self, offer_id: str) -> tuple[Offer, Content]:
        if offer_id not in self._service.offers:
            raise NotOffered("There is no such certificate.")
        return self._service.offers[offer_id]

    def _begin(self, verb: str) -> None:
        self._service.calls.append(verb)
        self._service.on_call(verb)
        self._service.faults.raise_next(self._service.faults.before, verb)


def certificate_service(
    source_id: str = "memory", *, account: str = "default", **overrides: object
) -> CertificateService:
    """A declared service; its kind is built by the test."""
    values: dict[str, object] = {"id": source_id, "name": source_id.title(), "kind": "memory", "account": account}
    return CertificateService(**{**values, **overrides})  # type: ignore[arg-type] # keyword overrides of a builder


def moment(at: datetime) -> Clock:
    """A clock that stands still."""
    return lambda: at
