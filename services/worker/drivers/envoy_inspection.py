"""What Envoy says that it serves, beside its file and our record: the snapshot, and every difference by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from services.worker.drivers.envoy_admin import Admin
from services.worker.drivers.envoy_files import Damaged, Place, State, mode_fault, ref_of
from services.worker.drivers.envoy_lds import Shown, address_of, chain_name, is_empty, resources_of, shown_by
from services.worker.drivers.envoy_settings import Endpoint
from shared.errors import Unreachable
from shared.usecases.driver import Anomaly, AnomalyKind, Listener, ObjectName, Snapshot, StagedObject

_Shown = Mapping[str, Shown | None]
_Fault = tuple[AnomalyKind, str]


def inspect(place: Place, admin: Admin, *, bind: Endpoint) -> Snapshot:
    """Read the files, and ask Envoy what it serves.

    An anomaly of a listener has its id as ``subject``: Envoy does not serve it, or otherwise than it was bound, or the
    file says otherwise, so that a restart would change it.

    Raises:
        Unreachable: Envoy does not answer, and something is bound.
    """
    with place.locked():
        state = place.read_state()
        content = place.read_lds()
        objects, anomalies = _objects(place, state)
        wanted = {chain_name(one): _wanted(place, one, bind) for one in state.listeners}
    served, filed = _served(admin, content), _filed(content)
    anomalies += _file_anomalies(state, content)
    anomalies += _listener_anomalies(state, wanted, served=served, filed=filed)
    anomalies += _served_anomalies(served, filed)
    return Snapshot(
        version=str(state.generation), objects=tuple(objects), listeners=state.listeners, anomalies=tuple(anomalies)
    )


def _objects(place: Place, state: State) -> tuple[list[StagedObject], list[Anomaly]]:
    objects, anomalies = [], []
    for name in sorted(state.objects, key=lambda one: (one.account_id, one.label)):
        fingerprint, fault = _object(place, name)
        if fault is not None:
            kind, message = fault
            anomalies.append(Anomaly(kind=kind, subject=name.label, message=message, account_id=name.account_id))
        if fault is None or fault[0] is not AnomalyKind.MISSING:
            objects.append(StagedObject(ref=ref_of(name), fingerprint_sha256=fingerprint))
    return objects, anomalies


def _object(place: Place, name: ObjectName) -> tuple[str | None, _Fault | None]:
    try:
        fingerprint = place.read_object(name).fingerprint_sha256
        fault = mode_fault(place.object_file(name))
    except FileNotFoundError:
        return None, (AnomalyKind.MISSING, "The file is gone.")
    except Damaged:
        return None, (AnomalyKind.ALTERED, "The file does not hold what was staged.")
    return fingerprint, (AnomalyKind.ACCESS, fault) if fault else None


def _wanted(place: Place, listener: Listener, bind: Endpoint) -> Shown | None:
    """What clients should be shown; ``None``: an object of it is gone or damaged, which is told of the object."""
    try:
        server = place.read_object(listener.server.name)
        ca = place.read_object(listener.ca.name) if listener.ca else None
    except (Damaged, FileNotFoundError):
        return None
    return Shown(
        address=address_of(bind),
        hosts=listener.hosts,
        certificate_pem=server.certificate_pem,
        ca_pem=ca.certificate_pem if ca else None,
        is_mutual=ca is not None,
    )


def _served(admin: Admin, content: bytes | None) -> _Shown:
    """An Envoy that does not answer is nothing to tell while its file has nothing to listen on."""
    try:
        return shown_by(admin.listeners())
    except Unreachable:
        if content is None or is_empty(content):
            return {}
        raise


def _filed(content: bytes | None) -> _Shown | None:
    """``None``: the file cannot be read as Envoy does."""
    if content is None:
        return {}
    try:
        return shown_by(resources_of(content))
    except ValueError:
        return None


def _file_anomalies(state: State, content: bytes | None) -> Iterator[Anomaly]:
    if content is None or is_empty(content):
        if state.listeners:
            message = "Listeners are bound, and the file has none."
            yield Anomaly(kind=AnomalyKind.MISSING, subject="lds.json", message=message)
    elif hashlib.sha256(content).hexdigest() != state.lds_sha256:
        message = "The file is not the one that was written last."
        yield Anomaly(kind=AnomalyKind.ALTERED, subject="lds.json", message=message)


def _listener_anomalies(state: State, wanted: _Shown, *, served: _Shown, filed: _Shown | None) -> Iterator[Anomaly]:
    for one in state.listeners:
        name = chain_name(one)
        fault = _served_fault(wanted[name], served, name) or _filed_fault(wanted[name], filed, name)
        if fault is not None:
            kind, message = fault
            yield Anomaly(kind=kind, subject=one.listener_id, message=message, account_id=one.account_id)


def _served_fault(wanted: Shown | None, served: _Shown, name: str) -> _Fault | None:
    if name not in served:
        return AnomalyKind.MISSING, "Envoy does not serve it."
    if wanted is None or served[name] == wanted:
        return None
    return AnomalyKind.ALTERED, f"Envoy {_difference(served[name], wanted)}."


def _filed_fault(wanted: Shown | None, filed: _Shown | None, name: str) -> _Fault | None:
    """Envoy serves it as it should; what a restart would make of it."""
    if filed is None:
        return AnomalyKind.MISSING, "lds.json is not readable: a restart of Envoy would lose it."
    if name not in filed:
        return AnomalyKind.MISSING, "lds.json does not have it: a restart of Envoy would lose it."
    if wanted is None or filed[name] == wanted:
        return None
    return AnomalyKind.ALTERED, f"Envoy serves it still, but lds.json {_difference(filed[name], wanted)}."


def _served_anomalies(served: _Shown, filed: _Shown | None) -> Iterator[Anomaly]:
    if served != filed or None in served.values():
        message = "Envoy serves something else than lds.json says."
        yield Anomaly(kind=AnomalyKind.ALTERED, subject="envoy", message=message)


def _difference(seen: Shown | None, wanted: Shown) -> str:
    """The most telling one, as the rest of a sentence."""
    if seen is None:
        return "has a filter chain for it that is not made as ours are"
    if seen.certificate_pem != wanted.certificate_pem:
        shown, expected = _fingerprint(seen.certificate_pem), _fingerprint(wanted.certificate_pem)
        return f"shows {shown}, not {expected}" if shown != expected else f"shows {shown} with another chain"
    if seen.address != wanted.address:
        return f"listens for it at {seen.address}, not at {wanted.address}"
    if seen.hosts != wanted.hosts:
        return "answers for other host names"
    if seen.is_mutual != wanted.is_mutual:
        return "asks clients for no certificate" if wanted.is_mutual else "asks clients for certificates"
    return "asks clients for certificates of another CA"


def _fingerprint(pem: str) -> str:
    try:
        return f"SHA-256 {x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()}"
    except ValueError:
        return "something that is no certificate"
