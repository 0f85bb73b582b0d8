"""The rules that decide from a certificate's facts what is said about it. Pure; ``now`` is handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from shared.domain.findings import Code, Finding, Severity, finding, with_severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.domain.certificates import CertificateFacts, CertificateType

EXPIRES_SOON: Final = timedelta(days=30)
"""certbot's default ``renew_before_expiry``. Short-lived certificates get no discount: they do expire soon."""

MINIMUM_RSA_BITS: Final = 2048
"""NIST SP 800-131A Rev. 2, table 2; CA/Browser Forum Baseline Requirements §6.1.5."""

BROKEN_HASHES: Final = frozenset({"md2", "md4", "md5"})
WEAK_HASHES: Final = frozenset({"sha1"})

_RSA: Final = re.compile(r"^rsa-(?:pss-)?(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """One certificate as it stood in the upload."""

    facts: CertificateFacts
    line: int | None = None
    path_length: int | None = None
    """basicConstraints pathLenConstraint; ``None`` when there is no limit."""
    may_sign: bool = True
    """True without a keyUsage, or with keyCertSign in it (RFC 5280 §4.2.1.3)."""


def server_findings(leaf: Presented, intermediates: Sequence[Presented], *, now: datetime) -> list[Finding]:
    """What is wrong with a server certificate and the intermediates that will be sent with it."""
    found = [
        *_validity(leaf, Code.EXPIRED, what="The server certificate", now=now),
        *_expires_soon(leaf, what="The server certificate", now=now),
        *_ca_as_server(leaf),
        *_server_auth(leaf),
        *_weak_key(leaf),
        *_weak_signature(leaf),
    ]
    for one in intermediates:
        what = f"The intermediate {_name(one)}"
        found += _validity(one, Code.EXPIRED_INTERMEDIATE, what=what, now=now)
        found += _expires_soon(one, what=what, now=now)
        found += _weak_key(one)
        found += _weak_signature(one)
    return found


def authority_findings(authorities: Iterable[Presented], *, now: datetime) -> list[Finding]:
    """What is wrong with each CA certificate of a bundle."""
    found: list[Finding] = []
    for one in authorities:
        what = f"The CA certificate {_name(one)}"
        found += _authority(one)
        found += _validity(one, Code.EXPIRED, what=what, now=now)
        found += _expires_soon(one, what=what, now=now)
        found += _weak_key(one)
        found += _weak_signature(one)
    return found


def managed_source_is_server_only() -> Finding:
    """A CA certificate was asked of a certificate service."""
    return finding(
        Code.MANAGED_SOURCE_IS_SERVER_ONLY,
        "type",
        message="Certificate services offer server certificates only, and this request has type ca.",
    )


def duplicate_of(certificate_id: str, name: str) -> Finding:
    """The account has a live certificate with the same fingerprint."""
    return finding(
        Code.DUPLICATE_OF,
        "certificate",
        message=f"The account already has this certificate: {visible(name)} ({certificate_id}).",
    )


def quota_exceeded(region: str, type: CertificateType, limit: int) -> Finding:  # noqa: A002 - the request's own word
    """No free slot for this type in the region; decided under concurrency by the caller."""
    return finding(
        Code.QUOTA_EXCEEDED,
        "regions",
        message=f"The region {region} already holds {limit} certificates of type {type}, the most it may.",
    )


def no_slot_to_replace(region: str, type: CertificateType, limit: int) -> Finding:  # noqa: A002 - the request's own word
    """The old one stays until the new one is proven, so a replacement needs one slot beside it."""
    return finding(
        Code.QUOTA_EXCEEDED,
        "regions",
        message=f"The region {region} already holds {limit} certificates of type {type}, the most it may. Replacing"
        " needs one free slot: the new one is put beside the old one and proven before the old one goes.",
    )


def host_not_covered(hosts: Sequence[str], names: Sequence[str], *, listener: str) -> Finding:
    """New content lacks names of a listener that serves the old content."""
    return finding(
        Code.HOST_NOT_COVERED,
        "certificate",
        message=f"The certificate is not valid for {', '.join(hosts)}, which the listener {visible(listener)} serves;"
        f" it covers {', '.join(names) or 'no name'}.",
    )


def unknown_region(region: str, known: Iterable[str]) -> Finding:
    """The request names a region that no operator declared."""
    return finding(
        Code.UNKNOWN_REGION,
        "regions",
        message=f"There is no region {visible(region)}.",
        hint=f"Choose from: {', '.join(sorted(known))}.",
    )


def cancelled() -> Finding:
    """The job was cancelled before anybody looked at the upload."""
    return finding(
        Code.CANCELLED,
        "certificate",
        message="The job was cancelled before the upload was validated; the upload was destroyed.",
    )


def visible(text: str, *, limit: int = 100) -> str:
    """The text with control, invisible and unassigned characters escaped, cut after ``limit`` characters.

    For names out of certificates: these are written by strangers and read by people, terminals and databases.
    """
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _name(one: Presented) -> str:
    return visible(one.facts.common_name or one.facts.subject or "without a name")


def _validity(one: Presented, expired: Code, *, what: str, now: datetime) -> list[Finding]:
    if now > one.facts.not_after:
        message = f"{what} was valid until {_date(one.facts.not_after)}."
        return [finding(expired, "certificate", message=message, line=one.line)]
    if now < one.facts.not_before:
        message = f"{what} becomes valid on {_date(one.facts.not_before)}."
        return [finding(Code.NOT_YET_VALID, "certificate", message=message, line=one.line)]
    return []


def _expires_soon(one: Presented, *, what: str, now: datetime) -> list[Finding]:
    if not timedelta(0) <= one.facts.not_after - now < EXPIRES_SOON:
        return []
    message = f"{what} is valid only until {_date(one.facts.not_after)}."
    return [finding(Code.EXPIRES_SOON, "certificate", message=message, line=one.line)]


def _ca_as_server(leaf: Presented) -> list[Finding]:
    if not leaf.facts.is_ca:
        return []
    severity = Severity.WARNING if leaf.facts.is_self_signed else Severity.ERROR
    message = "The server certificate says CA:TRUE: it is a certificate authority."
    return [with_severity(finding(Code.IS_A_CA, "certificate", message=message, line=leaf.line), severity)]


def _server_auth(leaf: Presented) -> list[Finding]:
    if leaf.facts.for_server_auth:
        return []
    message = "The server certificate's extended key usage does not include server authentication."
    return [finding(Code.NOT_FOR_SERVER_AUTH, "certificate", message=message, line=leaf.line)]


def _authority(one: Presented) -> list[Finding]:
    if one.facts.is_ca and one.may_sign:
        return []
    reason = {
        True: "its keyUsage lacks keyCertSign",
        False: "it says CA:FALSE",
        None: "it has no basicConstraints",
    }[one.facts.is_ca]
    message = f"The certificate {_name(one)} may not issue certificates: {reason}."
    return [finding(Code.NOT_A_CA, "certificate", message=message, line=one.line)]


def _weak_key(one: Presented) -> list[Finding]:
    bits = _RSA.match(one.facts.key_algorithm)
    if bits is None or int(bits[1]) >= MINIMUM_RSA_BITS:
        return []
    message = f"The key of {_name(one)} has {bits[1]} bits; {MINIMUM_RSA_BITS} are the least that is safe."
    return [finding(Code.WEAK_KEY, "certificate", message=message, line=one.line)]


def _weak_signature(one: Presented) -> list[Finding]:
    used = one.facts.signature_hash
    if used not in BROKEN_HASHES | WEAK_HASHES:
        return []
    severity = Severity.ERROR if used in BROKEN_HASHES else Severity.WARNING
    message = f"{_name(one)} is signed with {used.upper()}, which can be forged."
    return [with_severity(finding(Code.WEAK_SIGNATURE, "certificate", message=message, line=one.line), severity)]


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
