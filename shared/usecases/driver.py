"""The driver contract: what the product asks of a load balancer's adapter, and the values that pass between them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, Self, runtime_checkable

from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material

ENTRY_POINT_GROUP: Final = "certfleet.drivers"
"""A distribution adds a driver by an entry point of this group: ``name = "module:Class"``, a :class:`DriverClass`."""

DIGEST_LENGTH: Final = 16
"""Hex digits of the SHA-256 that a name carries: 64 bits, beside a certificate id that is unique by itself."""

_IDENTIFIER: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{DIGEST_LENGTH}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose content this is: the account, and the one logical certificate within it."""

    account_id: str
    certificate_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectName:
    """What an object is called on a load balancer; computed, never chosen, so that a repeated call finds its own.

    The digest covers account, type and content (:meth:`of`): new content is a new name, and two accounts never share
    one. Every part is ``[a-z0-9_-]``, so a name is safe in a path, a command and a URL.

    Raises:
        ValueError: a part holds anything else.
    """

    account_id: str
    type: CertificateType
    certificate_id: str
    digest: str

    def __post_init__(self) -> None:
        for part in (self.account_id, self.certificate_id):
            if not _IDENTIFIER.fullmatch(part):
                raise ValueError(f"{part!r} is not an identifier: 1 to 63 of a-z, 0-9, '_' and '-'")
        if not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"{self.digest!r} is not a digest: {DIGEST_LENGTH} lower-case hex digits")

    @classmethod
    def of(cls, material: Material, owner: Owner) -> Self:
        """The one name of this content of this owner."""
        parts = (owner.account_id, material.type.value, material.certificate_pem, material.private_key_pem or "")
        content = b"".join(len(part.encode()).to_bytes(8) + part.encode() for part in parts)
        return cls(
            account_id=owner.account_id,
            type=material.type,
            certificate_id=owner.certificate_id.lower(),
            digest=hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH],
        )

    @classmethod
    def parse(cls, label: str, *, account_id: str) -> Self:
        """The inverse of :attr:`label`, for objects read back from a balancer or from the database.

        Raises:
            ValueError: not a label of ours; a snapshot passes such objects over (they belong to somebody else).
        """
        kind, _, rest = label.partition("-")
        certificate_id, _, digest = rest.rpartition("-")
        return cls(account_id=account_id, type=CertificateType(kind), certificate_id=certificate_id, digest=digest)

    @property
    def label(self) -> str:
        """``<type>-<certificate id>-<first 16 hex digits of the digest>``, as it stands on the balancer."""
        return f"{self.type}-{self.certificate_id}-{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A staged object: our name, and what the balancer calls it (equal where the balancer takes our name).

    Store ``name.label`` and ``remote_id``; they and the account id make the same Ref again.
    """

    name: ObjectName
    remote_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The answer of ``stage``. ``created`` is False when the balancer held exactly this before the call."""

    ref: Ref
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What ``bind`` puts in front of clients: host names, a server certificate, for mutual TLS also a CA.

    ``hosts``: DNS names in lower case (A-labels), sorted; ``*.`` at the front is a wildcard. One host name belongs to
    one listener of a balancer, whoever owns it. ``ca`` present means ``mutual``: clients without a certificate of that
    CA are refused.
    """

    account_id: str
    listener_id: str
    hosts: tuple[str, ...]
    server: Ref
    ca: Ref | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedObject:
    """One object as the balancer itself reports it.

    ``fingerprint_sha256``: lower-case hex of the leaf's DER (for ``ca``: the first certificate's); ``None`` when the
    balancer does not tell (``Readback.NAMES``).
    """

    ref: Ref
    fingerprint_sha256: str | None


class AnomalyKind(StrEnum):
    """What a snapshot can find wrong."""

    MISSING = "missing"
    """Listed by the balancer, but its content is gone."""
    ALTERED = "altered"
    """Its content is not what was staged."""
    ACCESS = "access"
    """Its mode or owner lets others in, or keeps the balancer out."""
    UNEXPECTED = "unexpected"
    """In our place, and nobody staged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One thing that is not as it was staged. ``subject`` names the object or file; never content.

    ``account_id`` is ``None`` when it concerns no single account.
    """

    kind: AnomalyKind
    subject: str
    message: str
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The balancer's own word, at one moment.

    ``version``: opaque; equal versions mean that nothing was changed through the driver in between.
    """

    version: str
    objects: tuple[StagedObject, ...] = ()
    listeners: tuple[Listener, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()

    def find(self, name: ObjectName) -> StagedObject | None:
        """The object of exactly this name *and account*, if it is there."""
        return next((held for held in self.objects if held.ref.name == name), None)

    def of_account(self, account_id: str) -> Snapshot:
        """The part that this account may see."""
        return Snapshot(
            version=self.version,
            objects=tuple(held for held in self.objects if held.ref.name.account_id == account_id),
            listeners=tuple(listener for listener in self.listeners if listener.account_id == account_id),
            anomalies=tuple(anomaly for anomaly in self.anomalies if anomaly.account_id == account_id),
        )


class Readback(StrEnum):
    """How much of a staged object the balancer tells again."""

    CONTENT = "content"
    FINGERPRINT = "fingerprint"
    NAMES = "names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this balancer can do. Asked before anything is sent; constant for the life of the driver.

    Attributes:
        readback: what ``snapshot`` can compare.
        listeners: whether ``bind`` and ``unbind`` work; when False they raise ``Unsupported``.
        mutual_auth: whether a listener may demand client certificates.
        several_ca_certificates: whether one ``ca`` object may hold more than one certificate.
        persistent: whether staged objects and bound listeners survive a restart of the balancer.
        max_pem_bytes: the largest certificate PEM it takes; ``None``: no limit of its own.
        max_server_certificates: its own limit for the whole region, all accounts; ``None``: none. The product counts
            and enforces the account's quota; a driver only reports the balancer's refusal (``QuotaExceeded``).
        max_ca_certificates: the same for ``ca``.
        key_algorithms: what it can really serve, spelled as in a region's key policy; empty: no limit of its own.
            The product takes the intersection with the region's policy before anything is sent.
        ca_key_algorithms: the same for the keys of CA certificates, which it does not serve but believes: a client of
            any other is refused in the handshake. ``None``: as ``key_algorithms``; empty: no limit of its own.
    """

    readback: Readback
    listeners: bool
    mutual_auth: bool
    several_ca_certificates: bool
    persistent: bool
    max_pem_bytes: int | None = None
    max_server_certificates: int | None = None
    max_ca_certificates: int | None = None
    key_algorithms: frozenset[str] = field(default_factory=frozenset)
    ca_key_algorithms: frozenset[str] | None = None


@runtime_checkable
class Driver(Protocol):
    """The adapter of one load balancer (one region). The contract suite is ``tests/contract/driver_kit.py``.

    Obligations of every verb:

    * Repeatable at any point, also after a crash in the middle; the second call changes nothing and says so.
    * Raises only ``shared.errors.DriverError``: foreign exceptions are translated at the call (``raise … from``).
      ``Unreachable`` and ``Busy`` promise that nothing was changed; a change that was sent and not answered is
      ``OutcomeUnknown``, and the caller takes a snapshot before it calls again.
    * Never waits without a bound.
    * Safe to call from several threads and processes at once: the driver itself sees to one writer per balancer.
    * Holds objects of many accounts apart: an account's call neither finds nor changes another account's object.
    * No private key in messages, ``repr``, logs, URLs or process arguments.
    * Persisted before served: what clients are shown survives a restart (where ``capabilities.persistent``).

    Order of a change: snapshot, stage, bind, probe; only when proven, unbind and retire the old. The probe is not the
    driver's (``shared/usecases/proof.py``): a balancer's word is a claim, a client's handshake is the evidence.
    """

    def fenced(self, fence: int) -> Driver:
        """The same balancer, written to in the name of this fencing number (``shared/usecases/balancers.py``).

        A verb that would change the balancer raises ``Replan`` when the balancer's own record has seen a higher
        number: its owner was paused for longer than its lease, and somebody else is at work. Without ``fenced``,
        nothing is compared. A driver that has no place for such a record returns itself, and says so in its docstring.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Known without asking the balancer; never raises."""
        ...

    def snapshot(self) -> Snapshot:
        """Read what the balancer itself holds; changes nothing. Objects that are not ours are left out."""
        ...

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        """Make the content present but inert: no client notices.

        The object is called ``ObjectName.of(material, owner)``. Returns only after reading it back as far as
        ``capabilities.readback`` goes. An object of this name that was damaged meanwhile is put right (``created``).

        Raises:
            InvalidMaterial: the balancer refuses the content, now and always.
            QuotaExceeded: no free slot.
            Corrupt: the balancer said yes and holds something else.
            DriverError: the others, as above.
        """
        ...

    def bind(self, listener: Listener) -> bool:
        """Serve these host names with these objects: the only verb that clients notice.

        A listener is known by account and ``listener_id``: bound again with other hosts or objects, it is changed, and
        make before break: no host name that is in both the old and the new is unserved, or served with a mixture of
        the two, at any moment. Atomic: refused means that the old is still served. Returns, once the balancer itself
        acknowledges it, whether anything changed.

        Raises:
            Replan: an object is not staged (or another account's, or damaged); stage it again, then bind.
            InUse: another listener answers for one of the host names.
            InvalidMaterial: the balancer refuses to serve these objects; some say so only now.
            Unsupported: ``capabilities.listeners`` is False, or ``ca`` is given and ``mutual_auth`` is False.
        """
        ...

    def unbind(self, listener: Listener) -> bool:
        """Stop serving the listener's host names; the objects stay staged. Absent is success (False).

        Account and ``listener_id`` decide; hosts and objects of the argument are not compared.

        Raises:
            Unsupported: ``capabilities.listeners`` is False.
        """
        ...

    def retire(self, ref: Ref) -> bool:
        """Remove a staged object, everywhere the driver ever put its key. Absent is success (False).

        A Ref whose account is not the object's owner is absent.

        Raises:
            InUse: a listener refers to it; nothing was changed.
        """
        ...


@runtime_checkable
class StagesMany(Driver, Protocol):
    """A driver for which several objects in one change are cheaper than one after the other. Optional."""

    def stage_all(self, wanted: Sequence[tuple[Material, Owner]]) -> list[Staged]:
        """As ``stage`` for each, in this order; when it raises, the caller stages them one by one."""
        ...


class DriverClass(Protocol):
    """What an entry point of :data:`ENTRY_POINT_GROUP` names: a class, or anything with ``for_region``."""

    def for_region(self, region: Region) -> Driver:
        """Build the driver from ``region.settings``. Cheap, touches nothing outside the process.

        Raises:
            Misconfigured: listing every problem of the settings.
        """
        ...
