"""A private certificate authority in a directory: issues RSA server certificates for any names, lists and renews them.

It is the certificate service of the embedded stack, so that the managed path can be tried on one machine. Not a public
CA: clients believe it where they are given ``authority/root.pem``.

::

    path/authority/   root.pem, issuer.pem, issuer.key (0600; the root's key is never kept)
    path/orders/ID/   order.json, chain.pem, key.pem (0600); a directory appears whole, or not at all

An order's id is computed from its reference, so the same order again is the same directory, whoever asks.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.worker.drivers.disk import exclusive_lock, sync_directory, translated, write_new
from shared.config.sources import CertificateService
from shared.errors import Corrupt, Misconfigured, NotOffered, Unsupported
from shared.usecases.clock import Clock, utc_now
from shared.usecases.source import Content, Listing, Offer, Renewal, SourceCapabilities

DEFAULT_DAYS: Final = 90
LONGEST_DAYS: Final = 398
"""The longest life of a public server certificate until 2026 (CA/Browser Forum, Baseline Requirements 6.3.2)."""

MOST_NAMES: Final = 100
AUTHORITY_LIFE: Final = timedelta(days=3650)
LOCK_TIMEOUT: Final = timedelta(seconds=10)
PAGE_SIZE: Final = 200

_KEY_BITS: Final = (2048, 4096)
_EXPONENT: Final = 65537
_BACK: Final = timedelta(minutes=5)
"""Valid from a little before now: clients' clocks go wrong by minutes."""

_SETTINGS: Final = frozenset({"path", "days", "key_bits"})
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_LONGEST_DNS_NAME: Final = 253
_LONGEST_COMMON_NAME: Final = 64
_HIDDEN: Final = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCaSettings:
    """``path``: the directory. ``days``: of a certificate's life. ``key_bits``: of its RSA key."""

    path: Path
    days: int = DEFAULT_DAYS
    key_bits: int = 2048


def parse_settings(settings: dict[str, Any]) -> LocalCaSettings:
    """Read a source's settings.

    Raises:
        Misconfigured: listing every problem.
    """
    problems = [
        f"unknown setting {name!r}; known: {', '.join(sorted(_SETTINGS))}" for name in settings.keys() - _SETTINGS
    ]
    if not isinstance(settings.get("path"), str) or not settings["path"]:
        problems.append("path is missing; name a directory of the worker's user")
    days, key_bits = settings.get("days", DEFAULT_DAYS), settings.get("key_bits", 2048)
    if not isinstance(days, int) or not 1 <= days <= LONGEST_DAYS:
        problems.append(f"days takes 1 to {LONGEST_DAYS}")
    if key_bits not in _KEY_BITS:
        problems.append(f"key_bits takes {' or '.join(map(str, _KEY_BITS))}")
    if problems:
        raise Misconfigured(tuple(problems))
    return LocalCaSettings(path=Path(settings["path"]), days=days, key_bits=key_bits)


class LocalCa:
    """A :class:`shared.usecases.source.Issues`. Several processes may work in one directory."""

    def __init__(self, settings: LocalCaSettings, *, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._orders = settings.path / "orders"

    @classmethod
    def for_service(cls, service: CertificateService) -> Self:
        """See ``parse_settings``."""
        return cls(parse_settings(service.settings))

    @property
    def capabilities(self) -> SourceCapabilities:
        """It renews at any time."""
        algorithms = frozenset({f"rsa-{self._settings.key_bits}"})
        return SourceCapabilities(renews=True, page_size=PAGE_SIZE, key_algorithms=algorithms)

    def list_offers(self, *, search: str | None = None, cursor: str | None = None, limit: int = 50) -> Listing:
        """In order of id; ``search`` is part of any of the names, in any case."""
        wanted = min(limit, PAGE_SIZE)
        found: list[Offer] = []
        with translated(self._orders):
            for order_id in self._ids():
                if cursor is not None and order_id <= cursor:
                    continue
                offer = self._offer(order_id)
                if search and not any(search.lower() in name.lower() for name in (offer.name, *offer.names)):
                    continue
                if len(found) == wanted:
                    return Listing(offers=tuple(found), next_cursor=found[-1].id)
                found.append(offer)
        return Listing(offers=tuple(found))

    def fetch(self, offer_id: str) -> Content:
        """The chain up to, and without, the root."""
        place = self._place(offer_id)
        with translated(place):
            return Content(
                certificate_pem=(place / "chain.pem").read_text(encoding="ascii"),
                private_key_pem=(place / "key.pem").read_text(encoding="ascii"),
            )

    def find_renewal(self, offer_id: str, *, reference: str) -> Renewal | None:
        """There, or not: it is issued in one step."""
        renewed = _order_id("renewal", offer_id, reference)
        return Renewal(offer_id=renewed) if (self._orders / renewed).is_dir() else None

    def renew(self, offer_id: str, *, reference: str) -> Renewal:
        """Issued at once: the same names, a new key, and a life no shorter than the old one's."""
        self._place(offer_id)
        with translated(self._orders):
            old = self._offer(offer_id)
        days = self._settings.days
        if old.not_before and old.not_after:
            days = max(days, (old.not_after - old.not_before - _BACK).days)
        issued = self._issue(_order_id("renewal", offer_id, reference), list(old.names), days=days)
        return Renewal(offer_id=issued.id)

    def order(self, names: Sequence[str], *, reference: str, days: int | None = None) -> Offer:
        """Issued at once. Names are DNS names (``*.`` in front is a wildcard) and addresses."""
        wanted = list(dict.fromkeys(name.strip().lower().rstrip(".") for name in names))
        problems = [name for name in wanted if not _is_name(name)]
        if problems or not 0 < len(wanted) <= MOST_NAMES:
            raise Unsupported(
                f"Not a DNS name or address: {', '.join(map(ascii, problems))}."
                if problems
                else f"An order has 1 to {MOST_NAMES} names.",
                hint="Write international names as A-labels (xn--…).",
            )
        life = self._settings.days if days is None else days
        if not 1 <= life <= LONGEST_DAYS:
            raise Unsupported(f"A certificate lives for 1 to {LONGEST_DAYS} days.")
        return self._issue(_order_id("order", reference), wanted, days=life)

    def _ids(self) -> list[str]:
        if not self._orders.is_dir():
            return []
        return sorted(entry.name for entry in self._orders.iterdir() if not entry.name.startswith(_HIDDEN))

    def _place(self, offer_id: str) -> Path:
        place = self._orders / offer_id
        if not re.fullmatch(r"lc-[0-9a-f]{20}", offer_id) or not place.is_dir():
            raise NotOffered("The local certificate authority has no such certificate.", hint="List what it offers.")
        return place

    def _offer(self, order_id: str) -> Offer:
        file = self._orders / order_id / "order.json"
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            return Offer(
                **{
                    **document,
                    "names": tuple(document["names"]),
                    "not_before": datetime.fromisoformat(document["not_before"]),
                    "not_after": datetime.fromisoformat(document["not_after"]),
                }
            )
        except (ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"{file} is damaged; restore it, or remove its directory.") from error

    def _issue(self, order_id: str, names: Sequence[str], *, days: int) -> Offer:
        with translated(self._settings.path), self._locked():
            if not (self._orders / order_id).is_dir():
                authority = _authority(self._settings.path / "authority", now=self._clock())
                key = rsa.generate_private_key(_EXPONENT, self._settings.key_bits)
                issued = _certificate(authority, key, names, days=days, now=self._clock())
                files = {
                    "order.json": _document(order_id, issued, names, bits=self._settings.key_bits).encode(),
                    "chain.pem": _pem(issued, authority.issuer),
                    "key.pem": _key_pem(key),
                }
                _appear(self._orders / order_id, files)
            return self._offer(order_id)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        for directory in (self._settings.path, self._orders):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive_lock(self._settings.path / "lock", timeout=LOCK_TIMEOUT):
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    issuer: x509.Certificate
    key: rsa.RSAPrivateKey

    def __repr__(self) -> str:
        """Never the key, also in a traceback's locals."""
        return "_Authority()"


def _order_id(*parts: str) -> str:
    content = b"".join(len(part.encode()).to_bytes(8) + part.encode() for part in parts)
    return f"lc-{hashlib.sha256(content).hexdigest()[:20]}"


def _is_name(name: str) -> bool:
    if len(name) <= _LONGEST_DNS_NAME and _DNS_NAME.fullmatch(name) and not _is_address(name):
        return not name.rpartition(".")[2].isdigit()
    return _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _authority(place: Path, *, now: datetime) -> _Authority:
    """The issuing authority; made, with its root, where there is none. The caller holds the lock."""
    if not place.is_dir():
        root_key, key = (rsa.generate_private_key(_EXPONENT, 2048) for _ in range(2))
        root = _ca("Certfleet local root", root_key, above=None, signer=root_key, now=now)
        issuer = _ca("Certfleet local CA", key, above=root, signer=root_key, now=now)
        _appear(place, {"root.pem": _pem(root), "issuer.pem": _pem(issuer), "issuer.key": _key_pem(key)})
    try:
        key_of_issuer = serialization.load_pem_private_key((place / "issuer.key").read_bytes(), password=None)
        found = x509.load_pem_x509_certificate((place / "issuer.pem").read_bytes())
    except ValueError as error:
        raise Corrupt(f"{place} is damaged; restore it from a backup.") from error
    if not isinstance(key_of_issuer, rsa.RSAPrivateKey):
        raise Corrupt(f"{place} holds a key that is not ours; restore it from a backup.")
    return _Authority(issuer=found, key=key_of_issuer)


def _ca(
    name: str, key: rsa.RSAPrivateKey, *, above: x509.Certificate | None, signer: rsa.RSAPrivateKey, now: datetime
) -> x509.Certificate:
    subject = _name(name)
    builder = _builder(subject, above.subject if above else subject, key, now=now, life=AUTHORITY_LIFE)
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        **dict.fromkeys(
            (
                *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
                *("key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        ),
    )
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0 if above else 1), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


def _certificate(
    authority: _Authority, key: rsa.RSAPrivateKey, names: Sequence[str], *, days: int, now: datetime
) -> x509.Certificate:
    first = next((name for name in names if len(name) <= _LONGEST_COMMON_NAME), None)
    subject = _name(first) if first else x509.Name([])
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name) for name in names
    ]
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(subject, authority.issuer.subject, key, now=now, life=timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=first is None)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(above, critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, *, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    moment = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACK)
        .not_valid_after(moment + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _document(order_id: str, issued: x509.Certificate, names: Sequence[str], *, bits: int) -> str:
    document = {
        "id": order_id,
        "name": names[0],
        "common_name": names[0],
        "names": list(names),
        "issuer": issued.issuer.rfc4514_string(),
        "serial": f"{issued.serial_number:x}",
        "not_before": issued.not_valid_before_utc.isoformat(),
        "not_after": issued.not_valid_after_utc.isoformat(),
        "key_algorithm": f"rsa-{bits}",
        "fingerprint_sha256": issued.fingerprint(hashes.SHA256()).hex(),
    }
    return json.dumps(document, indent=1)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    """PKCS#1, unencrypted: what load balancers take."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _appear(place: Path, files: dict[str, bytes]) -> None:
    """A directory of these files, on the disk and whole; a killed run leaves at most a hidden one behind."""
    hidden = place.with_name(f"{_HIDDEN}{place.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(mode=0o700)
    for name, content in files.items():
        write_new(hidden / name, content, mode=0o600)
    sync_directory(hidden)
    hidden.rename(place)
    sync_directory(place.parent)
