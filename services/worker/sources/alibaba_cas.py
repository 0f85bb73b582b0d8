"""Alibaba Cloud Certificate Management Service (CAS, API 2020-04-07): list, fetch and renew what it holds.

CAS is one service a site, not a region: ``cas.aliyuncs.com`` for the China site, and for the international one
``cas.ap-southeast-1.aliyuncs.com``. It knows no references of ours: a renewal is known by what it became, a certificate
for exactly the same names with a later end, or an order for them that is under way. So one is looked for before one is
ordered, and what was renewed by hand or by CAS's own hosting is found, too, instead of being paid for twice.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Self

from services.worker.sources.alibaba_rpc import Credentials, Gateway, Refused, call
from shared.config.sources import CertificateService
from shared.errors import Busy, Corrupt, Misconfigured, NotOffered, NotRenewable, QuotaExceeded, Unsupported
from shared.usecases.clock import Clock, utc_now
from shared.usecases.source import Content, Listing, Offer, Renewal, SourceCapabilities

VERSION: Final = "2020-04-07"
DEFAULT_ENDPOINT: Final = "cas.aliyuncs.com"
DEFAULT_TIMEOUT: Final = 10
PAGE_SIZE: Final = 50
"""What ListUserCertificateOrder takes as ShowSize."""

LONGEST_SEARCH: Final = timedelta(seconds=15)
"""For the pages of one name, also where the list never ends; a search reads two lists."""

UNDER_WAY: Final = frozenset({"PAYED", "CHECKING"})

_SETTINGS: Final = frozenset({"endpoint", "access_key_id", "access_key_secret", "security_token", "timeout_seconds"})
_ENDPOINT: Final = re.compile(r"(http://)?([A-Za-z0-9.-]+(?::\d{1,5})?)")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_LONGEST_TIMEOUT: Final = 20

_ordering: Final = threading.Lock()
"""Threads of one process look and order one after the other; between processes the acquisition's lease sees to it."""


class AlibabaCas:
    """A :class:`shared.usecases.source.Source`. ``search`` matches as CAS's Keyword does: by domain."""

    def __init__(self, gateway: Gateway, *, search_patience: timedelta = LONGEST_SEARCH) -> None:
        self._gateway = gateway
        self._search_patience = search_patience

    @classmethod
    def for_service(cls, service: CertificateService) -> Self:
        """See ``parse_gateway``."""
        return cls(parse_gateway(service))

    @property
    def capabilities(self) -> SourceCapabilities:
        """What is bought there can be renewed there; RSA, ECC and SM2 certificates occur."""
        return SourceCapabilities(renews=True, page_size=PAGE_SIZE)

    def list_offers(self, *, search: str | None = None, cursor: str | None = None, limit: int = 50) -> Listing:
        """Issued and uploaded certificates, those about to expire among them; ``cursor`` is a page's number."""
        number = int(cursor) if cursor and _ID.fullmatch(cursor) else 1
        size = min(limit, PAGE_SIZE)
        answer = self._orders("CERT", keyword=search, page=number, size=size)
        rows = _rows(answer)
        offers = tuple(_offer(row) for row in rows)
        total = answer.get("TotalCount")
        is_last = not rows or not isinstance(total, int) or number * size >= total
        return Listing(offers=offers, next_cursor=None if is_last else str(number + 1))

    def fetch(self, offer_id: str) -> Content:
        """GetUserCertificateDetail: chain and key. Of what was uploaded there CAS may keep the key to itself."""
        detail = self._detail(offer_id, with_key=True)
        certificate, key = detail.get("Cert"), detail.get("Key")
        if not isinstance(certificate, str) or not certificate:
            raise Corrupt("The service's answer has no certificate in it.")
        if not isinstance(key, str) or not key:
            raise NotOffered(
                "The service does not give this certificate's key away.",
                hint="Upload certificate and key here instead (source third_party).",
            )
        return Content(certificate_pem=certificate, private_key_pem=key)

    def find_renewal(self, offer_id: str, *, reference: str) -> Renewal | None:  # noqa: ARG002 - CAS knows none
        """By names and end, as the module says."""
        return self._successor(self._detail(offer_id, with_key=False), offer_id)

    def renew(self, offer_id: str, *, reference: str) -> Renewal:  # noqa: ARG002 - CAS knows none
        """RenewCertificateOrderForPackageRequest: a new order, its key made by CAS; issued once it is checked."""
        with _ordering:
            detail = self._detail(offer_id, with_key=False)
            found = self._successor(detail, offer_id)
            if found is not None:
                return found
            order_id = detail.get("OrderId")
            if not isinstance(order_id, int) or not order_id:
                raise NotRenewable(
                    "The certificate was uploaded to the service, not bought there.",
                    hint="Get new content from its issuer and replace the certificate.",
                )
            self._order(order_id)
            return Renewal()

    def _order(self, order_id: int) -> None:
        try:
            call(self._gateway, "RenewCertificateOrderForPackageRequest", {"OrderId": str(order_id)}, changes=True)
        except Refused as error:
            if "Quota" in error.refusal or "NotEnough" in error.refusal:
                raise QuotaExceeded(
                    f"The service has nothing left to renew from: {error.refusal}.", hint="Buy a certificate there."
                ) from error
            raise NotRenewable(
                f"The service does not renew this certificate: {error.refusal}.",
                hint="CAS renews within 30 days before the end; it may have to be paid for in its console first.",
            ) from error

    def _successor(self, detail: Mapping[str, Any], offer_id: str) -> Renewal | None:
        """The renewed certificate if it is issued, else whether an order is under way."""
        names, common_name = _names(detail.get("Common"), detail.get("Sans")), detail.get("Common")
        end = _moment(detail.get("NotAfter"))
        if not isinstance(common_name, str) or end is None:
            raise Corrupt("The service's answer names no domain, or no end.")
        for row in self._all("CERT", keyword=common_name):
            offer = _offer(row)
            is_later = offer.not_after is not None and offer.not_after.date() > end.date()
            if offer.id != offer_id and is_later and set(offer.names) == set(names) and not row.get("Upload"):
                return Renewal(offer_id=offer.id)
        orders = [row for row in self._all("CPACK", keyword=common_name) if row.get("Domain") == common_name]
        if any(row.get("Status") in UNDER_WAY for row in orders):
            return Renewal()
        return None

    def _all(self, order_type: str, *, keyword: str) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + self._search_patience.total_seconds()
        page = 1
        while time.monotonic() < end:
            answer = self._orders(order_type, keyword=keyword, page=page, size=PAGE_SIZE)
            rows = _rows(answer)
            yield from rows
            total = answer.get("TotalCount")
            if not rows or not isinstance(total, int) or page * PAGE_SIZE >= total:
                return
            page += 1
        raise Busy(f"The service's list for one name has not ended after {page - 1} pages.")

    def _orders(self, order_type: str, *, keyword: str | None, page: int, size: int) -> dict[str, Any]:
        parameters = {"OrderType": order_type, "CurrentPage": str(page), "ShowSize": str(size)}
        if keyword:
            parameters["Keyword"] = keyword
        try:
            return call(self._gateway, "ListUserCertificateOrder", parameters)
        except Refused as error:
            raise Unsupported(error.message) from error

    def _detail(self, offer_id: str, *, with_key: bool) -> dict[str, Any]:
        if not _ID.fullmatch(offer_id):
            raise NotOffered("The service's certificates are known by numbers.")
        parameters = {"CertId": offer_id} | ({} if with_key else {"CertFilter": "true"})
        try:
            return call(self._gateway, "GetUserCertificateDetail", parameters)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND or "NotFound" in error.refusal or "NotExist" in error.refusal:
                raise NotOffered(f"The service has no such certificate: {error.refusal}.") from error
            raise Unsupported(error.message) from error


def parse_gateway(service: CertificateService, *, clock: Clock = utc_now) -> Gateway:
    """Read a source's settings, and the secrets that they point at.

    Raises:
        Misconfigured: listing every problem; never quoting a secret.
    """
    settings = service.settings
    problems = [
        f"unknown setting {name!r}; known: {', '.join(sorted(_SETTINGS))}" for name in settings.keys() - _SETTINGS
    ]
    endpoint = _ENDPOINT.fullmatch(str(settings.get("endpoint", DEFAULT_ENDPOINT)))
    if endpoint is None or (endpoint[1] and not _is_here(endpoint[2])):
        problems.append("endpoint takes a host name, such as cas.aliyuncs.com (http:// only on this machine)")
    key_id = settings.get("access_key_id")
    if not isinstance(key_id, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", key_id):
        problems.append("access_key_id is missing; it is no secret and stands in the file")
    timeout = settings.get("timeout_seconds", DEFAULT_TIMEOUT)
    if not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST_TIMEOUT:
        problems.append(f"timeout_seconds takes a number up to {_LONGEST_TIMEOUT}")
    secrets: dict[str, str] = {}
    for name in ("access_key_secret", *(("security_token",) if "security_token" in settings else ())):
        try:
            secrets[name] = service.secret(name)
        except Misconfigured as error:
            problems += error.problems
    if problems or endpoint is None:
        raise Misconfigured(tuple(problems))
    return Gateway(
        host=endpoint[2],
        version=VERSION,
        credentials=Credentials(access_key_id=str(key_id), **secrets),
        timeout=timedelta(seconds=timeout),
        clock=clock,
        is_plain=bool(endpoint[1]),
    )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.rpartition(":")[0] or host).is_loopback
    except ValueError:
        return False


def _rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = answer.get("CertificateOrderList", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Corrupt("The service's answer has no list of certificates in it.")
    return rows


def _offer(row: Mapping[str, Any]) -> Offer:
    try:
        common_name = row.get("CommonName")
        return Offer(
            id=str(row["CertificateId"]),
            name=str(row.get("Name") or common_name or row["CertificateId"]),
            common_name=common_name if isinstance(common_name, str) else None,
            names=_names(common_name, row.get("Sans")),
            issuer=_text(row.get("Issuer")),
            serial=_text(row.get("SerialNo")),
            not_before=_day(row.get("StartDate")),
            not_after=_day(row.get("EndDate")),
            fingerprint_sha256=_fingerprint(row.get("Sha2")),
        )
    except (KeyError, ValueError) as error:
        raise Corrupt("The service lists a certificate without a number.") from error


def _names(common_name: object, sans: object) -> tuple[str, ...]:
    listed = [part.strip().lower() for part in str(sans or "").split(",") if part.strip()]
    first = [common_name.lower()] if isinstance(common_name, str) and common_name else []
    return tuple(dict.fromkeys([*first, *listed]))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _day(value: object) -> datetime | None:
    """``YYYY-MM-DD``: its first moment, so that nothing is thought to last longer than it does."""
    try:
        return datetime.strptime(str(value), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _moment(value: object) -> datetime | None:
    """Milliseconds since 1970 (seconds, where it is too small for those), or a day."""
    if not isinstance(value, int) or isinstance(value, bool):
        return _day(value)
    try:
        seconds = value / 1000 if value > 10**11 else value
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _fingerprint(value: object) -> str | None:
    """SHA-256 in hex, with or without colons; whatever else CAS may put there is no fingerprint."""
    found = str(value or "").replace(":", "").lower()
    return found if _HEX.fullmatch(found) else None
