"""The ``haproxy`` driver: hot, through the Runtime API, every change written to HAProxy's own files first."""

from __future__ import annotations

import re
from typing import Final, Self

from services.worker.drivers.disk import translated
from services.worker.drivers.haproxy_files import Place, StoredObject, stored_object
from services.worker.drivers.haproxy_inspection import inspect, mode_fault
from services.worker.drivers.haproxy_list import CrtList, Entry, Line
from services.worker.drivers.haproxy_runtime import HaproxyRuntime
from services.worker.drivers.haproxy_session import Session, session
from services.worker.drivers.haproxy_settings import HaproxySettings, parse_settings
from services.worker.drivers.haproxy_socket import RuntimeSocket, pem_lines
from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material
from shared.domain.listeners import is_host
from shared.errors import Corrupt, InUse, InvalidMaterial, Replan
from shared.usecases.driver import Capabilities, Listener, ObjectName, Owner, Readback, Ref, Snapshot, Staged

KEY_ALGORITHMS: Final = frozenset(
    {"rsa-2048", "rsa-3072", "rsa-4096", "rsa-8192", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448"}
)
"""What HAProxy 2.6 serves with OpenSSL 3.0 (security level 2).

Measured by tests/integration/drivers/test_haproxy_keys.py.
"""

CA_KEY_ALGORITHMS: Final = KEY_ALGORITHMS
"""Keys of CAs whose clients it lets in; measured there, too."""

COMMAND_BYTES: Final = 1024
"""Of ``bufsize``: what a certificate or CA file cannot have. 512 are never used, the rest is for command and path."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")


class HaproxyDriver:
    """Keeps certificates, CA files and crt-list lines in a running HAProxy and in the files that it starts from.

    ``haproxy_files`` says what lies on the disk. Names are computed and contents never change under a name, so no file
    that is in use is ever committed anew; a listener changes by adding its new line and then deleting its old one,
    until when HAProxy serves the old.
    """

    def __init__(self, settings: HaproxySettings, *, fence: int | None = None) -> None:
        self._settings = settings
        self._fence = fence
        self._place = Place(root=settings.path, crt_list=settings.crt_list, lock_timeout=settings.lock_timeout)
        socket = RuntimeSocket(address=settings.socket, timeout=settings.timeout, bufsize=settings.bufsize)
        self._runtime = HaproxyRuntime(socket=socket, crt_list=settings.crt_list)

    def __repr__(self) -> str:
        return f"HaproxyDriver({str(self._settings.path)!r})"

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Build from :class:`HaproxySettings`' keys; touches nothing outside the process.

        Raises:
            Misconfigured: listing every problem of the settings.
        """
        return cls(parse_settings(region.settings))

    @property
    def capabilities(self) -> Capabilities:
        """HAProxy tells fingerprints; its buffer limits the size of a certificate or CA file."""
        return Capabilities(
            readback=Readback.FINGERPRINT,
            listeners=True,
            mutual_auth=True,
            several_ca_certificates=True,
            persistent=True,
            max_pem_bytes=self._settings.bufsize - COMMAND_BYTES,
            key_algorithms=KEY_ALGORITHMS,
            ca_key_algorithms=CA_KEY_ALGORITHMS,
        )

    def fenced(self, fence: int) -> HaproxyDriver:
        """The number is kept in ``path/fence``."""
        return HaproxyDriver(self._settings, fence=fence)

    def snapshot(self) -> Snapshot:
        """Ask the running HAProxy, and compare with the files; a difference is an anomaly.

        Raises:
            Unreachable: HAProxy does not answer.
        """
        with translated(self._place.root), self._place.locked():
            return inspect(self._place, self._runtime)

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        """Write the object's file, load it into HAProxy, and let HAProxy try it out for no host name.

        Raises:
            InvalidMaterial: HAProxy cannot serve it, or it is larger than HAProxy's buffer; nothing is left of it.
            Corrupt: HAProxy holds something else than it says.
        """
        name = ObjectName.of(material, owner)
        ref = self._place.ref(name)
        stored = self._stored(material, name)
        with translated(self._place.root), session(self._place, self._runtime, self._fence) as work:
            is_held = self._is_on_disk(work, name)
            held = self._runtime.held(stored.wanted.path, is_ca=stored.wanted.is_ca)
            if is_held and stored.wanted.is_in(held):
                return Staged(ref=ref, created=False)
            self._runtime.check_size(stored.wanted)
            work.begin()
            if not is_held:
                self._place.write_object(stored.wanted)
            self._load(work, stored)
        return Staged(ref=ref, created=not is_held or held is not None)

    def bind(self, listener: Listener) -> bool:
        """Try the new line out, write the file, add the line, delete the old one."""
        with translated(self._place.root), session(self._place, self._runtime, self._fence) as work:
            entry = self._entry(listener)
            work.check_free(entry)
            is_loaded = self._ensure_objects(work, listener)
            old = work.crt_list.find(entry.key)
            if old == entry and self._is_served_alone(work, entry):
                return is_loaded or entry.key in work.recovered
            self._switch(work, entry, old)
        return True

    def unbind(self, listener: Listener) -> bool:
        """Write the file without the listener's line, then delete the line."""
        with translated(self._place.root), session(self._place, self._runtime, self._fence) as work:
            old = work.crt_list.find((listener.account_id, listener.listener_id))
            if old is None:
                return (listener.account_id, listener.listener_id) in work.recovered
            work.check_alive([running for running in work.running if running.line == old.line])
            work.write(work.crt_list.without(old.key))
            work.delete(work.strays(frozenset(old.line.filters)))
        return True

    def retire(self, ref: Ref) -> bool:
        """Take the object out of HAProxy, then remove its file: killed in between, it is one that is not loaded."""
        path, is_ca = self._place.object_file(ref.name), ref.name.type is CertificateType.CA
        with translated(self._place.root), session(self._place, self._runtime, self._fence) as work:
            lines = [entry.line for entry in work.crt_list.entries] + [running.line for running in work.running]
            if any(line.uses(str(path)) for line in lines):
                raise InUse(f"A listener uses {ref.name.label}.")
            is_held = self._runtime.held(path, is_ca=is_ca) is not None
            if not is_held and not path.exists():
                return False
            work.begin()
            if is_held:
                self._runtime.drop(path, is_ca=is_ca)
            self._place.drop_object(path)
        return True

    def _stored(self, material: Material, name: ObjectName) -> StoredObject:
        text = f"{material.certificate_pem}{material.private_key_pem or ''}"
        path = self._place.object_file(name)
        try:
            stored = stored_object(material.type, text, path=path)
        except ValueError:
            raise InvalidMaterial("The content is not a certificate, with its key for a server.") from None
        if stored.material != material:
            raise InvalidMaterial("The first certificate is not the one that the fingerprint announces.")
        pem_lines(text)
        most = self._settings.bufsize - COMMAND_BYTES
        if len(material.certificate_pem) > most:
            raise InvalidMaterial(
                f"The certificates have {len(material.certificate_pem)} bytes, and this HAProxy takes {most}.",
                hint="Raise HAProxy's tune.bufsize, and bufsize in the region's settings with it.",
            )
        return stored

    def _is_on_disk(self, work: Session, name: ObjectName) -> bool:
        try:
            work.stored(name)
        except Replan:
            return False
        return mode_fault(self._place.object_file(name), name.type) is None

    def _load(self, work: Session, stored: StoredObject) -> None:
        """Into the running HAProxy; what it refuses leaves nothing behind."""
        wanted = stored.wanted
        try:
            work.ensure_loaded(wanted)
            if not wanted.is_ca:
                work.try_out(Line(certificate=str(wanted.path)))
        except InvalidMaterial:
            if not any(running.line.uses(str(wanted.path)) for running in work.running):
                self._runtime.drop(wanted.path, is_ca=wanted.is_ca)
                self._place.drop_object(wanted.path)
            raise

    def _entry(self, listener: Listener) -> Entry:
        if not _IDENTIFIER.fullmatch(listener.listener_id) or not listener.hosts:
            raise InvalidMaterial("A listener has an id of letters, digits, '_' and '-', and at least one host name.")
        if not all(map(is_host, listener.hosts)):
            raise InvalidMaterial("One of the host names is none; it was not sent to HAProxy.")
        server, ca = listener.server.name, listener.ca.name if listener.ca else None
        for name, kind in ((server, CertificateType.SERVER), (ca, CertificateType.CA)):
            if name is not None and (name.account_id, name.type) != (listener.account_id, kind):
                raise Replan(f"{name.label} is not staged; stage it again.")
        line = Line.mutual(
            str(self._place.object_file(server)), str(self._place.object_file(ca)) if ca else None, listener.hosts
        )
        return Entry(account_id=listener.account_id, listener_id=listener.listener_id, line=line)

    def _ensure_objects(self, work: Session, listener: Listener) -> bool:
        wanted = [work.stored(ref.name) for ref in (listener.server, listener.ca) if ref is not None]
        return sum(work.ensure_loaded(one) for one in wanted) > 0

    def _is_served_alone(self, work: Session, entry: Entry) -> bool:
        """Whether exactly this line is served for its host names; a certificate lost track of is an alarm."""
        served = [running for running in work.running if running.line == entry.line]
        work.check_alive(served)
        return len(served) == 1 and not work.strays(frozenset(entry.line.filters))

    def _switch(self, work: Session, entry: Entry, old: Entry | None) -> None:
        hosts = frozenset(entry.line.filters) | frozenset(old.line.filters if old else ())
        touched = [running for running in work.running if hosts & set(running.line.filters)]
        work.check_alive([running for running in touched if work.is_ours(running.line)])
        before = work.crt_list
        work.try_out(entry.line)
        if old != entry:
            work.write(before.having(entry))
        if not any(running.line == entry.line for running in work.running):
            self._serve(work, entry, before)
        work.delete(work.strays(hosts))
        if not self._is_served_alone(work, entry):
            raise Corrupt(f"HAProxy said yes and does not serve {', '.join(entry.line.filters)} by the new line alone.")

    def _serve(self, work: Session, entry: Entry, before: CrtList) -> None:
        try:
            work.serve(entry)
        except InvalidMaterial:
            work.write(before)
            raise
