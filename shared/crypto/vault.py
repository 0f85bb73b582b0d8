"""The vault: envelope encryption for everything secret that we keep.

A fresh 256-bit data key per secret encrypts with AES-256-GCM (NIST SP 800-38D, 96-bit random nonce); the data key is
wrapped by a key-encryption key (KEK) known by id, so KEKs rotate without touching the ciphertext. The additional
authenticated data binds both layers to account, subject and purpose: a row copied elsewhere does not open.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import CertfleetError, Misconfigured

_NONCE: Final = 12
_KEY: Final = 32


class CannotOpen(CertfleetError):
    """The secret was sealed for somebody else, by an unknown KEK, or was changed."""

    code = "secret_unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a secret belongs to; part of what is authenticated."""

    account_id: str
    subject_id: str
    purpose: str

    def encoded(self) -> bytes:
        """Length-prefixed, so that no two bindings encode alike."""
        parts = (b"certfleet/1", self.account_id.encode(), self.subject_id.encode(), self.purpose.encode())
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A secret at rest. Safe to store; useless without the KEK."""

    kek_id: str
    wrapped_key: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyRing:
    """One state of the key file; replaced as a whole, so that threads never see half of a rotation."""

    ciphers: dict[str, AESGCM] = field(repr=False)
    signing: dict[str, bytes] = field(repr=False)
    """Keys of signatures, derived from the KEKs: they rotate with them."""
    active: str
    version: int


class Vault:
    """Seals and opens secrets with the KEKs of one key file, which it reads again whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring = _read_key_ring(path)

    @property
    def active(self) -> str:
        """The id of the KEK that new secrets are sealed under."""
        return self._current().active

    def _current(self) -> _KeyRing:
        """Rotation without downtime: a running process learns of a new KEK before it meets it."""
        try:
            version = self._path.stat().st_mtime_ns
        except OSError:
            return self._ring
        if version != self._ring.version:
            self._ring = _read_key_ring(self._path)
        return self._ring

    def seal(self, secret: bytes, binding: Binding) -> Sealed:
        """Encrypt under a fresh data key, wrapped by the active KEK."""
        data_key = AESGCM.generate_key(bit_length=256)
        ring = self._current()
        return Sealed(
            kek_id=ring.active,
            wrapped_key=_encrypt(ring.ciphers[ring.active], data_key, binding),
            ciphertext=_encrypt(AESGCM(data_key), secret, binding),
        )

    def open(self, sealed: Sealed, binding: Binding) -> bytes:
        """The secret.

        Raises:
            CannotOpen: unknown KEK, other binding, or changed bytes.
        """
        data_key = self._unwrap(sealed, binding)
        return _decrypt(AESGCM(data_key), sealed.ciphertext, binding)

    def rewrap(self, sealed: Sealed, binding: Binding) -> Sealed:
        """The same secret under the active KEK; the ciphertext stays as it is."""
        data_key = self._unwrap(sealed, binding)
        ring = self._current()
        wrapped = _encrypt(ring.ciphers[ring.active], data_key, binding)
        return Sealed(kek_id=ring.active, wrapped_key=wrapped, ciphertext=sealed.ciphertext)

    def sign(self, message: bytes) -> tuple[str, bytes]:
        """HMAC-SHA256 of the message under a key derived from the active KEK; that KEK's id, and 32 bytes."""
        ring = self._current()
        return ring.active, hmac.digest(ring.signing[ring.active], message, "sha256")

    def is_signed(self, message: bytes, signature: bytes, *, kek_id: str) -> bool:
        """Whether that is our signature of the message, by a KEK that is still in the key file; in constant time."""
        key = self._current().signing.get(kek_id)
        return key is not None and hmac.compare_digest(hmac.digest(key, message, "sha256"), signature)

    def _unwrap(self, sealed: Sealed, binding: Binding) -> bytes:
        kek = self._current().ciphers.get(sealed.kek_id)
        if kek is None:
            raise CannotOpen(
                f"The key-encryption key {sealed.kek_id!r} is not in the key file.",
                hint="Restore it to the file that CERTFLEET_KEK_FILE names.",
            )
        return _decrypt(kek, sealed.wrapped_key, binding)


def _encrypt(cipher: AESGCM, plain: bytes, binding: Binding) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plain, binding.encoded())


def _decrypt(cipher: AESGCM, blob: bytes, binding: Binding) -> bytes:
    try:
        return cipher.decrypt(blob[:_NONCE], blob[_NONCE:], binding.encoded())
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("A stored secret does not open: it was changed, or belongs to something else.") from error


def load_vault(path: Path) -> Vault:
    """The vault of the key file ``{"active": id, "keys": {id: base64 of 32 bytes}}``.

    Raises:
        Misconfigured: missing, unreadable, malformed, or readable by others.
    """
    return Vault(path)


def _read_key_ring(path: Path) -> _KeyRing:
    try:
        status = path.stat()
        if status.st_mode & 0o077:
            raise Misconfigured((f"The key file {path} is readable by others; run: chmod 600 {path}",))
        document = json.loads(path.read_text(encoding="utf-8"))
        keys = {str(kek_id): _key(text) for kek_id, text in document["keys"].items()}
        ciphers = {kek_id: AESGCM(key) for kek_id, key in keys.items()}
        active = str(document["active"])
    except FileNotFoundError as error:
        raise Misconfigured((f"The key file {path} does not exist; make one with: certfleet keys create",)) from error
    except OSError as error:
        raise Misconfigured((f"The key file {path} cannot be read: {error.strerror}.",)) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Misconfigured((f"The key file {path} is damaged; restore it from your backup.",)) from error
    if active not in ciphers:
        raise Misconfigured((f"The active key-encryption key {active!r} is not in the key file {path}.",))
    signing = {kek_id: _signing_key(key) for kek_id, key in keys.items()}
    return _KeyRing(ciphers=ciphers, signing=signing, active=active, version=status.st_mtime_ns)


def _signing_key(kek: bytes) -> bytes:
    """A key for another use, from which the KEK cannot be computed (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=b"certfleet/1 signatures").derive(kek)


def _key(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != _KEY:
        raise ValueError("a key-encryption key has 32 bytes")
    return key


def create_kek_file(path: Path, *, now: datetime) -> bool:
    """Make a key file with one fresh KEK, mode 0600; False when one is there already (it is never overwritten)."""
    kek_id = _new_kek_id(now)
    document = {"active": kek_id, "keys": {kek_id: _fresh_key()}}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return True


def add_kek(path: Path, *, now: datetime) -> str:
    """Add a fresh KEK to the key file and make it the active one; the old ones stay for reading. Returns its id."""
    load_vault(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    kek_id = _new_kek_id(now)
    document["keys"][kek_id] = _fresh_key()
    document["active"] = kek_id
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    return kek_id


def _new_kek_id(now: datetime) -> str:
    return f"kek-{now:%Y%m%d}-{secrets.token_hex(3)}"


def _fresh_key() -> str:
    return base64.b64encode(AESGCM.generate_key(bit_length=256)).decode()
