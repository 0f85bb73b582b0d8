"""Private keys: looked at, checked against themselves once, and encoded as load balancers take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from shared.crypto import der as asn1
from shared.crypto.formats import Format, of_der
from shared.crypto.pem import Block, encode
from shared.crypto.seams import Unreadable, UnsupportedContent, library_call
from shared.domain.findings import Code, Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

FIELD: Final = "private_key"

LABELS: Final = frozenset(
    {"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}
)
"""PEM labels of private keys for TLS (RFC 7468 §10, §11, OpenSSL's traditional ones)."""

USUAL_RSA_BITS: Final = 4096
LARGEST_RSA_BITS: Final = 8192
"""What is examined takes longer with every bit: sizes are bounded before it."""

_SMALLEST_SIGNER: Final = 1024
"""Bits; a smaller key is refused by every policy, and may have no room for a signature with SHA-256 (RFC 8017 §9.2)."""

_MESSAGE: Final = b"Does this key sign?"

_LARGEST_DER: Final = 8 * 1024
"""An RSA-8192 key takes under 5 KiB."""

_LARGEST_EXPONENT_BITS: Final = 64
"""OpenSSL's own limit for large moduli (``OPENSSL_RSA_MAX_PUBEXP_BITS``)."""

_RSA_INTEGERS: Final = 9
"""version, n, e, d, p, q, dP, dQ, qInv (RFC 8017 §A.1.2)."""

_CURVES: Final = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}

_OID_RSA: Final = bytes.fromhex("2a864886f70d010101")
_OID_RSA_PSS: Final = bytes.fromhex("2a864886f70d01010a")
_OIDS_SAFE_TO_LOAD: Final = frozenset(
    {
        _OID_RSA,
        _OID_RSA_PSS,
        bytes.fromhex("2a8648ce3d0201"),  # id-ecPublicKey
        bytes.fromhex("2b6570"),  # Ed25519
        bytes.fromhex("2b6571"),  # Ed448
    }
)
"""Loading others may compute with numbers of any size (DSA, DH derive the public key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """A key that passed its own check. ``spki`` is its SubjectPublicKeyInfo in DER; ``pem`` never shows in the repr."""

    algorithm: str
    spki: bytes = field(repr=False)
    pem: str = field(repr=False)
    was_canonical: bool


class _Refused(Exception):
    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def load_private_key(block: Block, *, allowed: Iterable[str] = ()) -> PrivateKey | Finding:
    """Read and check a key block; whatever is wrong with it is the finding.

    ``allowed`` are the algorithms of the regions: only ``rsa-8192`` in it makes keys above 4096 bits be examined.
    """
    if block.is_encrypted or block.label == "ENCRYPTED PRIVATE KEY":
        message = "The private key is encrypted with a password."
        return finding(Code.PRIVATE_KEY_ENCRYPTED, FIELD, message=message, line=block.line)
    limit = LARGEST_RSA_BITS if f"rsa-{LARGEST_RSA_BITS}" in allowed else USUAL_RSA_BITS
    try:
        is_consistent = _check_before_loading(block.der, limit)
        return _private_key(block, _loaded(block.der, is_consistent=is_consistent))
    except _Refused as refused:
        return _labelled_wrongly(block) or finding(refused.code, FIELD, message=refused.message, line=block.line)


def _labelled_wrongly(block: Block) -> Finding | None:
    """What a block that is no readable key is instead, if that can be told."""
    found = of_der(block.der)
    if found in {Format.PRIVATE_KEY, Format.BINARY}:
        return None
    message = f"The block is labelled {block.label} but holds {found.phrase}."
    code = Code.PRIVATE_KEY_ENCRYPTED if found is Format.ENCRYPTED_KEY else Code.PEM_REQUIRED
    return finding(code, FIELD, message=message, hint=found.remedy, line=block.line)


def spki_of(key: PublicKeyTypes) -> bytes:
    """The key's SubjectPublicKeyInfo in DER, encoded anew, so that equal keys are equal bytes."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def algorithm_of(key: object, *, oid: str) -> str:
    """The key's algorithm as in a region's policy (``rsa-2048``, ``ec-p256``); others by curve, size or ``oid``."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}" if oid in {"", _RSA_DOTTED} else f"rsa-pss-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, f"ec-{key.curve.name}")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ed448.Ed448PublicKey):
        return "ed448"
    if isinstance(key, dsa.DSAPublicKey):
        return f"dsa-{key.key_size}"
    return f"oid-{oid}"


_RSA_DOTTED: Final = "1.2.840.113549.1.1.1"


def _check_before_loading(der: bytes, limit: int) -> bool:
    """Whether it is an RSA key whose numbers agree; only that they are primes is left to be seen."""
    if len(der) > _LARGEST_DER:
        raise _Refused(Code.KEY_ALGORITHM_NOT_SUPPORTED, "The private key is larger than any that is supported.")
    try:
        top = asn1.parse(der).children()
        rsa_key = _rsa_of_pkcs8(top) if _is_pkcs8(top) else top
        if len(rsa_key) != _RSA_INTEGERS:
            return False
        numbers = [element.integer() for element in rsa_key]
    except asn1.NotDer:
        raise _Refused(Code.KEY_DAMAGED, "The private key's content is cut off or altered.") from None
    _check_rsa(numbers, limit)
    return numbers[1].bit_length() >= _SMALLEST_SIGNER


def _is_pkcs8(top: tuple[asn1.Element, ...]) -> bool:
    return len(top) > 1 and top[1].tag == asn1.SEQUENCE


def _rsa_of_pkcs8(top: tuple[asn1.Element, ...]) -> tuple[asn1.Element, ...]:
    """The elements of the RSA key inside (RFC 5958), none for other algorithms."""
    algorithm = top[1].children()
    oid = asn1.expect(algorithm[0], asn1.OBJECT_IDENTIFIER).content if algorithm else b""
    if oid not in _OIDS_SAFE_TO_LOAD:
        raise _Refused(Code.KEY_ALGORITHM_NOT_SUPPORTED, "The private key is of an algorithm that is not supported.")
    if oid not in {_OID_RSA, _OID_RSA_PSS} or len(top) <= len(("version", "algorithm")):
        return ()
    return asn1.parse(asn1.expect(top[2], asn1.OCTET_STRING).content).children()


def _check_rsa(numbers: list[int], limit: int) -> None:
    """Refuse sizes that take long to check, and numbers that cannot be a key (RFC 8017 §3.2)."""
    _, n, e, d, p, q, d_p, d_q, q_inv = numbers
    if n.bit_length() > limit:
        message = f"The private key has {n.bit_length()} bits; the largest supported RSA key has {limit}."
        raise _Refused(Code.KEY_ALGORITHM_NOT_SUPPORTED, message)
    is_plausible = (
        min(numbers[1:]) > 0
        and e % 2 == 1
        and 1 < e.bit_length() <= _LARGEST_EXPONENT_BITS
        and d < n
        and p * q == n
        and min(p, q) > 1
        and d_p == d % (p - 1)
        and d_q == d % (q - 1)
        and e * d % (p - 1) == e * d % (q - 1) == 1
        and q_inv < p
        and q_inv * q % p == 1
    )
    if not is_plausible:
        raise _Refused(Code.KEY_DAMAGED, "The numbers of the private key contradict each other.")


def _loaded(der: bytes, *, is_consistent: bool) -> PrivateKeyTypes:
    """OpenSSL's own check of an RSA key tests its primes, which takes 30 ms at 2048 bits and seconds at 8192.

    Where the numbers agree, one signature that verifies says as much of a key that came about by accident, in 1 ms:
    with a factor that is no prime, RSA does not invert itself (RFC 8017 §5.1).
    """
    try:
        with library_call():
            key = serialization.load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=is_consistent)
            if is_consistent and isinstance(key, rsa.RSAPrivateKey):
                _sign_and_verify(key)
            return key
    except UnsupportedContent:
        message = "The private key is of an algorithm or curve that is not supported."
        raise _Refused(Code.KEY_ALGORITHM_NOT_SUPPORTED, message) from None
    except Unreadable:
        message = "The private key cannot be read, or contradicts itself."
        raise _Refused(Code.KEY_DAMAGED, message) from None


def _sign_and_verify(key: rsa.RSAPrivateKey) -> None:
    signature = key.sign(_MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    key.public_key().verify(signature, _MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def _private_key(block: Block, key: PrivateKeyTypes) -> PrivateKey:
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    format_ = serialization.PrivateFormat.TraditionalOpenSSL if is_rsa else serialization.PrivateFormat.PKCS8
    label = "RSA PRIVATE KEY" if is_rsa else "PRIVATE KEY"
    try:
        with library_call():
            der = key.private_bytes(serialization.Encoding.DER, format_, serialization.NoEncryption())
            public = key.public_key()
            spki = spki_of(public)
            algorithm = algorithm_of(public, oid="")
    except Unreadable:
        raise _Refused(Code.KEY_DAMAGED, "The private key cannot be encoded anew.") from None
    was_canonical = block.label == label and block.der == der
    return PrivateKey(algorithm=algorithm, spki=spki, pem=encode(label, der), was_canonical=was_canonical)
