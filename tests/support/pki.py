"""PKI builders relative to a fixed instant, so that nothing ever expires under a test.

Keys are made once a process; everything else is cheap. ``NOW`` is the instant to hand to the code under test.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack
from zlib import crc32

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ec-p256": ec.SECP256R1,
    "ec-p384": ec.SECP384R1,
    "ec-p521": ec.SECP521R1,
    "ec-secp256k1": ec.SECP256K1,
}
_OLD_RSA_SIGNATURES: dict[str, tuple[int, hashes.HashAlgorithm]] = {
    "sha1": (5, hashes.SHA1()),  # noqa: S303 - what is tested
    "md5": (4, hashes.MD5()),  # noqa: S303 - what is tested
    "md2": (2, hashes.MD5()),  # noqa: S303 - nobody computes MD2 any more, or verifies it
}


class Overrides(TypedDict, total=False):
    """What a test may want different about a certificate; the defaults are in ``_Wanted``."""

    key: str
    number: int
    not_before: datetime
    not_after: datetime
    is_ca: bool | None
    path_length: int | None
    purposes: tuple[ObjectIdentifier, ...]
    may_sign: bool | None
    signature: str
    subject: x509.Name
    serial: int
    has_names: bool
    has_key_ids: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    key: str = "rsa-2048"
    number: int = 0
    not_before: datetime = NOW - 90 * DAY
    not_after: datetime = NOW + 275 * DAY
    is_ca: bool | None = None
    path_length: int | None = None
    purposes: tuple[ObjectIdentifier, ...] = ()
    may_sign: bool | None = None
    signature: str = "sha256"
    subject: x509.Name | None = None
    serial: int | None = None
    has_names: bool = True
    has_key_ids: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with its key and the intermediates above it."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()
    """Its issuers up to, and without, the root."""
    root: x509.Certificate | None = None

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return to_pem(self.certificate)

    @property
    def chain_pem(self) -> str:
        """The certificate and its intermediates, as a load balancer takes them."""
        return to_pem(self.certificate, *self.above)

    @property
    def key_pem(self) -> str:
        """PKCS#1 for RSA, PKCS#8 otherwise: what the service itself would send."""
        return key_pem(self.key)

    @property
    def fingerprint_sha256(self) -> str:
        """Lower-case hex of the DER's hash."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def authority(name: str = "Test Root CA", *, issuer: Issued | None = None, **overrides: Unpack[Overrides]) -> Issued:
    """A certificate authority: self-signed, or an intermediate under ``issuer``."""
    number = crc32(name.encode())
    wanted = replace(_Wanted(is_ca=True, may_sign=True, number=number, not_after=NOW + 3650 * DAY), **overrides)
    return _issued(name, (), wanted, issuer=issuer)


def server(*names: str, issuer: Issued | None = None, **overrides: Unpack[Overrides]) -> Issued:
    """A server certificate for these names (default ``www.example.test``), issued by ``issuer`` or self-signed."""
    wanted = replace(_Wanted(is_ca=False, purposes=(SERVER_AUTH,)), **overrides)
    return _issued((names or ("www.example.test",))[0], names or ("www.example.test",), wanted, issuer=issuer)


def server_for(key: RSAPrivateKey, name: str) -> Issued:
    """A self-signed server certificate for a key that came from elsewhere."""
    return _issued_for(key, name, (name,), _Wanted(is_ca=False, purposes=(SERVER_AUTH,)), issuer=None)


def client(name: str = "client", *, issuer: Issued, **overrides: Unpack[Overrides]) -> Issued:
    """A client certificate for mutual TLS."""
    wanted = replace(_Wanted(is_ca=False, purposes=(CLIENT_AUTH,), number=60), **overrides)
    return _issued(name, (), wanted, issuer=issuer)


def server_with_chain(*names: str, **overrides: Unpack[Overrides]) -> Issued:
    """The usual case: a server certificate under an intermediate under a root."""
    return server(*names, issuer=authority("Test Issuing CA", issuer=authority()), **overrides)


def to_pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def key_pem(key: CertificateIssuerPrivateKeyTypes, *, style: str = "", locked_with: str = "") -> str:
    """A key as PEM. ``style``: ``pkcs8`` or ``traditional``; by default PKCS#1 for RSA and PKCS#8 otherwise.

    ``locked_with`` is the password of an encrypted key.
    """
    style = style or ("traditional" if isinstance(key, rsa.RSAPrivateKey) else "pkcs8")
    format_ = serialization.PrivateFormat.PKCS8 if style == "pkcs8" else serialization.PrivateFormat.TraditionalOpenSSL
    lock = serialization.BestAvailableEncryption(locked_with.encode()) if locked_with else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, format_, lock).decode()


def private_key(algorithm: str = "rsa-2048", number: int = 0) -> CertificateIssuerPrivateKeyTypes:
    """The process's key of this algorithm; another ``number`` is another key. Made on first use."""
    if (algorithm, number) not in _keys:
        _keys[algorithm, number] = _new_key(algorithm)
    return _keys[algorithm, number]


_keys: dict[tuple[str, int], CertificateIssuerPrivateKeyTypes] = {}


def _new_key(algorithm: str) -> CertificateIssuerPrivateKeyTypes:
    if algorithm.startswith("rsa-"):
        return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "dsa-2048":
        return dsa.generate_private_key(2048)
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "ed25519" else ed448.Ed448PrivateKey.generate()


def _issued(name: str, names: tuple[str, ...], wanted: _Wanted, *, issuer: Issued | None) -> Issued:
    return _issued_for(private_key(wanted.key, wanted.number), name, names, wanted, issuer=issuer)


def _issued_for(
    key: CertificateIssuerPrivateKeyTypes, name: str, names: tuple[str, ...], wanted: _Wanted, *, issuer: Issued | None
) -> Issued:
    subject = wanted.subject if wanted.subject is not None else _name(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(wanted.serial or x509.random_serial_number())
        .not_valid_before(wanted.not_before)
        .not_valid_after(wanted.not_after)
    )
    builder = _with_extensions(builder, names if wanted.has_names else (), wanted)
    if wanted.has_key_ids:
        builder = _with_key_ids(builder, key, issuer.key if issuer else key)
    certificate = _signed(builder, issuer.key if issuer else key, wanted.signature)
    return _placed(certificate, key, issuer)


def _placed(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes, issuer: Issued | None) -> Issued:
    if issuer is None:
        return Issued(certificate=certificate, key=key)
    if issuer.root is None:
        return Issued(certificate=certificate, key=key, root=issuer.certificate)
    return Issued(certificate=certificate, key=key, above=(issuer.certificate, *issuer.above), root=issuer.root)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _with_extensions(
    builder: x509.CertificateBuilder, names: tuple[str, ...], wanted: _Wanted
) -> x509.CertificateBuilder:
    if wanted.is_ca is not None:
        path_length = wanted.path_length if wanted.is_ca else None
        builder = builder.add_extension(x509.BasicConstraints(wanted.is_ca, path_length), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
    if wanted.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wanted.purposes), critical=False)
    if wanted.may_sign is not None:
        builder = builder.add_extension(_key_usage(may_sign=wanted.may_sign), critical=True)
    return builder


def _with_key_ids(
    builder: x509.CertificateBuilder, key: CertificateIssuerPrivateKeyTypes, issuer: CertificateIssuerPrivateKeyTypes
) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    others = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(own, critical=False).add_extension(others, critical=False)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, may_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=may_sign,
        crl_sign=may_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(
    builder: x509.CertificateBuilder, key: CertificateIssuerPrivateKeyTypes, signature: str
) -> x509.Certificate:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return builder.sign(key, None)
    certificate = builder.sign(key, hashes.SHA256())
    if signature == "sha256":
        return certificate
    assert isinstance(key, rsa.RSAPrivateKey)
    return _signed_the_old_way(certificate, key, signature)


_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")


def _signed_the_old_way(certificate: x509.Certificate, key: rsa.RSAPrivateKey, signature: str) -> x509.Certificate:
    """The library signs nothing with broken hashes, so the signature is replaced in the DER (RFC 5280 §4.1)."""
    last, algorithm = _OLD_RSA_SIGNATURES[signature]
    identifier = _SHA256_WITH_RSA[:-1] + bytes([last])
    tbs = certificate.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, identifier, 1)
    return x509.load_der_x509_certificate(_assembled(tbs, identifier, key.sign(tbs, padding.PKCS1v15(), algorithm)))


def edited_der(issued: Issued, old: bytes, new: bytes) -> bytes:
    """A self-signed RSA certificate with bytes of equal number replaced, and signed again: DER."""
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    assert len(old) == len(new)
    tbs = issued.certificate.tbs_certificate_bytes.replace(old, new, 1)
    return _assembled(tbs, _SHA256_WITH_RSA, issued.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256()))


def _assembled(tbs: bytes, identifier: bytes, signature: bytes) -> bytes:
    return element(0x30, tbs + element(0x30, identifier + b"\x05\x00") + element(0x03, b"\x00" + signature))


def element(tag: int, content: bytes) -> bytes:
    """One DER element."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
