"""The ``directory`` driver: Nginx-format files in atomic generations, for any balancer on the same disk."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from services.worker.drivers.disk import translated
from services.worker.drivers.generations import (
    FileFacts,
    FoundFile,
    Generations,
    Record,
    View,
    leaf_fingerprint,
    sha256,
)
from services.worker.drivers.publishing import writing
from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material
from shared.errors import Corrupt, InvalidMaterial, Misconfigured, Unsupported
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

DEFAULT_KEEP_GENERATIONS: Final = 3
FEWEST_GENERATIONS: Final = 2
"""The current one, and the one that readers are still in (and the next is built from)."""
DEFAULT_LOCK_TIMEOUT: Final = timedelta(seconds=10)
_LONGEST_LOCK_TIMEOUT: Final = 3600

CERTIFICATE_MODE: Final = 0o644
KEY_MODE: Final = 0o640
"""Nginx reads keys as its master's user or group; ``group`` in the settings names that group."""

_SETTINGS: Final = frozenset({"path", "group", "keep_generations", "lock_timeout"})
_NO_LISTENERS: Final = (
    "The directory driver only delivers files; which host name uses which file is the balancer's own configuration."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """What ``[region.settings]`` says.

    ``path``: where to publish; created when missing. A relative one is relative to the working directory of the
    process that builds the driver (not to the regions file, which the driver does not know), so give services an
    absolute one. ``group``: name or number of the group that may read keys; without it the files stay with the
    process's own group. ``keep_generations``: how many to keep, the current one included. ``lock_timeout``: seconds to
    wait for another writer.
    """

    path: Path
    group_id: int | None = None
    keep_generations: int = DEFAULT_KEEP_GENERATIONS
    lock_timeout: timedelta = DEFAULT_LOCK_TIMEOUT


class DirectoryDriver:
    """Publishes ``<name>.pem`` (leaf first) and, for ``server``, ``<name>.key`` below ``path/current``.

    ``<name>`` is ``ObjectName.label``. A balancer that reads the two through one descriptor of ``current`` never meets
    a half-written or mismatched pair; a name never changes its content. Keys have mode 0640, certificates 0644,
    directories 0750. ``retire`` removes the files from every generation kept. Bytes of a removed file may stay on the
    medium until they are overwritten: encrypt it.
    """

    def __init__(self, settings: DirectorySettings, *, fence: int | None = None) -> None:
        self._settings = settings
        self._fence = fence
        self._path = settings.path
        self._place = Generations(
            root=settings.path,
            group_id=settings.group_id,
            keep=settings.keep_generations,
            lock_timeout=settings.lock_timeout,
        )

    def __repr__(self) -> str:
        return f"DirectoryDriver({str(self._path)!r})"

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Build from :class:`DirectorySettings`' keys; touches no disk but the group database.

        Raises:
            Misconfigured: listing every problem of the settings.
        """
        return cls(parse_settings(region.settings))

    def fenced(self, fence: int) -> DirectoryDriver:
        """The same directory, in the name of this number; ``stage`` and ``retire`` compare it with ``path/fence``.

        They do so before they know whether there is anything to change: an older writer gets ``Replan`` at once.
        """
        return DirectoryDriver(self._settings, fence=fence)

    @property
    def capabilities(self) -> Capabilities:
        """Everything is read back; listeners are not built by this driver; no limit but the disk's."""
        return Capabilities(
            readback=Readback.CONTENT,
            listeners=False,
            mutual_auth=True,
            several_ca_certificates=True,
            persistent=True,
        )

    def snapshot(self) -> Snapshot:
        """Read the current generation, compare every byte, mode and group; takes no lock and creates nothing."""
        with translated(self._path):
            view = self._place.read()
            closed = _closed_ancestors(self._path, self._place.group_id)
        return Snapshot(
            version=str(view.manifest.generation),
            objects=tuple(_objects(view)),
            anomalies=(*_anomalies(view, self._place.group_id), *_unexpected(view), *closed),
        )

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        """Publish a generation with this object, unless the current one has it undamaged; read it back.

        Raises:
            InvalidMaterial: no key where one belongs, a key where none does, or another leaf than announced.
            Busy, Unreachable, Unsupported, Replan: nothing was changed.
            OutcomeUnknown: an error after the swap.
            Corrupt: what lies there is not what was written.
        """
        return self.stage_all([(material, owner)])[0]

    def stage_all(self, wanted: Sequence[tuple[Material, Owner]]) -> list[Staged]:
        """As :meth:`stage` for each, in one generation: it is what costs, not the files. All of them, or none."""
        objects = [_object(material, owner) for material, owner in wanted]
        with translated(self._path), writing(self._place, fence=self._fence) as publisher:
            missing = [one for one in objects if not publisher.holds(one.name.label, one.record)]
            if missing:
                records = {one.name.label: one.record for one in missing}
                content = {file: data for one in missing for file, data in one.content.items()}
                found = publisher.put(records, content=content)
                for one in missing:
                    self._compare(one.record, found)
        created = {one.name for one in missing}
        return [
            Staged(ref=Ref(name=one.name, remote_id=one.name.label), created=one.name in created) for one in objects
        ]

    def _compare(self, record: Record, found: dict[str, bytes]) -> None:
        for name, facts in record.files.items():
            is_leaf = name.endswith(".pem")
            if sha256(found[name]) != facts.sha256:
                raise Corrupt(f"{self._path / 'current' / name} does not hold what was just written to it.")
            if is_leaf and leaf_fingerprint(found[name].decode()) != record.fingerprint_sha256:
                raise Corrupt(f"{self._path / 'current' / name} holds another certificate than the one staged.")

    def bind(self, listener: Listener) -> bool:
        """Not offered.

        Raises:
            Unsupported: always; see ``capabilities.listeners``.
        """
        raise Unsupported(_NO_LISTENERS, hint=f"Point {_hosts(listener)} at the files below {self._path / 'current'}.")

    def unbind(self, listener: Listener) -> bool:
        """Not offered.

        Raises:
            Unsupported: always; see ``capabilities.listeners``.
        """
        raise Unsupported(_NO_LISTENERS, hint=f"Take {_hosts(listener)} out of the balancer's own configuration.")

    def retire(self, ref: Ref) -> bool:
        """Publish a generation without the object and remove its files from the older ones.

        Raises:
            Busy, Unreachable, Unsupported, Replan: nothing was changed.
            OutcomeUnknown: it is out of the current generation; a repeated call clears the older ones.
        """
        label = ref.name.label
        with translated(self._path):
            if self._place.target() is None and not self._place.numbered.exists():
                return False
            with writing(self._place, fence=self._fence) as publisher:
                record = publisher.manifest.objects.get(label)
                if record is None or record.account_id != ref.name.account_id:
                    return False
                publisher.drop(label)
        return True


def parse_settings(settings: dict[str, Any]) -> DirectorySettings:
    """Read ``[region.settings]`` of a ``directory`` region.

    Raises:
        Misconfigured: listing every problem.
    """
    problems = [f"unknown setting {key!r}; known: {', '.join(sorted(_SETTINGS))}" for key in set(settings) - _SETTINGS]
    path = settings.get("path")
    if not isinstance(path, str) or not path or "\0" in path:
        problems.append("path is missing; name the directory to publish in")
    keep = settings.get("keep_generations", DEFAULT_KEEP_GENERATIONS)
    if not isinstance(keep, int) or isinstance(keep, bool) or keep < FEWEST_GENERATIONS:
        problems.append(f"keep_generations takes a whole number from {FEWEST_GENERATIONS}")
    timeout = settings.get("lock_timeout", DEFAULT_LOCK_TIMEOUT.total_seconds())
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 <= timeout <= _LONGEST_LOCK_TIMEOUT:
        problems.append(f"lock_timeout takes seconds, 0 to {_LONGEST_LOCK_TIMEOUT}")
    group_id = _group_id(settings.get("group"), problems)
    if problems:
        raise Misconfigured(tuple(sorted(problems)))
    return DirectorySettings(
        path=Path(str(path)).absolute(),
        group_id=group_id,
        keep_generations=keep,
        lock_timeout=timedelta(seconds=timeout),
    )


def _group_id(group: Any, problems: list[str]) -> int | None:
    if group is None or (isinstance(group, int) and not isinstance(group, bool) and group >= 0):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, TypeError, ValueError):
        problems.append(f"group {group!r} does not exist on this machine")
        return None


def _files(material: Material, name: ObjectName) -> dict[str, bytes]:
    has_key = material.private_key_pem is not None
    if has_key != (material.type is CertificateType.SERVER):
        raise InvalidMaterial("A server certificate has a private key, a CA certificate has none.")
    files = {f"{name.label}.pem": material.certificate_pem.encode()}
    if material.private_key_pem is not None:
        files[f"{name.label}.key"] = material.private_key_pem.encode()
    return files


def _record(material: Material, name: ObjectName, content: dict[str, bytes]) -> Record:
    if leaf_fingerprint(material.certificate_pem) != material.fingerprint_sha256:
        raise InvalidMaterial("The first certificate is not the one that the fingerprint announces.")
    return Record(
        account_id=name.account_id,
        fingerprint_sha256=material.fingerprint_sha256,
        files={file: FileFacts(sha256=sha256(data), mode=_mode(file)) for file, data in content.items()},
    )


def _mode(file: str) -> int:
    return KEY_MODE if file.endswith(".key") else CERTIFICATE_MODE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """What is to lie there."""

    name: ObjectName
    record: Record
    content: dict[str, bytes] = field(repr=False)


def _object(material: Material, owner: Owner) -> _Object:
    name = ObjectName.of(material, owner)
    content = _files(material, name)
    return _Object(name=name, record=_record(material, name, content), content=content)


def _hosts(listener: Listener) -> str:
    return ", ".join(listener.hosts) or "the listener"


def _objects(view: View) -> list[StagedObject]:
    """What is there with all its files; one whose certificate was swapped with what lies there now, else none."""
    objects = []
    for label, record in view.manifest.objects.items():
        if any(view.found[file].sha256 is None for file in record.files):
            continue
        ref = Ref(name=_name(label, record), remote_id=label)
        objects.append(StagedObject(ref=ref, fingerprint_sha256=_leaf_there(view, record)))
    return objects


def _leaf_there(view: View, record: Record) -> str | None:
    if all(view.found[file].sha256 == facts.sha256 for file, facts in record.files.items()):
        return record.fingerprint_sha256
    leaves = {view.found[file].leaf_sha256 for file in record.files} - {None, record.fingerprint_sha256}
    return min(leaves, default=None, key=str)


def _name(label: str, record: Record) -> ObjectName:
    try:
        return ObjectName.parse(label, account_id=record.account_id)
    except ValueError as error:
        raise Corrupt(f"The manifest lists {label!r}, which is no name of ours.") from error


def _anomalies(view: View, group_id: int | None) -> list[Anomaly]:
    found = []
    for record in view.manifest.objects.values():
        for file, facts in record.files.items():
            fault = _fault(view.found[file], facts, group_id)
            if fault is not None:
                kind, message = fault
                found.append(Anomaly(kind=kind, subject=file, message=message, account_id=record.account_id))
    return found


def _fault(found: FoundFile, facts: FileFacts, group_id: int | None) -> tuple[AnomalyKind, str] | None:
    if found.sha256 is None:
        return AnomalyKind.MISSING, "The file is gone."
    if found.sha256 != facts.sha256:
        return AnomalyKind.ALTERED, "The file does not hold what was staged."
    if found.mode != facts.mode:
        return AnomalyKind.ACCESS, f"The mode is {found.mode:04o}, not {facts.mode:04o}."
    if group_id not in (None, found.group_id):
        return AnomalyKind.ACCESS, f"The group is {found.group_id}, not {group_id}."
    return None


def _unexpected(view: View) -> list[Anomaly]:
    return [
        Anomaly(kind=AnomalyKind.UNEXPECTED, subject=name, message="Nobody staged this file; the next change drops it.")
        for name in view.unexpected
    ]


def _closed_ancestors(path: Path, group_id: int | None) -> list[Anomaly]:
    """Directories on the way that the balancer's group cannot search: it would read nothing below them."""
    if group_id is None or not path.exists():
        return []
    message = f"Group {group_id} cannot search this directory, so it reads no certificate below it."
    return [
        Anomaly(kind=AnomalyKind.ACCESS, subject=str(directory), message=message)
        for directory in (path, *path.parents)
        if not _is_searchable(os.stat(directory), group_id)  # noqa: PTH116  # one call, one value
    ]


def _is_searchable(facts: os.stat_result, group_id: int) -> bool:
    return bool(facts.st_mode & (stat.S_IXGRP if facts.st_gid == group_id else stat.S_IXOTH))
