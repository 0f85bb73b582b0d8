"""X.509 certificates: read whatever they hold, and turn it into facts that cannot harm a message or a database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.crypto.formats import Format, of_der
from shared.crypto.keys import algorithm_of, spki_of
from shared.crypto.seams import Unreadable, WrongSignature, library_call
from shared.domain.certificates import CertificateFacts
from shared.domain.findings import Code, Finding, finding
from shared.domain.validation import Presented, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.crypto.pem import Block

T = TypeVar("T")

FIELD: Final = "certificate"
LABELS: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "X.509 CERTIFICATE"})
"""The last two are obsolete names of the first (RFC 7468 §5.1)."""

NAME_LIMIT: Final = 253
"""The longest host name (RFC 1035 §2.3.4); longer "names" are cut, they match nothing anyway."""

TITLE_LIMIT: Final = 1024
"""For whole distinguished names."""

_OLD_SIGNATURES: Final = {
    "1.2.840.113549.1.1.2": "md2",
    "1.2.840.113549.1.1.3": "md4",
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.3.14.3.2.29": "sha1",
    "1.2.840.10045.4.1": "sha1",
    "1.2.840.10040.4.3": "sha1",
}
"""Signature algorithms whose hash matters to us even where the library does not know them (RFC 3279 §2.2)."""

_UNVERIFIABLE: Final = frozenset({"md2", "md4"})
"""Neither the library nor OpenSSL without its legacy provider has these hashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate of the upload: its DER, its facts, and what the chain needs of it."""

    der: bytes = field(repr=False)
    presented: Presented
    subject: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    spki: bytes | None = field(repr=False)
    """``None`` when the key is of a kind that the library does not know."""
    key_id: bytes | None = field(default=None, repr=False)
    issuer_key_id: bytes | None = field(default=None, repr=False)
    parsed: x509.Certificate = field(repr=False)

    @property
    def facts(self) -> CertificateFacts:
        """What people read of it."""
        return self.presented.facts

    @property
    def line(self) -> int | None:
        """Where its BEGIN line stands."""
        return self.presented.line


def read_certificate(block: Block) -> tuple[Certificate | None, list[Finding]]:
    """Read one block. Extensions that cannot be read leave a certificate without them, and a finding."""
    try:
        with library_call():
            parsed = x509.load_der_x509_certificate(block.der)
            return _certificate(block, parsed)
    except Unreadable:
        return None, [_unreadable(block)]


def _unreadable(block: Block) -> Finding:
    found = of_der(block.der)
    if found in {Format.CERTIFICATE, Format.BINARY}:
        message = "The certificate that begins here is cut off, altered or has content after its end."
        return finding(Code.PEM_DAMAGED, FIELD, message=message, line=block.line)
    message = f"The block is labelled {block.label} but holds {found.phrase}."
    return finding(Code.PEM_REQUIRED, FIELD, message=message, hint=found.remedy, line=block.line)


def _certificate(block: Block, parsed: x509.Certificate) -> tuple[Certificate, list[Finding]]:
    extensions = _tried(lambda: parsed.extensions)
    extensions_found = [] if extensions is not None else [_extensions_unreadable(block)]
    known = _Extensions(extensions or ())
    key = _tried(parsed.public_key)
    certificate = Certificate(
        der=block.der,
        presented=Presented(
            facts=_facts(parsed, known, key),
            line=block.line,
            path_length=known.constraints.path_length if known.constraints else None,
            may_sign=known.usage is None or known.usage.key_cert_sign,
        ),
        subject=parsed.subject.public_bytes(),
        issuer=parsed.issuer.public_bytes(),
        spki=_tried(lambda: spki_of(key)) if key is not None else None,
        key_id=known.key_id,
        issuer_key_id=known.issuer_key_id,
        parsed=parsed,
    )
    return certificate, extensions_found


def _extensions_unreadable(block: Block) -> Finding:
    message = "The certificate's extensions cannot be read (RFC 5280 §4.2); load balancers and clients refuse it."
    hint = "Ask the certificate authority for a correct certificate."
    return finding(Code.PEM_DAMAGED, FIELD, message=message, hint=hint, line=block.line)


class _Extensions:
    """The extensions that matter here; absent ones are ``None``."""

    def __init__(self, extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> None:
        self.names: x509.SubjectAlternativeName | None = None
        self.constraints: x509.BasicConstraints | None = None
        self.usage: x509.KeyUsage | None = None
        self.purposes: x509.ExtendedKeyUsage | None = None
        self.key_id: bytes | None = None
        self.issuer_key_id: bytes | None = None
        for extension in extensions:
            self._take(extension.value)

    def _take(self, value: x509.ExtensionType) -> None:
        match value:
            case x509.SubjectAlternativeName():
                self.names = value
            case x509.BasicConstraints():
                self.constraints = value
            case x509.KeyUsage():
                self.usage = value
            case x509.ExtendedKeyUsage():
                self.purposes = value
            case x509.SubjectKeyIdentifier():
                self.key_id = value.digest
            case x509.AuthorityKeyIdentifier():
                self.issuer_key_id = value.key_identifier


def _facts(parsed: x509.Certificate, known: _Extensions, key: object | None) -> CertificateFacts:
    der = parsed.public_bytes(Encoding.DER)
    common_name = _common_name(parsed.subject)
    return CertificateFacts(
        common_name=common_name,
        names=_names(known.names, common_name),
        subject=visible(parsed.subject.rfc4514_string(), limit=TITLE_LIMIT),
        issuer=visible(parsed.issuer.rfc4514_string(), limit=TITLE_LIMIT),
        serial=format(parsed.serial_number, "x"),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        key_algorithm=algorithm_of(key, oid=parsed.public_key_algorithm_oid.dotted_string),
        signature_hash=_signature_hash(parsed),
        fingerprint_sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        fingerprint_sha256=hashlib.sha256(der).hexdigest(),
        is_ca=known.constraints.ca if known.constraints else None,
        is_self_signed=parsed.subject == parsed.issuer and is_signed_by(parsed, parsed),
        for_server_auth=_is_for_server_auth(known.purposes),
    )


def is_signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key made the child's signature; a signature that cannot be verified was not.

    SHA-1 and MD5, which the library no longer verifies in certificates, are verified here: they have findings of their
    own, and a wrong intermediate of the right name must not hide behind them. MD2 and MD4, which nothing verifies any
    more, are errors wherever they would be sent; here the name decides, so that this stays the only error.
    """
    try:
        with library_call():
            child.verify_directly_issued_by(issuer)
    except WrongSignature:
        return False
    except Unreadable:
        return _is_signed_the_old_way_by(child, issuer)
    return True


def _is_signed_the_old_way_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    used = _OLD_SIGNATURES.get(child.signature_algorithm_oid.dotted_string)
    if used is None or used in _UNVERIFIABLE:
        return used is not None and child.issuer == issuer.subject
    try:
        with library_call():
            _verify_the_old_way(child, issuer)
    except Unreadable:
        return False
    return True


def _verify_the_old_way(child: x509.Certificate, issuer: x509.Certificate) -> None:
    algorithm = child.signature_hash_algorithm
    key = issuer.public_key()
    if algorithm is not None and isinstance(key, rsa.RSAPublicKey):
        key.verify(child.signature, child.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    elif algorithm is not None and isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(child.signature, child.tbs_certificate_bytes, ec.ECDSA(algorithm))
    else:
        raise Unreadable


def _signature_hash(parsed: x509.Certificate) -> str | None:
    old = _OLD_SIGNATURES.get(parsed.signature_algorithm_oid.dotted_string)
    if old is not None:
        return old
    algorithm = _tried(lambda: parsed.signature_hash_algorithm)
    return algorithm.name if algorithm is not None else None


def _common_name(name: x509.Name) -> str | None:
    """The most specific one (the last), as RFC 6125 §6.4.4 has it."""
    values = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    texts = [value if isinstance(value, str) else value.hex() for value in values]
    return visible(texts[-1], limit=NAME_LIMIT) if texts and texts[-1] else None


def _names(alternatives: x509.SubjectAlternativeName | None, common_name: str | None) -> tuple[str, ...]:
    if alternatives is None:
        return (common_name,) if common_name else ()
    found = [*alternatives.get_values_for_type(x509.DNSName)]
    found += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys(visible(name, limit=NAME_LIMIT) for name in found))


def _is_for_server_auth(purposes: x509.ExtendedKeyUsage | None) -> bool:
    if purposes is None:
        return True
    return bool({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes))


def _tried(call: Callable[[], T]) -> T | None:
    try:
        with library_call():
            return call()
    except Unreadable:
        return None
