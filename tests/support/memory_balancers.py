"""Load balancers that live in this process: the driver ``memory``, its faults and knobs, and a prober that sees them.

::

    region = memory_region("hangzhou")              # or in a regions file: driver = "memory"
    driver = MemoryDriver.for_region(region)        # every driver of the same balancer name shares its state
    balancer("hangzhou").faults.add("bind", OutcomeUnknown, after=True)   # done, and the answer lost
    balancer("hangzhou").faults.lie("bind")                               # "yes", and clients see what was before
    balancer("hangzhou").swap_by_hand("shop.example", material)           # snapshot and clients see it
    balancer("hangzhou").unreachable = True                               # no client gets a connection
    MemoryProber().handshake(region.listener_address, host="shop.example", client=Client.ANONYMOUS)

``build_driver`` finds it when :data:`SITE` is on ``sys.path``, as it finds anybody's driver.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from shared.config.regions import Region
from shared.crypto.keys import algorithm_of
from shared.domain.certificates import CertificateType, Material
from shared.domain.served import Client, Handshake
from shared.errors import InUse, InvalidMaterial, Misconfigured, QuotaExceeded, Replan, Unsupported
from shared.usecases.driver import (
    Anomaly,
    AnomalyKind,
    Capabilities,
    Listener,
    ObjectName,
    Owner,
    Readback,
    Ref,
    Snapshot,
    Staged,
    StagedObject,
)
from tests.support import pki

SITE: Final = Path(__file__).parent / "drivers"
"""Holds the entry points of the test drivers."""

ANY_VERB: Final = "*"

_Key = tuple[str, str]
"""A listener is known by account and listener id."""


def balancer(name: str) -> MemoryBalancer:
    """The balancer of this name; made, empty, at the first mention."""
    with _registry:
        return _balancers.setdefault(name, MemoryBalancer(name=name, address=address_of(name)))


def forget_balancers() -> None:
    """All balancers are gone, with their faults and knobs; drivers built before keep theirs. For fixtures."""
    with _registry:
        _balancers.clear()


def address_of(name: str) -> str:
    """Where clients, and :class:`MemoryProber`, find a balancer whose region says nothing else."""
    return f"{name}.memory.test:443"


def memory_region(name: str, *, settings: dict[str, Any] | None = None, **overrides: Any) -> Region:
    """A region of the balancer ``name``; ``settings`` are those of :class:`MemoryDriver`."""
    region = Region(
        id=name,
        name=name.title(),
        driver="memory",
        settings={"balancer": name, **(settings or {})},
        listener_address=address_of(name),
    )
    return replace(region, **overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    verb: str
    act: Callable[[], object] | None
    after: bool
    times: int | None

    def is_due(self, verb: str, *, after: bool) -> bool:
        return self.act is not None and self.verb in (verb, ANY_VERB) and self.after is after

    def is_lie_about(self, verb: str) -> bool:
        return self.act is None and self.verb in (verb, ANY_VERB)


class Faults:
    """What the next calls meet, first ordered first met. Verbs: the driver's, or ``*`` for any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[_Order] = []

    def add(self, verb: str, error: type[BaseException], *, after: bool = False, times: int | None = 1) -> None:
        """``verb`` raises ``error`` so often (``None``: for good); ``after``: the change is made, its answer lost."""

        def fail() -> None:
            raise error(f"The memory balancer was told to fail {verb} with {error.__name__}.")

        self.run(verb, fail, after=after, times=times)

    def run(self, verb: str, act: Callable[[], object], *, after: bool = False, times: int | None = 1) -> None:
        """``act`` runs before or after the verb, outside of the balancer's lock: another writer, a knock, a wait."""
        self._order(_Order(verb=verb, act=act, after=after, times=times))

    def lie(self, verb: str, *, times: int | None = 1) -> None:
        """``verb`` answers as if it had worked.

        ``stage`` holds another certificate (a snapshot tells), ``bind`` and ``unbind`` leave clients with what they
        had (a snapshot does not tell), ``retire`` keeps the object (a snapshot tells).
        """
        self._order(_Order(verb=verb, act=None, after=False, times=times))

    def clear(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._orders.clear()

    @property
    def are_used_up(self) -> bool:
        """Whether everything ordered has been met."""
        with self._lock:
            return not self._orders

    def meet(self, verb: str, *, after: bool) -> None:
        """For the driver: do what is due now, one order a call."""
        due = self._take(lambda order: order.is_due(verb, after=after))
        if due is not None and due.act is not None:
            due.act()

    def is_lie(self, verb: str) -> bool:
        """For the driver: whether this call is one to lie in."""
        return self._take(lambda order: order.is_lie_about(verb)) is not None

    def _order(self, order: _Order) -> None:
        with self._lock:
            self._orders.append(order)

    def _take(self, is_due: Callable[[_Order], bool]) -> _Order | None:
        with self._lock:
            due = next((order for order in self._orders if is_due(order)), None)
            if due is None or due.times is None:
                return due
            at = self._orders.index(due)
            self._orders[at : at + 1] = [replace(due, times=due.times - 1)] if due.times > 1 else []
            return due


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An object: what was staged, and what really lies there."""

    staged: Material
    real: Material

    @property
    def is_intact(self) -> bool:
        return self.staged == self.real


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What clients of a listener really meet."""

    listener: Listener
    server: Material
    ca: Material | None


@dataclass(slots=True, kw_only=True, eq=False)
class MemoryBalancer:
    """One balancer. Everything public may be set by a test at any time.

    Attributes:
        address: "host:port" at which :class:`MemoryProber` finds it.
        faults: what the next calls of drivers meet.
        calls: the drivers' verbs so far, those that failed before they began left out.
        knocks: the handshakes so far: host, client, whether SNI was sent.
        fence: the highest fencing number seen.
        unreachable: no client gets a connection; drivers do (for those: ``faults.add("*", Unreachable, times=None)``).
        answers_anyone: mutual listeners ask for a certificate and answer those who have none.
        asks_for: mutual listeners ask for certificates of these names (RFC 4514), whatever their CA is.
        answers_without_sni: a client that names no host in the handshake meets the first listener, unauthenticated.
    """

    name: str
    address: str
    faults: Faults = field(default_factory=Faults)
    calls: list[str] = field(default_factory=list)
    knocks: list[tuple[str, Client, bool]] = field(default_factory=list)
    fence: int = 0
    unreachable: bool = False
    answers_anyone: bool = False
    asks_for: tuple[str, ...] | None = None
    answers_without_sni: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _version: int = 0
    _objects: dict[ObjectName, _Held] = field(default_factory=dict)
    _listeners: dict[_Key, Listener] = field(default_factory=dict)
    _shown: dict[_Key, _Shown] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"MemoryBalancer({self.name!r})"

    def swap_by_hand(self, host: str, material: Material) -> None:
        """Somebody puts other content under the name of the host's server certificate: clients see it at once.

        The snapshot says ``altered``; staging the old content again puts it right, for clients too.
        """
        with self._lock:
            name = self._of_host(host).listener.server.name
            self._hold(name, replace(self._objects[name], real=material))

    def show_by_hand(self, host: str, material: Material) -> None:
        """Clients of the host's listener see this, and the snapshot knows nothing of it; bind puts it right."""
        with self._lock:
            shown = self._of_host(host)
            self._shown[_key(shown.listener)] = replace(shown, server=material)

    def unbind_by_hand(self, host: str) -> None:
        """Somebody takes the host's listener out of the configuration; its objects stay."""
        with self._lock:
            key = _key(self._of_host(host).listener)
            del self._shown[key]
            self._listeners.pop(key, None)

    def wipe(self) -> None:
        """The balancer was set up anew: no object, no listener; its fencing number is kept."""
        with self._lock:
            self._objects.clear()
            self._listeners.clear()
            self._shown.clear()

    def shown_to(self, host: str) -> str | None:
        """SHA-256 of the leaf that clients of this host get (lower-case hex); ``None``: no certificate."""
        with self._lock:
            shown = self._find(host)
            return None if shown is None else shown.server.fingerprint_sha256

    @contextmanager
    def verb(self, verb: str, fence: int | None) -> Iterator[bool]:
        """For the driver: one call, faults before and after; gives whether to lie.

        Raises:
            Replan: ``fence`` is lower than one seen.
        """
        self.faults.meet(verb, after=False)
        with self._lock:
            self.calls.append(verb)
            self._admit(fence)
            yield self.faults.is_lie(verb)
        self.faults.meet(verb, after=True)

    def snapshot(self) -> Snapshot:
        """What it says of itself."""
        with self._lock:
            return Snapshot(
                version=str(self._version),
                objects=tuple(
                    StagedObject(ref=_ref(name), fingerprint_sha256=held.real.fingerprint_sha256)
                    for name, held in self._objects.items()
                ),
                listeners=tuple(listener for _, listener in sorted(self._listeners.items())),
                anomalies=tuple(
                    Anomaly(
                        kind=AnomalyKind.ALTERED,
                        subject=name.label,
                        message="The certificate is not the one that was staged.",
                        account_id=name.account_id,
                    )
                    for name, held in self._objects.items()
                    if not held.is_intact
                ),
            )

    def put(self, name: ObjectName, material: Material, *, limit: int | None, is_lie: bool) -> bool:
        """For the driver: hold the object; False when it did already."""
        held = self._objects.get(name)
        if held is not None and held.is_intact:
            return False
        if held is None and limit is not None and len([one for one in self._objects if one.type is name.type]) >= limit:
            raise QuotaExceeded(f"The balancer holds {limit} certificates of type {name.type} and takes no more.")
        self._hold(name, _Held(staged=material, real=_impostor() if is_lie else material))
        self._version += 1
        return True

    def serve(self, listener: Listener, *, key_algorithms: frozenset[str], is_lie: bool) -> bool:
        """For the driver: show the listener to clients; False when they see exactly this already."""
        wanted = _Shown(
            listener=listener,
            server=self._intact(listener.server, listener, CertificateType.SERVER),
            ca=self._intact(listener.ca, listener, CertificateType.CA) if listener.ca else None,
        )
        self._refuse_taken_hosts(listener)
        algorithm = _key_algorithm(wanted.server)
        if key_algorithms and algorithm not in key_algorithms:
            raise InvalidMaterial(f"The balancer cannot serve {algorithm} keys.")
        key = _key(listener)
        if self._listeners.get(key) == listener and self._shown.get(key) == wanted:
            return False
        self._listeners[key] = listener
        if not is_lie:
            self._shown[key] = wanted
        self._version += 1
        return True

    def withdraw(self, listener: Listener, *, is_lie: bool) -> bool:
        """For the driver: the listener's hosts are served no more; False when they were not."""
        key = _key(listener)
        known = {key} & {*self._listeners, *self._shown}
        self._listeners.pop(key, None)
        if not is_lie:
            self._shown.pop(key, None)
        self._version += len(known)
        return bool(known)

    def drop(self, ref: Ref, *, is_lie: bool) -> bool:
        """For the driver: forget the object; False when there is none."""
        if ref.name not in self._objects:
            return False
        users = [one.listener_id for one in self._listeners.values() if ref.name in _names(one)]
        if users:
            raise InUse(f"{ref.name.label} is used by {', '.join(sorted(users))}.")
        if not is_lie:
            del self._objects[ref.name]
        self._version += 1
        return True

    def answer(self, host: str, *, client: Client, sni: bool) -> Handshake:
        """For the prober: one connection, one request."""
        with self._lock:
            self.knocks.append((host, client, sni))
            if self.unreachable:
                return Handshake(host=host, sni=sni, client=client, reached=False, error="connection refused")
            shown = self._find(host) if sni else self._default()
            return self._meet(shown, Handshake(host=host, sni=sni, client=client, reached=True))

    def _meet(self, shown: _Shown | None, begun: Handshake) -> Handshake:
        if shown is None:
            return replace(begun, error="TLS alert: unrecognized name")
        certificates = _certificates(shown.server)
        shaken = replace(
            begun,
            chain=tuple(_fingerprint(one) for one in certificates),
            subject=certificates[0].subject.rfc4514_string(),
        )
        if shown.ca is None or not begun.sni:
            return replace(shaken, status=200)
        names = tuple(dict.fromkeys(one.subject.rfc4514_string() for one in _certificates(shown.ca)))
        asked = replace(shaken, client_ca_names=names if self.asks_for is None else self.asks_for)
        if self.answers_anyone:
            return replace(asked, status=200)
        alert = "certificate required" if begun.client is Client.ANONYMOUS else "unknown CA"
        return replace(asked, error=f"TLS alert: {alert}")

    def _default(self) -> _Shown | None:
        return next(iter(self._shown.values()), None) if self.answers_without_sni else None

    def _find(self, host: str) -> _Shown | None:
        wildcard = f"*.{host.partition('.')[2]}"
        by_host = {name: shown for shown in self._shown.values() for name in shown.listener.hosts}
        return by_host.get(host) or by_host.get(wildcard)

    def _of_host(self, host: str) -> _Shown:
        shown = self._find(host)
        if shown is None:
            raise LookupError(f"{self!r} serves no {host}")
        return shown

    def _hold(self, name: ObjectName, held: _Held) -> None:
        self._objects[name] = held
        for key, shown in self._shown.items():
            server = held.real if shown.listener.server.name == name else shown.server
            ca = held.real if shown.listener.ca is not None and shown.listener.ca.name == name else shown.ca
            self._shown[key] = replace(shown, server=server, ca=ca)

    def _intact(self, ref: Ref, listener: Listener, kind: CertificateType) -> Material:
        held = self._objects.get(ref.name)
        if held is None or not held.is_intact or (ref.name.account_id, ref.name.type) != (listener.account_id, kind):
            raise Replan(f"{ref.name.label} is not staged, or damaged; stage it again.")
        return held.real

    def _refuse_taken_hosts(self, listener: Listener) -> None:
        others = [one for key, one in self._listeners.items() if key != _key(listener)]
        taken = sorted({host for one in others for host in one.hosts} & set(listener.hosts))
        if taken:
            raise InUse(f"Another listener answers for {', '.join(taken)}.")

    def _admit(self, fence: int | None) -> None:
        if fence is None:
            return
        if fence < self.fence:
            raise Replan(f"A newer writer ({self.fence}) has taken over from this one ({fence}).")
        self.fence = fence


class MemoryDriver:
    """Settings, all but the first optional.

    ``balancer``: its name. ``max_server_certificates``, ``max_ca_certificates``, ``max_pem_bytes``: its own limits.
    ``key_algorithms``: what it can serve; another is refused by ``bind``, as by a real Envoy. ``listeners``,
    ``mutual_auth``: false for a balancer without them.
    """

    def __init__(self, place: MemoryBalancer, capabilities: Capabilities, *, fence: int | None = None) -> None:
        self._place = place
        self._capabilities = capabilities
        self._fence = fence

    def __repr__(self) -> str:
        return f"MemoryDriver({self._place.name!r})"

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Raises Misconfigured without ``balancer`` or with a setting that it does not know."""
        settings = dict(region.settings)
        name = settings.pop("balancer", None)
        unknown = sorted(set(settings) - _OPTIONAL)
        problems = [f"unknown setting {key!r}" for key in unknown]
        if not isinstance(name, str):
            problems.append("balancer is missing; name one")
        if problems:
            raise Misconfigured(tuple(problems))
        place = balancer(str(name))
        if region.listener_address is not None:
            place.address = region.listener_address
        return cls(place, _capabilities(settings))

    def fenced(self, fence: int) -> MemoryDriver:
        return MemoryDriver(self._place, self._capabilities, fence=fence)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def snapshot(self) -> Snapshot:
        with self._place.verb("snapshot", None):
            return self._place.snapshot()

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        name = ObjectName.of(material, owner)
        able = self._capabilities
        _check(material, able.max_pem_bytes)
        limit = able.max_server_certificates if name.type is CertificateType.SERVER else able.max_ca_certificates
        with self._place.verb("stage", self._fence) as is_lie:
            return Staged(ref=_ref(name), created=self._place.put(name, material, limit=limit, is_lie=is_lie))

    def bind(self, listener: Listener) -> bool:
        self._refuse_unsupported(listener)
        with self._place.verb("bind", self._fence) as is_lie:
            return self._place.serve(listener, key_algorithms=self._capabilities.key_algorithms, is_lie=is_lie)

    def unbind(self, listener: Listener) -> bool:
        self._refuse_unsupported(replace(listener, ca=None))
        with self._place.verb("unbind", self._fence) as is_lie:
            return self._place.withdraw(listener, is_lie=is_lie)

    def retire(self, ref: Ref) -> bool:
        with self._place.verb("retire", self._fence) as is_lie:
            return self._place.drop(ref, is_lie=is_lie)

    def _refuse_unsupported(self, listener: Listener) -> None:
        if not self._capabilities.listeners:
            raise Unsupported("This memory balancer has no listeners.")
        if listener.ca is not None and not self._capabilities.mutual_auth:
            raise Unsupported("This memory balancer cannot ask clients for certificates.")


class MemoryProber:
    """``shared/usecases/proof.Prober`` over the balancers of this process: what their clients would meet."""

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        with _registry:
            places = [place for place in _balancers.values() if place.address == address]
        if not places:
            return Handshake(host=host, sni=sni, client=client, reached=False, error="nobody listens there")
        return places[-1].answer(host, client=client, sni=sni)


_registry: Final = threading.Lock()
_balancers: Final[dict[str, MemoryBalancer]] = {}
_OPTIONAL: Final = frozenset(
    {
        "max_server_certificates",
        "max_ca_certificates",
        "max_pem_bytes",
        "key_algorithms",
        "listeners",
        "mutual_auth",
    }
)


def _capabilities(settings: dict[str, Any]) -> Capabilities:
    return Capabilities(
        readback=Readback.FINGERPRINT,
        listeners=settings.get("listeners", True),
        mutual_auth=settings.get("mutual_auth", True),
        several_ca_certificates=True,
        persistent=True,
        max_pem_bytes=settings.get("max_pem_bytes"),
        max_server_certificates=settings.get("max_server_certificates"),
        max_ca_certificates=settings.get("max_ca_certificates"),
        key_algorithms=frozenset(settings.get("key_algorithms", ())),
    )


def _check(material: Material, max_pem_bytes: int | None) -> None:
    if max_pem_bytes is not None and len(material.certificate_pem) > max_pem_bytes:
        raise InvalidMaterial(f"The balancer takes {max_pem_bytes} bytes of PEM at most.")
    try:
        leaf = _certificates(material)[0]
    except ValueError as error:
        raise InvalidMaterial("The balancer cannot read the certificate.") from error
    if _fingerprint(leaf) != material.fingerprint_sha256:
        raise InvalidMaterial("The first certificate is not the one that the fingerprint announces.")
    if (material.private_key_pem is not None) != (material.type is CertificateType.SERVER):
        raise InvalidMaterial("A server certificate has a private key, a CA certificate has none.")
    if material.private_key_pem is not None and not _is_pair(leaf, material.private_key_pem):
        raise InvalidMaterial("The private key is not the certificate's.")


def _is_pair(leaf: x509.Certificate, private_key_pem: str) -> bool:
    try:
        return load_pem_private_key(private_key_pem.encode(), None).public_key() == leaf.public_key()
    except ValueError:
        return False


def _certificates(material: Material) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(material.certificate_pem.encode())


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _key_algorithm(material: Material) -> str:
    leaf = _certificates(material)[0]
    return algorithm_of(leaf.public_key(), oid=leaf.public_key_algorithm_oid.dotted_string)


def _impostor() -> Material:
    issued = pki.server("impostor.example")
    return Material(
        type=CertificateType.SERVER,
        certificate_pem=issued.pem,
        private_key_pem=issued.key_pem,
        fingerprint_sha256=issued.fingerprint_sha256,
    )


def _ref(name: ObjectName) -> Ref:
    return Ref(name=name, remote_id=name.label)


def _key(listener: Listener) -> _Key:
    return listener.account_id, listener.listener_id


def _names(listener: Listener) -> set[ObjectName]:
    return {ref.name for ref in (listener.server, listener.ca) if ref is not None}
