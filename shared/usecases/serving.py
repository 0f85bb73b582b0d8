"""Put a listener in front of clients and prove it by a handshake; put back what was there when the proof fails."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState, CertificateType
from shared.domain.listeners import Authentication, ListenerShape
from shared.domain.rollout import DeploymentState, ServedState
from shared.domain.served import Expected, Verdict
from shared.errors import NotServed, Replan, Unsupported
from shared.models import Certificate, Deployment, Listener
from shared.telemetry import describe_exception
from shared.usecases import driver as drivers
from shared.usecases import proofs
from shared.usecases.context import Context
from shared.usecases.driver import DIGEST_LENGTH, Driver, ObjectName, Ref
from shared.usecases.material import material_of, owner_of
from shared.usecases.region_tools import Site

log = structlog.get_logger(__name__)

_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One listener as clients see it now, and as they shall see it.

    ``before`` is ``None`` for a listener that was never bound. ``expected`` is what handshakes must show afterwards.
    """

    listener_id: str
    account_id: str
    before: ListenerShape | None
    wanted: ListenerShape
    expected: Expected


def shape_of(listener: Listener) -> ListenerShape:
    """What the row says is served (before the first binding: what was asked for)."""
    return ListenerShape(
        hosts=tuple(listener.hosts),
        authentication=Authentication(listener.authentication),
        server_certificate_id=listener.server_certificate_id,
        ca_certificate_id=listener.ca_certificate_id,
    )


def wanted_shape(listener: Listener) -> ListenerShape:
    """What its job wants, or what it is."""
    return shape_from(listener.change) if listener.change else shape_of(listener)


def shape_document(shape: ListenerShape) -> dict[str, Any]:
    """As ``Listener.change`` keeps it."""
    return {**asdict(shape), "hosts": list(shape.hosts), "authentication": shape.authentication.value}


def shape_from(document: dict[str, Any]) -> ListenerShape:
    """The inverse of :func:`shape_document`."""
    return ListenerShape(
        hosts=tuple(document["hosts"]),
        authentication=Authentication(document["authentication"]),
        server_certificate_id=document["server_certificate_id"],
        ca_certificate_id=document["ca_certificate_id"],
    )


def certificates_of(shape: ListenerShape) -> tuple[str, ...]:
    """The ids of the certificates that it shows to clients, or asks them for."""
    both = (shape.server_certificate_id, shape.ca_certificate_id)
    return tuple(one for one in both if one is not None)


def plan_change(session: Session, listener: Listener, wanted: ListenerShape) -> Change:
    """What is to be done about one listener; reads only."""
    server = session.get_one(Certificate, wanted.server_certificate_id)
    ca = session.get_one(Certificate, wanted.ca_certificate_id) if wanted.ca_certificate_id else None
    return Change(
        listener_id=listener.id,
        account_id=listener.account_id,
        before=shape_of(listener) if listener.revision else None,
        wanted=wanted,
        expected=proofs.expected_of(server, ca),
    )


class Shelf:
    """The objects of one region by certificate, as references; staged (again) when they are not there."""

    def __init__(self, context: Context, site: Site, driver: Driver) -> None:
        self._context = context
        self._region_id = site.region_id
        self._driver = driver
        self._refs: dict[str, Ref] = {}

    def put(self, certificate_id: str, ref: Ref) -> None:
        """This one is staged."""
        self._refs[certificate_id] = ref

    def ref(self, certificate_id: str) -> Ref:
        """As the deployment's row remembers it, else by staging it."""
        if certificate_id not in self._refs:
            self._refs[certificate_id] = self._remembered(certificate_id) or self._staged(certificate_id)
        return self._refs[certificate_id]

    def name(self, certificate_id: str, kind: CertificateType, *, account_id: str) -> Ref:
        """As :meth:`ref`, but for one that nobody remembers a reference to nothing: it is not staged."""
        known = self._refs.get(certificate_id) or self._remembered(certificate_id)
        nothing = ObjectName(
            account_id=account_id, type=kind, certificate_id=certificate_id.lower(), digest="0" * DIGEST_LENGTH
        )
        return known or Ref(name=nothing, remote_id=nothing.label)

    def restage(self, *certificate_ids: str) -> None:
        """Make sure that the balancer holds these undamaged."""
        for certificate_id in certificate_ids:
            self._refs[certificate_id] = self._staged(certificate_id)

    def _remembered(self, certificate_id: str) -> Ref | None:
        with self._context.transaction() as session:
            statement = select(Deployment).where(
                Deployment.certificate_id == certificate_id, Deployment.region == self._region_id
            )
            row = session.execute(statement).scalar_one_or_none()
        return ref_of(row) if row else None

    def _staged(self, certificate_id: str) -> Ref:
        with self._context.transaction() as session:
            certificate = session.get_one(Certificate, certificate_id)
            if certificate.state != CertificateState.VALID:
                raise Unsupported(
                    f"The certificate {certificate_id} is {certificate.state}.", code="certificate_not_valid"
                )
            material = material_of(self._context, session, certificate)
        return self._driver.stage(material, owner=owner_of(certificate)).ref


def ref_of(deployment: Deployment) -> Ref | None:
    """The staged object that the row remembers; ``None`` when nothing was staged yet."""
    if deployment.state != DeploymentState.DEPLOYED or deployment.remote_id is None or not deployment.evidence:
        return None
    name = ObjectName.parse(deployment.evidence["object"], account_id=deployment.account_id)
    return Ref(name=name, remote_id=deployment.remote_id)


def bind_and_prove(site: Site, driver: Driver, shelf: Shelf, change: Change) -> Verdict:
    """Bind what is wanted, then knock until clients see it.

    Raises:
        Superseded: somebody else writes to the region by now; nothing is to be put back.
        NotServed: the balancer acknowledged, and clients see something else after ``settling``.
        DriverError: as ``bind`` raises it.
    """
    site.stay()
    _bind(driver, shelf, change, change.wanted)
    verdict = _settled_verdict(site, change)
    if verdict.state is not ServedState.MATCH:
        raise NotServed(
            f"The load balancer took the listener, but clients do not get it: {verdict.message}",
            hint="What was served before was put back. Look at the load balancer, then try again.",
        )
    return verdict


def unbind(driver: Driver, shelf: Shelf, change: Change) -> None:
    """Stop serving the listener.

    Raises:
        DriverError: as ``Driver.unbind`` raises it.
    """
    driver.unbind(_named(shelf, change, change.before or change.wanted))


def put_back(driver: Driver, shelf: Shelf, change: Change) -> None:
    """Serve again what was served before. Never raises: what cannot be put back now, the patrol finds and repairs."""
    try:
        if change.before is None:
            driver.unbind(_named(shelf, change, change.wanted))
        else:
            _bind(driver, shelf, change, change.before)
    except Exception as error:  # noqa: BLE001 - already on the way out with the error that matters
        log.warning("not_put_back", listener_id=change.listener_id, exception=describe_exception(error))


def _bind(driver: Driver, shelf: Shelf, change: Change, shape: ListenerShape) -> None:
    try:
        driver.bind(_value(shelf, change, shape))
    except Replan:  # an object is gone or damaged at the balancer: put it there again, once
        shelf.restage(*certificates_of(shape))
        driver.bind(_value(shelf, change, shape))


def _settled_verdict(site: Site, change: Change) -> Verdict:
    region = site.declared()
    if region.listener_address is None:
        raise Unsupported(
            "The region has no listener address, so nothing can be proven there.",
            code="listeners_not_supported",
            hint="Set listener_address in the regions file.",
        )
    deadline = time.monotonic() + site.tools.settling.total_seconds()
    while True:
        verdict = proofs.prove(site.prober(), region, change.wanted.hosts, change.expected)
        if verdict.state is ServedState.MATCH or time.monotonic() > deadline:
            return verdict
        time.sleep(_PAUSE)


def _named(shelf: Shelf, change: Change, shape: ListenerShape) -> drivers.Listener:
    """For ``unbind``, which compares no objects: nothing is staged only to be named."""
    ca = shape.ca_certificate_id
    return drivers.Listener(
        account_id=change.account_id,
        listener_id=change.listener_id,
        hosts=shape.hosts,
        server=shelf.name(shape.server_certificate_id, CertificateType.SERVER, account_id=change.account_id),
        ca=shelf.name(ca, CertificateType.CA, account_id=change.account_id) if ca else None,
    )


def _value(shelf: Shelf, change: Change, shape: ListenerShape) -> drivers.Listener:
    return drivers.Listener(
        account_id=change.account_id,
        listener_id=change.listener_id,
        hosts=shape.hosts,
        server=shelf.ref(shape.server_certificate_id),
        ca=shelf.ref(shape.ca_certificate_id) if shape.ca_certificate_id else None,
    )
