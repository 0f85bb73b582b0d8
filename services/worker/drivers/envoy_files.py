"""The directory of one Envoy: staged objects, the record of what is bound, ``lds.json``; one writer at a time.

::

    path/lds.json                      what Envoy reads; replaced by rename, derived from the rest
    path/state.json                    the truth: what is staged, what is bound (as far as Envoy acknowledged it)
    path/objects/<account>/<label>.pem staged: certificates, then the key; inert; its name is a digest of its content
    path/lock  path/fence              one writer; the newest one's number

A writer that is killed leaves ``state.json`` as it was or as it was to be; files that it does not list are removed by
the next writer. All files have mode 0600, directories that are made here 0700.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from services.worker.drivers.disk import exclusive_lock, sync_directory, write_new
from services.worker.drivers.envoy_lds import is_empty
from services.worker.drivers.fencing import admit
from shared.domain.certificates import CertificateType, Material
from shared.errors import Corrupt
from shared.usecases.driver import Listener, ObjectName, Owner, Ref

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
_FORMAT: Final = 1
_KEY_BEGINS: Final = "-----BEGIN "
_CERTIFICATE_ENDS: Final = "-----END CERTIFICATE-----\n"
_NEXT: Final = ".next"


class Damaged(Exception):
    """A staged object's file does not hold what its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is staged and bound. ``generation`` grows with every change; ``lds_sha256`` is of the acknowledged file."""

    generation: int = 0
    lds_sha256: str | None = None
    objects: frozenset[ObjectName] = frozenset()
    listeners: tuple[Listener, ...] = ()

    def users_of(self, name: ObjectName) -> list[str]:
        """The ids of the listeners that refer to an object."""
        return [one.listener_id for one in self.listeners if name in _names(one)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The directory. ``root`` is absolute."""

    root: Path
    lock_timeout: timedelta

    @property
    def lds(self) -> Path:
        """What Envoy reads."""
        return self.root / "lds.json"

    @property
    def record(self) -> Path:
        """Where the state is written."""
        return self.root / "state.json"

    @property
    def objects(self) -> Path:
        """Where the staged objects lie, a directory for each account."""
        return self.root / "objects"

    def object_file(self, name: ObjectName) -> Path:
        """Where one staged object lies."""
        return self.objects / name.account_id / f"{name.label}.pem"

    def read_state(self) -> State:
        """The state; an empty one before the first change.

        Raises:
            Corrupt: it cannot be understood, or is gone while Envoy still has listeners.
            OSError: it cannot be read.
        """
        try:
            return _decode(json.loads(self.record.read_bytes()))
        except FileNotFoundError:
            if is_empty(self.read_lds() or b"{}"):
                return State()
            message = f"{self.lds} has listeners, and {self.record}, which says whose they are, is gone."
            raise Corrupt(message, hint="Restore it, or stop Envoy, empty the directory and deploy again.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"{self.record} cannot be understood ({type(error).__name__}).") from error

    def read_lds(self) -> bytes | None:
        """What lies there for Envoy; ``None``: nothing."""
        with suppress(FileNotFoundError):
            return self.lds.read_bytes()
        return None

    def read_object(self, name: ObjectName) -> Material:
        """A staged object's content, compared with its name.

        Raises:
            Damaged: it is not what was staged.
            FileNotFoundError: it is gone.
        """
        try:
            material = material_of(name.type, self.object_file(name).read_text(encoding="ascii"))
        except ValueError:
            raise Damaged(name.label) from None  # the cause may quote what lies there
        if ObjectName.of(material, _owner(name)) != name:
            raise Damaged(name.label)
        return material

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
    def writing(self, fence: int | None) -> Iterator[Writer]:
        """Become the only writer, and remove what a killed one left.

        Raises:
            Busy: another writer holds the lock for longer than ``lock_timeout``.
            Replan: a newer writer has taken over from this ``fence``.
            Corrupt: the state cannot be understood.
            OSError: the directory cannot be written.
        """
        _make_directory(self.root)
        with exclusive_lock(self.root / "lock", timeout=self.lock_timeout):
            admit(self.root / "fence", fence)
            _make_directory(self.objects)
            writer = Writer(place=self, state=self.read_state())
            writer.clean()
            yield writer


@dataclass(slots=True, kw_only=True)
class Writer:
    """The right to write, while the lock is held. ``state`` is what the record says."""

    place: Place
    state: State = field(repr=False)

    def clean(self) -> None:
        """Remove what a killed writer left: files half written, and objects that the record does not list."""
        for half in (self.place.lds, self.place.record):
            _next_of(half).unlink(missing_ok=True)
        wanted = {self.place.object_file(name) for name in self.state.objects}
        for account in self.place.objects.iterdir():
            for file in account.iterdir():
                if file not in wanted:
                    file.unlink()
            if not any(account.iterdir()):
                account.rmdir()

    def put(self, name: ObjectName, material: Material) -> None:
        """Write an object's file; it counts once :meth:`save` has listed it."""
        path = self.place.object_file(name)
        _make_directory(path.parent)
        _replace(path, f"{material.certificate_pem}{material.private_key_pem or ''}".encode("ascii"))

    def drop(self, name: ObjectName) -> None:
        """Remove the file of an object that :meth:`save` has taken out of the record."""
        path = self.place.object_file(name)
        path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            sync_directory(path.parent)

    def save(
        self,
        *,
        objects: frozenset[ObjectName] | None = None,
        listeners: tuple[Listener, ...] | None = None,
        lds_sha256: str | None = None,
    ) -> None:
        """Make this the truth; what is not given stays as it is."""
        following = State(
            generation=self.state.generation + 1,
            lds_sha256=self.state.lds_sha256 if lds_sha256 is None else lds_sha256,
            objects=self.state.objects if objects is None else objects,
            listeners=self.state.listeners if listeners is None else listeners,
        )
        _replace(self.place.record, _encode(following))
        self.state = following

    def offer(self, content: bytes) -> None:
        """Put a file in front of Envoy; it counts once :meth:`save` has noted that Envoy took it."""
        _replace(self.place.lds, content)


def material_of(kind: CertificateType, text: str) -> Material:
    """Read an object's file: certificates, then (``server``) the key.

    Raises:
        ValueError: it does not begin with a certificate.
    """
    certificates, ends, rest = text.rpartition(_CERTIFICATE_ENDS)
    if rest and not rest.startswith(_KEY_BEGINS):
        raise ValueError("something else than a key follows the certificates")
    certificate_pem = certificates + ends
    leaf = x509.load_pem_x509_certificate(certificate_pem.encode())
    return Material(
        type=kind,
        certificate_pem=certificate_pem,
        private_key_pem=rest or None,
        fingerprint_sha256=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def mode_fault(path: Path) -> str | None:
    """Why a file is open to others, if it is."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"The mode is {mode:04o}, not {FILE_MODE:04o}." if mode & 0o077 else None


def _names(listener: Listener) -> list[ObjectName]:
    return [ref.name for ref in (listener.server, listener.ca) if ref is not None]


def _owner(name: ObjectName) -> Owner:
    return Owner(account_id=name.account_id, certificate_id=name.certificate_id)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    sync_directory(path.parent)


def _next_of(path: Path) -> Path:
    return path.with_name(path.name + _NEXT)


def _replace(path: Path, content: bytes) -> None:
    """Another content of a file, durable when this returns; readers see the old one or the new one."""
    following = _next_of(path)
    following.unlink(missing_ok=True)
    try:
        write_new(following, content, mode=FILE_MODE)
        following.replace(path)
    except BaseException:
        following.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _encode(state: State) -> bytes:
    objects: dict[str, list[str]] = {}
    for name in state.objects:
        objects.setdefault(name.account_id, []).append(name.label)
    document = {
        "format": _FORMAT,
        "generation": state.generation,
        "lds_sha256": state.lds_sha256,
        "objects": {account: sorted(labels) for account, labels in objects.items()},
        "listeners": [_encode_listener(one) for one in state.listeners],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _encode_listener(listener: Listener) -> dict[str, Any]:
    return {
        "account_id": listener.account_id,
        "listener_id": listener.listener_id,
        "hosts": list(listener.hosts),
        "server": listener.server.name.label,
        "ca": listener.ca.name.label if listener.ca else None,
    }


def _decode(document: dict[str, Any]) -> State:
    if document["format"] != _FORMAT:
        raise ValueError("of another format")
    return State(
        generation=int(document["generation"]),
        lds_sha256=document["lds_sha256"],
        objects=frozenset(
            ObjectName.parse(label, account_id=account)
            for account, labels in document["objects"].items()
            for label in labels
        ),
        listeners=tuple(_decode_listener(one) for one in document["listeners"]),
    )


def _decode_listener(document: dict[str, Any]) -> Listener:
    account_id = str(document["account_id"])
    return Listener(
        account_id=account_id,
        listener_id=str(document["listener_id"]),
        hosts=tuple(str(host) for host in document["hosts"]),
        server=ref_of(ObjectName.parse(document["server"], account_id=account_id)),
        ca=ref_of(ObjectName.parse(document["ca"], account_id=account_id)) if document["ca"] else None,
    )


def ref_of(name: ObjectName) -> Ref:
    """The reference to an object; Envoy has no name of its own for it."""
    return Ref(name=name, remote_id=name.label)
