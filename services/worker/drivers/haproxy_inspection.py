"""What the running HAProxy says, beside what the files say: the snapshot, and every difference by name."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.worker.drivers.haproxy_files import KEY_MODE, Damaged, Place
from services.worker.drivers.haproxy_list import NOBODY, CrtList, Entry, RunningLine
from services.worker.drivers.haproxy_runtime import UNUSED, HaproxyRuntime, Held
from shared.domain.certificates import CertificateType
from shared.usecases.driver import Anomaly, AnomalyKind, Listener, ObjectName, Ref, Snapshot, StagedObject

_LOST: Final = (
    "HAProxy serves this certificate and has lost track of it: somebody changed a CA file in use. Reload HAProxy."
)


def inspect(place: Place, runtime: HaproxyRuntime) -> Snapshot:
    """Read both sides; the caller keeps writers out."""
    files, running, crt_list = runtime.files(), runtime.lines(), place.read_crt_list()
    objects: list[StagedObject] = []
    anomalies = [
        _unexpected(path, f"Somebody has begun to change this {kind} and not ended it.") for kind, path in files.open
    ]
    for path in place.object_paths():
        held, found = _object(place, runtime, path, is_loaded=str(path) in files.held)
        objects += held
        anomalies += found
    anomalies += _without_file(place, files.held)
    anomalies += _lines(place, running, crt_list)
    anomalies += _lost(place, runtime, running)
    listeners = tuple(_listeners(place, running, crt_list))
    return Snapshot(
        version=place.read_version(), objects=tuple(objects), listeners=listeners, anomalies=tuple(anomalies)
    )


def mode_fault(path: Path, kind: CertificateType) -> str | None:
    """Why a key's file is open to others, if it is."""
    mode = stat.S_IMODE(path.stat().st_mode)
    is_open = kind is CertificateType.SERVER and mode & 0o077
    return f"The mode is {mode:04o}, not {KEY_MODE:04o}." if is_open else None


def _object(
    place: Place, runtime: HaproxyRuntime, path: Path, *, is_loaded: bool
) -> tuple[list[StagedObject], list[Anomaly]]:
    name = place.name_of(path)
    if name is None:
        return [], [_unexpected(str(path), "Nobody staged this file.")]
    ref = place.ref(name)
    try:
        stored = place.read_object(name)
    except Damaged:
        fault = _anomaly(name, AnomalyKind.ALTERED, "The file does not hold what was staged.")
        return [StagedObject(ref=ref, fingerprint_sha256=None)], [fault]
    held = runtime.held(stored.wanted.path, is_ca=stored.wanted.is_ca) if is_loaded else None
    if is_loaded and not stored.wanted.is_in(held):
        fault = _anomaly(name, AnomalyKind.ALTERED, f"HAProxy holds something else under this name: {_told(held)}.")
        return [StagedObject(ref=ref, fingerprint_sha256=None)], [fault]
    open_to = mode_fault(path, name.type)
    faults = [_anomaly(name, AnomalyKind.ACCESS, open_to)] if open_to else []
    return [StagedObject(ref=ref, fingerprint_sha256=stored.material.fingerprint_sha256)], faults


def _told(held: Held | None) -> str:
    """HAProxy knows no SHA-256."""
    if held is None or not held.told:
        return "nothing"
    leaf = held.told[0]
    return f"SHA-1 {leaf.sha1}" if leaf.sha1 else f"serial number {leaf.serial}"


def _without_file(place: Place, held: frozenset[str]) -> Iterator[Anomaly]:
    for path in sorted(held):
        name = place.name_of(Path(path))
        if name is not None and not Path(path).exists():
            yield _anomaly(
                name, AnomalyKind.MISSING, "HAProxy holds it, and its file is gone: a restart would lose it."
            )


def _lines(place: Place, running: tuple[RunningLine, ...], crt_list: CrtList) -> Iterator[Anomaly]:
    wanted, served = Counter(crt_list.lines), Counter(one.line for one in running)
    for entry in crt_list.entries:
        if entry.line not in served:
            message = f"The listener {entry.listener_id} is not served by the running HAProxy."
            yield Anomaly(
                kind=AnomalyKind.MISSING, subject=entry.listener_id, message=message, account_id=entry.account_id
            )
    for line in (served - wanted).keys() - {one.line for one in running if _is_bootstrap(place, one)}:
        name = place.name_of(Path(line.certificate))
        subject = name.label if name else line.certificate
        message = f"HAProxy serves a line that no listener has, for {' '.join(line.filters) or 'any host name'}."
        yield _unexpected(subject, message, account_id=name.account_id if name else None)


def _is_bootstrap(place: Place, running: RunningLine) -> bool:
    return running.line.certificate == str(place.bootstrap) and running.line.filters == NOBODY


def _lost(place: Place, runtime: HaproxyRuntime, running: tuple[RunningLine, ...]) -> Iterator[Anomaly]:
    for certificate in sorted({one.line.certificate for one in running}):
        name = place.name_of(Path(certificate))
        held = runtime.held(Path(certificate), is_ca=False) if name else None
        if name and held and held.status == UNUSED:
            yield _anomaly(name, AnomalyKind.ALTERED, _LOST)


def _listeners(place: Place, running: tuple[RunningLine, ...], crt_list: CrtList) -> Iterator[Listener]:
    served = {one.line for one in running}
    for entry in crt_list.entries:
        server = place.name_of(Path(entry.line.certificate))
        if entry.line in served and server:
            yield Listener(
                account_id=entry.account_id,
                listener_id=entry.listener_id,
                hosts=entry.line.filters,
                server=place.ref(server),
                ca=_ca(place, entry),
            )


def _ca(place: Place, entry: Entry) -> Ref | None:
    name = place.name_of(Path(entry.line.ca)) if entry.line.ca else None
    return place.ref(name) if name else None


def _anomaly(name: ObjectName, kind: AnomalyKind, message: str) -> Anomaly:
    return Anomaly(kind=kind, subject=name.label, message=message, account_id=name.account_id)


def _unexpected(subject: str, message: str, *, account_id: str | None = None) -> Anomaly:
    return Anomaly(kind=AnomalyKind.UNEXPECTED, subject=subject, message=message, account_id=account_id)
