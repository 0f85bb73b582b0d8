"""The ``envoy`` driver: hot, by one xDS file with the certificates inline, acknowledged by Envoy before it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Self

from services.worker.drivers.disk import translated
from services.worker.drivers.envoy_admin import Admin
from services.worker.drivers.envoy_files import Damaged, Place, State, Writer, material_of, ref_of
from services.worker.drivers.envoy_inspection import inspect
from services.worker.drivers.envoy_lds import chain_name
from services.worker.drivers.envoy_publishing import Publisher, is_settled
from services.worker.drivers.envoy_settings import EnvoySettings, parse_settings
from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material
from shared.errors import Corrupt, InUse, InvalidMaterial, Replan
from shared.usecases.driver import (
    Capabilities,
    Listener,
    ObjectName,
    Owner,
    Readback,
    Ref,
    Snapshot,
    Staged,
)

KEY_ALGORITHMS: Final = frozenset({"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "ec-p521", "ed25519"})
"""What Envoy 1.40 (BoringSSL) serves; measured by tests/integration/drivers/test_envoy_keys.py."""

CA_KEY_ALGORITHMS: Final = KEY_ALGORITHMS | {"rsa-1024"}
"""Keys of CAs whose clients Envoy 1.40 lets in; measured with RSA-2048 clients."""


class EnvoyDriver:
    """Writes ``lds.json`` below ``path`` and waits for Envoy's own counters; see ``envoy_files`` for what lies there.

    A change is one rename: Envoy checks the whole file, takes it or leaves everything as it was, and drains only the
    connections of listeners that changed. Staged objects are inert until a listener refers to them.
    """

    def __init__(self, settings: EnvoySettings, *, fence: int | None = None) -> None:
        self._settings = settings
        self._place = Place(root=settings.path, lock_timeout=settings.lock_timeout)
        self._admin = Admin(settings.admin, timeout=settings.ack_timeout)
        self._fence = fence

    def __repr__(self) -> str:
        return f"EnvoyDriver({str(self._settings.path)!r})"

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Build from :class:`EnvoySettings`' keys; touches nothing outside the process.

        Raises:
            Misconfigured: listing every problem of the settings.
        """
        return cls(parse_settings(region))

    @property
    def capabilities(self) -> Capabilities:
        """Everything is read back; listeners of both kinds; no limit but memory."""
        return Capabilities(
            readback=Readback.CONTENT,
            listeners=True,
            mutual_auth=True,
            several_ca_certificates=True,
            persistent=True,
            key_algorithms=KEY_ALGORITHMS,
            ca_key_algorithms=CA_KEY_ALGORITHMS,
        )

    def fenced(self, fence: int) -> EnvoyDriver:
        """The number is kept in ``path/fence``."""
        return EnvoyDriver(self._settings, fence=fence)

    def snapshot(self) -> Snapshot:
        """Read the files, and ask Envoy what it serves.

        An Envoy that does not answer is not an anomaly while nothing is bound; else it is ``Unreachable``.
        """
        with translated(self._place.root):
            return inspect(self._place, self._admin, bind=self._settings.bind)

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        """Write the object's file and list it; Envoy sees nothing of it.

        Raises:
            InvalidMaterial: no key where one belongs, a key where none does, or another leaf than announced.
            Corrupt: what lies there is not what was written.
        """
        name = ObjectName.of(material, owner)
        _check(material)
        with translated(self._place.root), self._place.writing(self._fence) as writer:
            if name in writer.state.objects and self._is_intact(name):
                return Staged(ref=ref_of(name), created=False)
            writer.put(name, material)
            writer.save(objects=writer.state.objects | {name})
            if not self._is_intact(name):
                raise Corrupt(f"{self._place.object_file(name)} does not hold what was just written to it.")
        return Staged(ref=ref_of(name), created=True)

    def bind(self, listener: Listener) -> bool:
        """Serve the listener with its objects inline, in one rename."""
        canonical = replace(listener, server=ref_of(listener.server.name), ca=_canonical(listener.ca))
        with translated(self._place.root), self._place.writing(self._fence) as writer:
            self._check_objects(writer.state, canonical)
            _check_hosts(writer.state, canonical)
            return self._publish(writer, (*_others(writer.state, canonical), canonical))

    def unbind(self, listener: Listener) -> bool:
        """Take the listener's filter chain out, in one rename."""
        with translated(self._place.root), self._place.writing(self._fence) as writer:
            left = _others(writer.state, listener)
            is_absent = len(left) == len(writer.state.listeners)
            if is_absent and is_settled(writer):
                return False
            return self._publish(writer, left) and not is_absent

    def retire(self, ref: Ref) -> bool:
        """Remove the object's file; an unsettled ``lds.json`` that may still hold its key is written anew first."""
        name = ref.name
        with translated(self._place.root):
            if not self._place.record.exists():
                return False
            with self._place.writing(self._fence) as writer:
                if name not in writer.state.objects:
                    return False
                users = writer.state.users_of(name)
                if users:
                    raise InUse(f"{name.label} is served by: {', '.join(sorted(users))}.")
                if not is_settled(writer):
                    self._publish(writer, writer.state.listeners)
                writer.save(objects=writer.state.objects - {name})
                writer.drop(name)
        return True

    def _publish(self, writer: Writer, listeners: tuple[Listener, ...]) -> bool:
        ordered = tuple(sorted(listeners, key=chain_name))
        return Publisher(writer=writer, admin=self._admin, settings=self._settings).publish(ordered)

    def _is_intact(self, name: ObjectName) -> bool:
        try:
            self._place.read_object(name)
        except (Damaged, FileNotFoundError):
            return False
        return True

    def _check_objects(self, state: State, listener: Listener) -> None:
        wanted = {CertificateType.SERVER: listener.server, CertificateType.CA: listener.ca}
        for kind, ref in wanted.items():
            if ref is None:
                continue
            is_ours = (ref.name.account_id, ref.name.type) == (listener.account_id, kind)
            if not is_ours or ref.name not in state.objects or not self._is_intact(ref.name):
                raise Replan(f"{ref.name.label} is not staged, or damaged; stage it again.")


def _check(material: Material) -> None:
    has_key = material.private_key_pem is not None
    if has_key != (material.type is CertificateType.SERVER):
        raise InvalidMaterial("A server certificate has a private key, a CA certificate has none.")
    try:
        read = material_of(material.type, f"{material.certificate_pem}{material.private_key_pem or ''}")
    except ValueError:
        raise InvalidMaterial("The content does not begin with a certificate.") from None  # it may quote the content
    if read != material:
        raise InvalidMaterial("The first certificate is not the one that the fingerprint announces.")


def _canonical(ref: Ref | None) -> Ref | None:
    return None if ref is None else ref_of(ref.name)


def _others(state: State, listener: Listener) -> tuple[Listener, ...]:
    return tuple(one for one in state.listeners if chain_name(one) != chain_name(listener))


def _check_hosts(state: State, listener: Listener) -> None:
    taken = sorted({host for one in _others(state, listener) for host in one.hosts} & set(listener.hosts))
    if taken:
        raise InUse(f"Another listener answers for {', '.join(taken)}.")
