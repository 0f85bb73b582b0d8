"""A worker killed with signal 9 at random points of 50 rollouts: clients never notice, and nothing is left behind."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shared.config.regions import load_regions
from shared.domain.rollout import FINAL_JOBS
from shared.models import Deployment
from shared.usecases.driver_registry import build_driver
from shared.usecases.replacement import NewContent, replace_certificate
from tests.support import pki
from tests.support.envoy import EnvoyProcess, running_envoy
from tests.support.fleet import Fleet, build_fleet, server_upload
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.listeners import add_listener, listener_of
from tests.support.region_worker import Orders, region_workers
from tests.support.stack import wait_until
from tests.support.tls_load import load_on

ROLLOUTS: Final = 50
MOST_KILLS: Final = 3
LONGEST_LIFE: Final = 0.25
"""Seconds that a worker lives before it is killed: from before the claim to after the last write of a rollout."""
LEASE: Final = 0.6
HOST: Final = "www.example.com"
SEED: Final = 20261124

pytestmark = pytest.mark.integration


Balancer = EnvoyProcess | HaproxyProcess


@pytest.fixture(params=[running_envoy, running_haproxy], ids=["envoy", "haproxy"])
def balancer(place: Path, request: pytest.FixtureRequest) -> Iterator[Balancer]:
    with request.param(place) as running:
        yield running


@pytest.fixture
def orders(database_url: str, tmp_path: Path, balancer: Balancer) -> Orders:
    region = balancer.region("local")
    file = tmp_path / "regions.toml"
    file.write_text(
        f'[[region]]\nid = "local"\ndriver = "{region.driver}"\nmax_attempts = 50\n'
        f"listener_address = {json.dumps(region.listener_address)}\n[region.settings]\n"
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in region.settings.items())
    )
    return Orders(
        database_url=database_url,
        kek_file=str(tmp_path / "keks.json"),
        regions_file=str(file),
        lease_seconds=LEASE,
        began=time.time(),
    )


@pytest.fixture
def fleet(orders: Orders, tmp_path: Path) -> Iterator[Fleet]:
    regions = load_regions(Path(orders.regions_file))
    built = build_fleet(orders.database_url, tmp_path, regions=regions.values())
    yield built
    built.context.database.close()


@pytest.mark.timeout(420)
def test_50_rollouts_whose_workers_are_killed_end_well_and_no_client_notices(
    fleet: Fleet, orders: Orders, balancer: Balancer
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when to kill, reproducibly
    _, current = fleet.submit(server_upload(HOST, regions=["local"]))
    kills = 0
    with region_workers(orders) as workers:
        workers.start()
        wait_until(lambda: fleet.certificate(current).state == "valid", seconds=30, otherwise=balancer.log)
        wait_until(lambda: all_final(fleet), seconds=30, otherwise=lambda: "the first deployment")
        listener_id = add_listener(fleet, "local", [HOST], server=current)
        wait_until(lambda: listener_of(fleet, listener_id).state == "bound", seconds=30, otherwise=balancer.log)
        fingerprints = [fleet.certificate(current).fingerprint_sha256]
        with load_on(balancer.address, HOST) as report:
            for _ in range(ROLLOUTS):
                workers.kill()
                job_id, current = replacement(fleet, orders, current)
                for _ in range(chance.randint(1, MOST_KILLS)):
                    workers.start()
                    time.sleep(chance.uniform(0, LONGEST_LIFE))  # the point at which it is killed
                    workers.kill()
                    kills += 1
                workers.start()
                wait_until(lambda: fleet.job(job_id).state in FINAL_JOBS, seconds=60, otherwise=balancer.log)  # noqa: B023 - called at once
                job = fleet.job(job_id)
                assert job.state == "succeeded", job.error
                fingerprints.append(fleet.certificate(current).fingerprint_sha256)
    order = {fingerprint: number for number, fingerprint in enumerate(fingerprints)}
    assert [failure for client in report for failure in client["failures"]] == []
    for client in report:
        places = [order[leaf] for leaf in client["leaves"]]
        assert places == sorted(places)
    snapshot = build_driver(balancer.region("local")).snapshot()
    assert [held.ref.name.certificate_id for held in snapshot.objects] == [current]
    assert snapshot.anomalies == ()
    if isinstance(balancer, HaproxyProcess):
        assert {path for path in balancer.held() if path.startswith("*")} == set()
    assert listener_of(fleet, listener_id).server_certificate_id == current
    requests = sum(client["requests"] for client in report)
    print(f"\n{ROLLOUTS} rollouts, {kills} kills, {requests} requests, 0 failures, 0 left behind")  # noqa: T201 - a figure


def replacement(fleet: Fleet, orders: Orders, certificate_id: str) -> tuple[str, str]:
    """New content for the certificate; the job's and the new certificate's id."""
    now = orders.clock()
    fleet.now = now
    serial = int(now.timestamp() * 1000)
    issued = pki.server_with_chain(HOST, serial=serial)
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem)
    with fleet.transaction() as session:
        job, new = replace_certificate(fleet.context, session, fleet.caller, certificate_id, content, now=now)
        return job.id, new.id


def all_final(fleet: Fleet) -> bool:
    """Whether no deployment is being worked on."""
    with fleet.transaction() as session:
        return not session.query(Deployment).filter(Deployment.next_attempt_at.is_not(None)).count()
