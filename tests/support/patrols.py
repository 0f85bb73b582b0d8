"""A fleet of balancers, in memory or real, that a test patrols when it wants to, and what it told about drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from services.worker.probe import TlsProber
from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material
from shared.domain.served import Client, Handshake
from shared.models import Deployment, Event
from shared.usecases import patrol
from shared.usecases.driver_registry import build_driver
from shared.usecases.patrol import look_at_listener
from shared.usecases.proof import Prober
from shared.usecases.region_patrol import look_at_region
from shared.usecases.region_tools import SETTLING, RegionTools
from shared.wakeups import Task
from tests.support import pki
from tests.support.fleet import Fleet, build_fleet, server_upload
from tests.support.listeners import add_listener
from tests.support.memory_balancers import MemoryDriver, MemoryProber, memory_region

TOLD: Final = "tokyo"
REPAIRED: Final = "osaka"
PERIOD: Final = timedelta(seconds=60)
"""Settings.patrol_every, unless set otherwise."""


@dataclass(slots=True)
class CountingProber:
    """Knocks as the prober in memory does; ``between`` runs after the first knock of a look."""

    knocked: list[str] = field(default_factory=list)
    between: Any = None
    real: Prober = field(default_factory=MemoryProber)

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        self.knocked.append(host)
        made = self.real.handshake(address, host=host, client=client, sni=sni)
        between, self.between = self.between, None
        if between is not None:
            between()
        return made


def build_patrolled_fleet(database_url: str, place: Path, *, regions: tuple[Region, ...] = ()) -> Fleet:
    """A fleet of a region that is only told of drift, and one that is repaired."""
    declared = regions or (memory_region(TOLD), memory_region(REPAIRED, repair=True))
    fleet = build_fleet(database_url, place, regions=declared)
    fleet.driver_for = MemoryDriver.for_region
    return fleet


@dataclass(slots=True, kw_only=True)
class RealFleet(Fleet):
    """Its balancers are real, and may take a moment from their acknowledgement until clients see the change."""

    @property
    def tools(self) -> RegionTools:
        return RegionTools(driver_for=build_driver, prober=TlsProber(), clock=lambda: self.now, settling=SETTLING)


def build_real_fleet(database_url: str, place: Path, region: Region) -> RealFleet:
    """A fleet of one region with a real balancer, driven and knocked at as in production."""
    built = build_fleet(database_url, place, regions=[region])
    return RealFleet(context=built.context, room=built.room, caller=built.caller, now=built.now)


def go_round(fleet: Fleet, rounds: int) -> None:
    """So many periods with their patrols, and the repairs that they wake."""
    for _ in range(rounds):
        after_a_period(fleet)
        fleet.run()


def bound(fleet: Fleet, host: str, region: str = TOLD) -> tuple[str, str]:
    """A certificate deployed to the region, with a listener bound and proven there: (certificate, listener)."""
    _, certificate_id = fleet.submit(server_upload(host, regions=[region]))
    fleet.run()
    listener_id = add_listener(fleet, region, [host], server=certificate_id)
    fleet.run()
    return certificate_id, listener_id


def patrol_now(fleet: Fleet) -> None:
    """One beat's tick, and everything that it wakes, but no repair: those wait for ``fleet.run()``."""
    patrol.tick(fleet.context, now=fleet.now)
    work_patrols(fleet)


def work_patrols(fleet: Fleet) -> list[str]:
    """Run the looks that wait; whom they looked at."""
    others, looked = [], []
    while fleet.room.waiting:
        wake_up = fleet.room.waiting.popleft()
        if wake_up.task is Task.PATROL_LISTENER:
            look_at_listener(fleet.context, fleet.tools, wake_up.id)
        elif wake_up.task is Task.PATROL_REGION:
            look_at_region(fleet.context, fleet.tools, wake_up.id)
        else:
            others.append(wake_up)
            continue
        looked.append(wake_up.id)
    fleet.room.waiting.extend(others)
    return looked


def after_a_period(fleet: Fleet) -> None:
    """The period passes, then the patrol goes round."""
    fleet.pass_time(PERIOD)
    patrol_now(fleet)


def deployment_of(fleet: Fleet, certificate_id: str, region: str = TOLD) -> Deployment:
    """The row as it is now."""
    return fleet.deployments(certificate_id)[region]


def told(fleet: Fleet) -> list[tuple[str, str | None]]:
    """The drift events so far: type without its prefix, and the error's code."""
    with fleet.transaction() as session:
        statement = select(Event).where(Event.type.in_(["deployment.drifted", "deployment.recovered"]))
        events = session.execute(statement.order_by(Event.account_id, Event.sequence)).scalars().all()
    return [(event.type.partition(".")[2], (event.data.get("error") or {}).get("code")) for event in events]


def told_messages(fleet: Fleet) -> list[str]:
    """What the events ``deployment.drifted`` said so far."""
    with fleet.transaction() as session:
        statement = select(Event).where(Event.type == "deployment.drifted").order_by(Event.sequence)
        return [str(event.data["error"]["message"]) for event in session.execute(statement).scalars()]


def foreign_material(host: str) -> Material:
    """Another certificate for the host, as somebody would put it there by hand."""
    issued = pki.server(host)
    return Material(
        type=CertificateType.SERVER,
        certificate_pem=issued.pem,
        private_key_pem=issued.key_pem,
        fingerprint_sha256=issued.fingerprint_sha256,
    )
