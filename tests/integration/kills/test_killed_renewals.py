"""A worker killed with signal 9 at random points of 24 renewals: each is ordered once, clients never notice."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import func, select

from services.worker.sources.local_ca import LocalCa
from shared.config.regions import load_regions
from shared.config.sources import load_sources
from shared.domain.acquisitions import AcquisitionState
from shared.domain.rollout import FINAL_JOBS
from shared.models import Acquisition, Certificate, Listener, Secret
from shared.models.secrets import Purpose
from shared.usecases.driver_registry import build_driver
from tests.support.envoy import EnvoyProcess, running_envoy
from tests.support.fleet import Fleet, build_fleet
from tests.support.killable import Workers
from tests.support.listeners import add_listener, listener_of
from tests.support.managed import acquisition_of, managed_upload, renew
from tests.support.region_worker import Orders, region_workers
from tests.support.stack import wait_until
from tests.support.tls_load import load_on

RENEWALS: Final = 24
MOST_KILLS: Final = 3
LONGEST_LIFE: Final = 0.9
"""Seconds that a worker lives before it is killed: from before the claim to after the last write of a renewal."""
AIMED: Final = 3
"""In every third renewal the first kill is between the order at the service and our commit."""
LEASE: Final = 0.6
HOST: Final = "www.example.com"
SEED: Final = 20261127

pytestmark = pytest.mark.integration


@pytest.fixture
def balancer(place: Path) -> Iterator[EnvoyProcess]:
    with running_envoy(place) as running:
        yield running


@pytest.fixture
def orders(database_url: str, tmp_path: Path, balancer: EnvoyProcess) -> Orders:
    region = balancer.region("local")
    regions_file, sources_file = tmp_path / "regions.toml", tmp_path / "sources.toml"
    regions_file.write_text(
        f'[[region]]\nid = "local"\ndriver = "envoy"\nmax_attempts = 50\n'
        f"listener_address = {json.dumps(region.listener_address)}\n[region.settings]\n"
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in region.settings.items())
    )
    sources_file.write_text(
        f'[[source]]\nid = "ca"\nkind = "local_ca"\naccount = "default"\n'
        f"[source.settings]\npath = {json.dumps(str(tmp_path / 'ca'))}\n"
    )
    return Orders(
        database_url=database_url,
        kek_file=str(tmp_path / "keks.json"),
        regions_file=str(regions_file),
        lease_seconds=LEASE,
        began=time.time(),
        sources_file=str(sources_file),
    )


@pytest.fixture
def fleet(orders: Orders, tmp_path: Path) -> Iterator[Fleet]:
    regions, services = load_regions(Path(orders.regions_file)), load_sources(Path(orders.sources_file))
    built = build_fleet(orders.database_url, tmp_path, regions=regions.values(), services=services.values())
    yield built
    built.context.database.close()


@dataclass(slots=True, kw_only=True)
class World:
    """The renewals and who looks on. ``found``: where the kills met the renewal."""

    fleet: Fleet
    orders: Orders
    balancer: EnvoyProcess
    workers: Workers
    chance: random.Random
    listener_id: str = ""
    found: Counter[str] = field(default_factory=Counter)

    @property
    def authority(self) -> LocalCa:
        (service,) = self.fleet.context.settings.sources.values()
        return self.orders.local_ca(service)

    def issued(self) -> set[str]:
        """Ids of all that the service has ever issued."""
        return {offer.id for offer in self.authority.list_offers(limit=200).offers}

    def wait(self, is_true: Callable[[], bool]) -> None:
        wait_until(is_true, seconds=60, otherwise=self.balancer.log)


@pytest.mark.timeout(420)
def test_24_renewals_whose_workers_are_killed_are_ordered_once_each_and_no_client_notices(
    fleet: Fleet, orders: Orders, balancer: EnvoyProcess
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when to kill, reproducibly
    with region_workers(orders) as workers:
        world = World(fleet=fleet, orders=orders, balancer=balancer, workers=workers, chance=chance)
        renewed = [first_certificate(world)]
        with load_on(balancer.address, HOST) as report:
            for number in range(RENEWALS):
                renewed.append(renew_under_kills(world, renewed[-1], is_aimed=number % AIMED == 0))
    assert [failure for client in report for failure in client["failures"]] == []
    assert_in_order(fleet, renewed, [client["leaves"] for client in report])
    assert_nothing_is_left(world, renewed)
    assert len(world.issued()) == 1 + RENEWALS
    assert world.found["ordered, not committed"] >= RENEWALS // AIMED // 2
    requests, kills = sum(client["requests"] for client in report), world.found.total()
    met = ", ".join(f"{where}: {count}" for where, count in sorted(world.found.items()))
    print(f"\n{RENEWALS} renewals, {kills} kills ({met}), {len(world.issued()) - 1} orders at the service,")  # noqa: T201 - figures
    print(f"{requests} requests, 0 failed, 0 left behind")  # noqa: T201 - figures


def first_certificate(world: World) -> str:
    """A certificate of the service, served to the host."""
    fleet = world.fleet
    offer = world.authority.order([HOST], reference="first")
    world.workers.start()
    _, certificate_id = fleet.submit(managed_upload(f"ca:{offer.id}", regions=("local",)))
    world.wait(lambda: all(row.state == "deployed" for row in fleet.deployments(certificate_id).values()))
    world.listener_id = add_listener(fleet, "local", [HOST], server=certificate_id)
    world.wait(lambda: listener_of(fleet, world.listener_id).state == "bound")
    world.workers.kill()
    return certificate_id


def renew_under_kills(world: World, old: str, *, is_aimed: bool) -> str:
    """Renew it while workers are killed; the new certificate's id."""
    world.fleet.now = world.orders.clock()
    before = world.issued()
    job_id, new = renew(world.fleet, old)
    if is_aimed:
        kill_between_order_and_commit(world, job_id, before)
        note_where(world, job_id, old, new, before)
    for _ in range(world.chance.randint(1, MOST_KILLS)):
        world.workers.start()
        time.sleep(world.chance.uniform(0, LONGEST_LIFE))  # the point at which it is killed
        world.workers.kill()
        note_where(world, job_id, old, new, before)
    world.workers.start()
    world.wait(lambda: world.fleet.job(job_id).state in FINAL_JOBS)
    world.workers.kill()
    job = world.fleet.job(job_id)
    assert job.state == "succeeded", job.error
    (ordered,) = world.issued() - before
    assert acquisition_of(world.fleet, job_id).issued_offer_id == ordered
    return new


def kill_between_order_and_commit(world: World, job_id: str, before: set[str]) -> None:
    """Hold the row into which the worker is about to write what it ordered, and kill it while it waits."""
    world.workers.start()
    world.wait(lambda: acquisition_of(world.fleet, job_id).state != AcquisitionState.PENDING)
    with world.fleet.transaction() as session:
        statement = select(Acquisition).where(Acquisition.job_id == job_id).with_for_update()
        session.execute(statement).scalar_one()
        world.wait(lambda: world.issued() != before)
        world.workers.kill()


def note_where(world: World, job_id: str, old: str, new: str, before: set[str]) -> None:
    """Where the kill met the renewal; the old certificate is there until the new one was proven."""
    state, has_ordered = acquisition_of(world.fleet, job_id).state, world.issued() != before
    if state in (AcquisitionState.PENDING, AcquisitionState.ORDERING):
        where = "ordered, not committed" if has_ordered else "before the order"
    elif world.fleet.job(job_id).state in FINAL_JOBS:
        where = "after the end"
    else:
        where = "while it was rolled out" if state == AcquisitionState.ACQUIRED else "before it was fetched"
    world.found[where] += 1
    held = {held.ref.name.certificate_id for held in build_driver(world.balancer.region("local")).snapshot().objects}
    assert old.lower() in held or is_proven(world, new), f"{where}: the old one went before the new one was proven"


def is_proven(world: World, certificate_id: str) -> bool:
    """Whether a handshake has shown this certificate to be served."""
    with world.fleet.transaction() as session:
        listener = session.get_one(Listener, world.listener_id)
        certificate = session.get_one(Certificate, certificate_id)
        return (listener.server_certificate_id, listener.served, listener.served_fingerprint_sha256) == (
            certificate_id,
            "match",
            certificate.fingerprint_sha256,
        )


def assert_in_order(fleet: Fleet, renewed: list[str], leaves: list[list[str]]) -> None:
    """No client saw an older certificate after a newer one."""
    order = {fleet.certificate(certificate_id).fingerprint_sha256: at for at, certificate_id in enumerate(renewed)}
    for seen in leaves:
        places = [order[leaf] for leaf in seen]
        assert places == sorted(places)


def assert_nothing_is_left(world: World, renewed: list[str]) -> None:
    """On the balancer the newest and nothing else, at the service no half of an order, here no upload unread."""
    fleet = world.fleet
    snapshot = build_driver(world.balancer.region("local")).snapshot()
    assert [held.ref.name.certificate_id for held in snapshot.objects] == [renewed[-1].lower()]
    assert snapshot.anomalies == ()
    assert listener_of(fleet, world.listener_id).server_certificate_id == renewed[-1]
    assert [entry.name for entry in (Path(world.orders.kek_file).parent / "ca" / "orders").glob(".*")] == []
    with fleet.transaction() as session:
        uploads = select(func.count()).select_from(Secret).where(Secret.purpose == Purpose.UPLOAD)
        assert session.execute(uploads).scalar_one() == 0
        successors = [session.get_one(Certificate, certificate_id).replaced_by_id for certificate_id in renewed]
    assert successors == [*renewed[1:], None]
