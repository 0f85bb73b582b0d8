"""The files of one HAProxy: what it reads at its start, and who may write; always ahead of the running process.

::

    path/crt-list                       which host names are served with what, and whose they are (``haproxy_list``)
    path/bootstrap.pem                  a certificate that no host name is served with, so that HAProxy can start empty
    path/objects/<account>/<label>.pem  staged: certificates, then the key; the name is a digest of the content
    path/lock  path/fence  path/version one writer; the newest one's number; how many changes were begun

``python -m services.worker.drivers.haproxy_files PATH [CRT_LIST]`` makes what HAProxy needs for its first start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from services.worker.drivers.disk import exclusive_lock, sync_directory, write_new
from services.worker.drivers.fencing import admit
from services.worker.drivers.haproxy_list import CrtList
from services.worker.drivers.haproxy_runtime import Identity, Wanted
from shared.domain.certificates import CertificateType, Material
from shared.usecases.driver import ObjectName, Owner, Ref

KEY_MODE: Final = 0o600
FILE_MODE: Final = 0o644
"""Host names and CA certificates: no secrets, and the directory is closed anyway."""
DIRECTORY_MODE: Final = 0o750

_CERTIFICATE_ENDS: Final = "-----END CERTIFICATE-----\n"
_NEXT: Final = ".next"
_BOOTSTRAP_NAME: Final = "bootstrap.invalid"
"""RFC 6761 §6.4: nobody's name."""
_FOR_EVER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280 §4.1.2.5: no well-defined end."""


class Damaged(Exception):
    """A staged object's file does not hold what its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A staged object, read from its file and compared with its name."""

    material: Material
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The directory. ``root`` and ``crt_list`` are absolute."""

    root: Path
    crt_list: Path
    lock_timeout: timedelta

    @property
    def bootstrap(self) -> Path:
        """The certificate of the first line."""
        return self.root / "bootstrap.pem"

    @property
    def objects(self) -> Path:
        """Where the staged objects lie, a directory for each account."""
        return self.root / "objects"

    def object_file(self, name: ObjectName) -> Path:
        """Where one staged object lies."""
        return self.objects / name.account_id / f"{name.label}.pem"

    def name_of(self, path: Path) -> ObjectName | None:
        """Whose object a path is; ``None``: nobody's."""
        if path.parent.parent != self.objects or path.suffix != ".pem":
            return None
        with suppress(ValueError):
            return ObjectName.parse(path.stem, account_id=path.parent.name)
        return None

    def ref(self, name: ObjectName) -> Ref:
        """HAProxy knows an object by its path."""
        return Ref(name=name, remote_id=str(self.object_file(name)))

    def object_paths(self) -> list[Path]:
        """Every file where objects lie, in order."""
        return sorted(self.objects.glob("*/*"))

    def read_object(self, name: ObjectName) -> StoredObject:
        """A staged object, compared with its name.

        Raises:
            Damaged: it is not what was staged.
            FileNotFoundError: it is gone.
        """
        try:
            stored = stored_object(name.type, self.object_file(name).read_text("ascii"), path=self.object_file(name))
        except ValueError:
            raise Damaged(name.label) from None  # the cause may quote what lies there
        if ObjectName.of(stored.material, _owner(name)) != name:
            raise Damaged(name.label)
        return stored

    def read_crt_list(self) -> CrtList:
        """What the crt-list's file says; empty where there is none."""
        try:
            return CrtList.parse(self.crt_list.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return CrtList()

    def read_version(self) -> str:
        """How many changes were begun."""
        try:
            return (self.root / "version").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return "0"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep writers out; where there is nothing to write to yet, nothing is made.

        Raises:
            Busy: another holds the lock for longer than ``lock_timeout``.
        """
        lock = self.root / "lock"
        if not lock.exists():
            yield
            return
        with exclusive_lock(lock, timeout=self.lock_timeout):
            yield

    @contextmanager
    def writing(self, fence: int | None) -> Iterator[None]:
        """Become the only writer.

        Raises:
            Busy: another writer holds the lock for longer than ``lock_timeout``.
            Replan: a newer writer has taken over from this ``fence``.
            OSError: the directory cannot be written.
        """
        _make_directory(self.root)
        with exclusive_lock(self.root / "lock", timeout=self.lock_timeout):
            admit(self.root / "fence", fence)
            self.prepare()
            for half in (*self.root.glob(f"*{_NEXT}"), *self.objects.glob(f"*/*{_NEXT}"), _next_of(self.crt_list)):
                half.unlink(missing_ok=True)
            yield

    def prepare(self) -> None:
        """Make what is missing of what HAProxy needs to start."""
        _make_directory(self.objects)
        if not self.bootstrap.exists():
            replace(self.bootstrap, bootstrap_pem(), mode=KEY_MODE)
        if not self.crt_list.exists():
            self.write_crt_list(CrtList())

    def count_change(self) -> None:
        """Another version from here on, whatever comes of the change."""
        following = self.root / f"version{_NEXT}"
        following.write_text(f"{int(self.read_version()) + 1}\n", encoding="ascii")
        following.replace(self.root / "version")

    def write_object(self, wanted: Wanted) -> None:
        """Put an object where HAProxy will read it at its next start."""
        _make_directory(wanted.path.parent)
        replace(wanted.path, wanted.pem, mode=FILE_MODE if wanted.is_ca else KEY_MODE)

    def drop_object(self, path: Path) -> None:
        """Remove an object's file, and the account's directory with its last."""
        path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            sync_directory(path.parent)
        with suppress(OSError):
            path.parent.rmdir()

    def write_crt_list(self, content: CrtList) -> None:
        """What HAProxy serves from its next start on."""
        replace(self.crt_list, content.text(self.bootstrap), mode=FILE_MODE)


def stored_object(kind: CertificateType, text: str, *, path: Path) -> StoredObject:
    """An object from its PEM: certificates, then (``server``) the key.

    Raises:
        ValueError: it holds no certificate, or something else than one key after them.
    """
    certificates, ends, key = text.rpartition(_CERTIFICATE_ENDS)
    if bool(key) != (kind is CertificateType.SERVER):
        raise ValueError("a server certificate has a private key, a CA certificate has none")
    parsed = x509.load_pem_x509_certificates((certificates + ends).encode())
    material = Material(
        type=kind,
        certificate_pem=certificates + ends,
        private_key_pem=key or None,
        fingerprint_sha256=parsed[0].fingerprint(hashes.SHA256()).hex(),
    )
    identities = tuple(map(_identity, parsed))
    return StoredObject(
        material=material,
        wanted=Wanted(path=path, is_ca=kind is CertificateType.CA, pem=text, certificates=identities),
    )


def _identity(certificate: x509.Certificate) -> Identity:
    serial = f"{certificate.serial_number:X}"
    sha1 = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - what HAProxy tells
    return Identity(serial=serial.zfill(len(serial) + len(serial) % 2), sha1=sha1)


def bootstrap_pem() -> str:
    """A self-signed certificate for nobody, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _BOOTSTRAP_NAME)])
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    certificate = (
        builder.serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(_FOR_EVER)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (certificate.public_bytes(Encoding.PEM) + key_pem).decode()


def replace(path: Path, content: str, *, mode: int) -> None:
    """Another content of a file, durable when this returns; readers see the old one or the new one."""
    following = _next_of(path)
    following.unlink(missing_ok=True)
    try:
        write_new(following, content.encode("utf-8"), mode=mode)
        following.replace(path)
    except BaseException:
        following.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _next_of(path: Path) -> Path:
    return path.with_name(path.name + _NEXT)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    sync_directory(path.parent)


def _owner(name: ObjectName) -> Owner:
    return Owner(account_id=name.account_id, certificate_id=name.certificate_id)


def main(arguments: list[str]) -> None:
    """Prepare a directory for HAProxy's first start."""
    root = Path(arguments[0]).absolute()
    crt_list = Path(arguments[1]).absolute() if arguments[1:] else root / "crt-list"
    with Place(root=root, crt_list=crt_list, lock_timeout=timedelta(seconds=10)).writing(None):
        pass


if __name__ == "__main__":
    main(sys.argv[1:])
