"""What validation says about an upload: one finding a fault, all of them at once; and the catalogue of every code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """``error`` stops the job; ``warning`` does not; ``fixed`` was repaired by us, and is said."""

    ERROR = "error"
    WARNING = "warning"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault, where it is, and its remedy. Messages never quote key material.

    ``field`` is the request's field (``certificate``, ``private_key``, ``regions``, …); ``line`` counts from 1 in it.
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


class Code(StrEnum):
    """Every code that a finding can carry; part of the HTTP contract."""

    PEM_REQUIRED = "pem_required"
    PEM_DAMAGED = "pem_damaged"
    DH_PARAMETERS_NOT_SUPPORTED = "dh_parameters_not_supported"
    TOO_LARGE = "too_large"
    PRIVATE_KEY_REQUIRED = "private_key_required"
    PRIVATE_KEY_NOT_ALLOWED = "private_key_not_allowed"
    PRIVATE_KEY_ENCRYPTED = "private_key_encrypted"
    SEVERAL_PRIVATE_KEYS = "several_private_keys"
    KEY_MISMATCH = "key_mismatch"
    KEY_DAMAGED = "key_damaged"
    KEY_ALGORITHM_NOT_SUPPORTED = "key_algorithm_not_supported"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    NOT_A_CA = "not_a_ca"
    IS_A_CA = "is_a_ca"
    NOT_FOR_SERVER_AUTH = "not_for_server_auth"
    EXPIRED = "expired"
    EXPIRED_INTERMEDIATE = "expired_intermediate"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRES_SOON = "expires_soon"
    CHAIN_BROKEN = "chain_broken"
    CHAIN_INCOMPLETE = "chain_incomplete"
    SAMPLE_NOT_ALLOWED = "sample_not_allowed"
    MANAGED_SOURCE_IS_SERVER_ONLY = "managed_source_is_server_only"
    DUPLICATE_OF = "duplicate_of"
    HOST_NOT_COVERED = "host_not_covered"
    QUOTA_EXCEEDED = "quota_exceeded"
    UNKNOWN_REGION = "unknown_region"
    CANCELLED = "cancelled"
    CHAIN_OUT_OF_ORDER = "chain_out_of_order"
    DUPLICATE_CERTIFICATE = "duplicate_certificate"
    ROOT_INCLUDED = "root_included"
    EXTRA_BLOCKS_REMOVED = "extra_blocks_removed"
    BOM_REMOVED = "bom_removed"
    ESCAPED_NEWLINES_DECODED = "escaped_newlines_decoded"
    LINE_ENDINGS_NORMALIZED = "line_endings_normalized"
    BLANK_LINES_REMOVED = "blank_lines_removed"
    WHITESPACE_REMOVED = "whitespace_removed"
    TEXT_REMOVED = "text_removed"
    LINES_REWRAPPED = "lines_rewrapped"
    LABEL_NORMALIZED = "label_normalized"
    EC_PARAMETERS_REMOVED = "ec_parameters_removed"
    PRIVATE_KEY_REENCODED = "private_key_reencoded"


class Origin(StrEnum):
    """What must be known to decide a finding: the upload alone, the whole request, or what is stored already."""

    UPLOAD = "upload"
    REQUEST = "request"
    DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the catalogue: the severities that the code occurs with, its meaning and its remedy."""

    code: Code
    severities: tuple[Severity, ...]
    meaning: str
    remedy: str
    origin: Origin = Origin.UPLOAD


def _error(code: Code, meaning: str, remedy: str, *, origin: Origin = Origin.UPLOAD) -> Entry:
    return Entry(code=code, severities=(Severity.ERROR,), meaning=meaning, remedy=remedy, origin=origin)


def _warning(code: Code, meaning: str, remedy: str, *, origin: Origin = Origin.UPLOAD) -> Entry:
    return Entry(code=code, severities=(Severity.WARNING,), meaning=meaning, remedy=remedy, origin=origin)


def _fixed(code: Code, meaning: str, remedy: str = "Nothing to do: it was repaired.") -> Entry:
    return Entry(code=code, severities=(Severity.FIXED,), meaning=meaning, remedy=remedy)


_ENTRIES: Final = (
    _error(
        Code.PEM_REQUIRED,
        "The field does not hold the PEM text that it asks for: it is empty, binary, of another format, or swapped.",
        "Paste PEM text; the table of conversions below has the command for each format.",
    ),
    _error(
        Code.PEM_DAMAGED,
        "A PEM block is there but cannot be read: a BEGIN or END line is missing or misspelt, or the content between "
        "them is cut off or altered.",
        "Copy the file again from the original, whole, from the first BEGIN line to the last END line.",
    ),
    _error(
        Code.DH_PARAMETERS_NOT_SUPPORTED,
        "The text contains BEGIN DH PARAMETERS. HTTPS listeners use ECDHE and take no DH parameters.",
        "Delete everything from BEGIN DH PARAMETERS to END DH PARAMETERS, both lines included.",
    ),
    _error(
        Code.TOO_LARGE,
        "The field is larger than 1 MiB or holds more than 100 certificates.",
        "Send only the certificate and its intermediates (or only the CA certificates that clients need).",
    ),
    _error(
        Code.PRIVATE_KEY_REQUIRED,
        "A server certificate needs its private key, and the private_key field is missing or empty.",
        "Paste the .key file that was made together with the certificate's request into private_key.",
    ),
    _error(
        Code.PRIVATE_KEY_NOT_ALLOWED,
        "A CA certificate takes no private key: neither in private_key nor inside the certificate field.",
        "Remove the key. If it was sent anywhere by mistake, treat it as disclosed.",
    ),
    _error(
        Code.PRIVATE_KEY_ENCRYPTED,
        "The private key is protected by a password, which a load balancer cannot ask for.",
        "Decrypt it: openssl rsa -traditional -in encrypted.key -out plain.key "
        "(for other key types: openssl pkey -in encrypted.key -out plain.key).",
    ),
    _error(
        Code.SEVERAL_PRIVATE_KEYS,
        "More than one private key was sent, or one of them twice; choosing would be a guess.",
        "Keep only the key of the server certificate.",
    ),
    _error(
        Code.KEY_MISMATCH,
        "The private key does not belong to the server certificate.",
        "Compare both: openssl x509 -noout -pubkey -in cert.pem | openssl sha256; "
        "openssl pkey -pubout -in server.key | openssl sha256.",
    ),
    _error(
        Code.KEY_DAMAGED,
        "The private key cannot be read or contradicts itself.",
        "Check the original: openssl pkey -check -noout -in server.key. A key that fails must be replaced.",
    ),
    _error(
        Code.KEY_ALGORITHM_NOT_SUPPORTED,
        "The region does not take this key algorithm or size: the operator's key policy does not list it, or the "
        "region's load balancer does not support it; the message says which. The rule looks at the server "
        "certificate's key and at every CA certificate's key, not at intermediates. Without a region, RSA 1024, 2048 "
        "and 4096 are allowed.",
        "Request a certificate for an RSA 2048 key, or select regions that take this algorithm.",
    ),
    _warning(
        Code.WEAK_KEY,
        "The RSA key has fewer than 2048 bits (NIST SP 800-131A); modern clients and load balancers refuse it.",
        "Request a new certificate for an RSA 2048 key.",
    ),
    Entry(
        code=Code.WEAK_SIGNATURE,
        severities=(Severity.WARNING, Severity.ERROR),
        meaning="The certificate is signed with SHA-1 (warning) or with MD5, MD4 or MD2 (error), which can be forged. "
        "A root that is left out of a chain does not count; a self-signed certificate that is kept does.",
        remedy="Ask the certificate authority to issue it again with SHA-256.",
    ),
    _error(
        Code.NOT_A_CA,
        "A CA certificate was asked for, and this one may not issue certificates: basicConstraints is missing or says "
        "CA:FALSE, or keyUsage lacks keyCertSign (RFC 5280 §4.2.1.9, §4.2.1.3).",
        "Send the certificate of the authority that issued the clients' certificates, not a client's or server's own.",
    ),
    Entry(
        code=Code.IS_A_CA,
        severities=(Severity.ERROR, Severity.WARNING),
        meaning="The server certificate is a certificate authority (CA:TRUE). Clients refuse it; only for a "
        "self-signed one, which clients must be told to trust anyway, is this a warning.",
        remedy="Put the certificate that was issued to the server name first, or upload this one with type ca.",
    ),
    _error(
        Code.NOT_FOR_SERVER_AUTH,
        "The certificate's extended key usage does not include server authentication (RFC 5280 §4.2.1.12).",
        "Ask the certificate authority for a TLS server certificate (extendedKeyUsage = serverAuth).",
    ),
    _error(
        Code.EXPIRED,
        "The certificate's last valid second (notAfter is inclusive, RFC 5280 §4.1.2.5) has passed.",
        "Renew the certificate and upload the new one.",
    ),
    _error(
        Code.EXPIRED_INTERMEDIATE,
        "An intermediate certificate that would be sent to clients has expired.",
        "Download the current intermediate from the certificate authority and replace it in the chain.",
    ),
    _warning(
        Code.NOT_YET_VALID,
        "The certificate becomes valid only in the future; clients refuse it until then.",
        "Check the clocks, or wait with the deployment until the date named.",
    ),
    _warning(
        Code.EXPIRES_SOON,
        "Less than 30 days remain (the point at which certbot renews by default) for the certificate or for an "
        "intermediate that would be sent with it.",
        "Renew the certificate now.",
    ),
    _error(
        Code.CHAIN_BROKEN,
        "A certificate in the field does not belong to the server certificate's chain, its signature does not verify, "
        "or it may not issue what it issued (CA:FALSE, keyUsage, path length).",
        "Send the server certificate followed by exactly the intermediates that its issuer publishes for it.",
    ),
    _warning(
        Code.CHAIN_INCOMPLETE,
        "The server certificate is not self-signed and its issuer is not in the field; many clients cannot verify it.",
        "Append the issuer's intermediate certificate. If a root issued it directly, nothing is missing.",
    ),
    _error(
        Code.SAMPLE_NOT_ALLOWED,
        "This is the sample from View Sample, or uses the sample's key, which everybody has.",
        "Upload your own certificate and key.",
    ),
    _error(
        Code.MANAGED_SOURCE_IS_SERVER_ONLY,
        "A certificate service offers server certificates only; a CA certificate must be uploaded.",
        "Use source third_party for type ca.",
        origin=Origin.REQUEST,
    ),
    _warning(
        Code.DUPLICATE_OF,
        "The account already has a live certificate with the same fingerprint.",
        "Use the existing certificate, or go on if a second entry is wanted.",
        origin=Origin.DATABASE,
    ),
    _error(
        Code.HOST_NOT_COVERED,
        "New content that replaces a certificate does not cover a host name that a listener serves with the old one.",
        "Get a certificate with all of these names, or take the host names out of the listeners first.",
        origin=Origin.DATABASE,
    ),
    _error(
        Code.QUOTA_EXCEEDED,
        "The region holds as many certificates of this type as the account may have there.",
        "Remove a certificate that is no longer used from the region, or ask the operator for a higher quota.",
        origin=Origin.DATABASE,
    ),
    _error(
        Code.UNKNOWN_REGION,
        "No region of this id is declared.",
        "Choose from GET /v1/regions.",
        origin=Origin.REQUEST,
    ),
    _error(
        Code.CANCELLED,
        "The job was cancelled before the upload was looked at; the upload was destroyed.",
        "Submit the certificate again.",
        origin=Origin.REQUEST,
    ),
    _fixed(
        Code.CHAIN_OUT_OF_ORDER,
        "The certificates were not in the order that TLS sends them (server certificate first, each followed by its "
        "issuer); they are now.",
    ),
    _fixed(
        Code.DUPLICATE_CERTIFICATE,
        "A certificate, or another one for the same authority and key, was there twice; one was kept.",
    ),
    _fixed(
        Code.ROOT_INCLUDED,
        "The chain included its self-signed root, which clients have themselves; it was left out.",
    ),
    _fixed(
        Code.EXTRA_BLOCKS_REMOVED,
        "The field also held what belongs to the other field (a copy of the key, certificates beside the key); the "
        "surplus was left out.",
    ),
    _fixed(Code.BOM_REMOVED, "The text began with a byte order mark, an invisible character; it was removed."),
    _fixed(
        Code.ESCAPED_NEWLINES_DECODED,
        "The text had backslash-n in place of line breaks, as in environment files; they were decoded. Line numbers "
        "count the decoded lines.",
    ),
    _fixed(Code.LINE_ENDINGS_NORMALIZED, "Lines ended in CR LF (Windows) or CR; they end in LF now."),
    _fixed(Code.BLANK_LINES_REMOVED, "There were blank lines; they were removed."),
    _fixed(
        Code.WHITESPACE_REMOVED,
        "There were spaces, tabs or invisible characters at the ends of lines or inside the content; they were "
        "removed.",
    ),
    _fixed(Code.TEXT_REMOVED, "There was text outside the PEM blocks (comments, Bag Attributes); it was removed."),
    _fixed(Code.LINES_REWRAPPED, "Lines were not 64 characters long (RFC 7468 §2); they are now."),
    _fixed(Code.LABEL_NORMALIZED, "A block was labelled X509 CERTIFICATE; it is labelled CERTIFICATE now."),
    _fixed(
        Code.EC_PARAMETERS_REMOVED,
        "The key came with an EC PARAMETERS block, which repeats what the key says; it was removed.",
    ),
    _fixed(
        Code.PRIVATE_KEY_REENCODED,
        "The key was not in the form that load balancers take: RSA keys are sent as PKCS#1 (BEGIN RSA PRIVATE KEY), "
        "others as PKCS#8 (BEGIN PRIVATE KEY).",
    ),
)

CATALOGUE: Final = MappingProxyType({str(entry.code): entry for entry in _ENTRIES})
"""Every code by its spelling on the wire, in the order of ``docs/validation.md``."""


def finding(code: Code, field: str, *, message: str, hint: str = "", line: int | None = None) -> Finding:
    """Build a finding; the severity is the catalogue's first, the hint the catalogue's remedy unless given."""
    entry = CATALOGUE[code]
    return Finding(
        code=str(code),
        severity=entry.severities[0],
        field=field,
        message=message,
        hint=hint or entry.remedy,
        line=line,
    )


def with_severity(item: Finding, severity: Severity) -> Finding:
    """The same finding with another of its code's severities.

    Raises:
        ValueError: when the catalogue does not list that severity for the code.
    """
    if severity not in CATALOGUE[item.code].severities:
        raise ValueError(f"{item.code} is never a {severity}")
    return replace(item, severity=severity)


_SEVERITY_ORDER: Final = tuple(Severity)
_FIELD_ORDER: Final = ("type", "source", "certificate", "private_key", "managed_certificate_id", "regions")


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then repairs; within these by field and line. Exact repetitions are folded."""
    return tuple(sorted(dict.fromkeys(findings), key=_rank))


def _rank(item: Finding) -> tuple[int, int, str, int]:
    field = _FIELD_ORDER.index(item.field) if item.field in _FIELD_ORDER else len(_FIELD_ORDER)
    return _SEVERITY_ORDER.index(item.severity), field, item.field, item.line or 0
