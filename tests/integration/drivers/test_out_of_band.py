"""Somebody changes a real balancer by hand: one patrol notices, names what is served instead, and repairs if it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from services.worker.probe import TlsProber
from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.domain.served import Client
from shared.models import Event
from tests.support.debian import require
from tests.support.envoy import EnvoyProcess, running_envoy
from tests.support.fleet import Fleet, build_fleet, server_upload
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.listeners import listener_of
from tests.support.nginx import HOST, Nginx
from tests.support.patrols import (
    PERIOD,
    after_a_period,
    bound,
    deployment_of,
    foreign_material,
    patrol_now,
    told,
)
from tests.support.stack import wait_until

REGION: Final = "local"

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class EnvoyMeddler:
    """Edits lds.json, as the file invites one to."""

    envoy: EnvoyProcess

    @property
    def address(self) -> str:
        return self.envoy.address

    def swap(self, stranger: Material) -> None:
        file = self.envoy.directory / "lds.json"
        document = json.loads(file.read_text())
        document["version_info"] = "by hand"
        for pair in _pairs(document):
            pair["certificate_chain"]["inline_string"] = stranger.certificate_pem
            pair["private_key"]["inline_string"] = stranger.private_key_pem
        staged = file.with_name("by-hand.json")
        staged.write_text(json.dumps(document))
        staged.replace(file)


def _pairs(node: object) -> Iterator[dict[str, dict[str, object]]]:
    if isinstance(node, dict):
        if "certificate_chain" in node:
            yield node
        for value in node.values():
            yield from _pairs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _pairs(value)


@dataclass(frozen=True, slots=True)
class HaproxyMeddler:
    """Types at the Runtime API."""

    haproxy: HaproxyProcess

    @property
    def address(self) -> str:
        return self.haproxy.address

    def swap(self, stranger: Material) -> None:
        (path,) = self.haproxy.held()
        pem = f"{stranger.certificate_pem.strip()}\n{(stranger.private_key_pem or '').strip()}"
        assert "Transaction created" in self.haproxy.command(f"set ssl cert {path} <<\n{pem}\n")
        assert "Success!" in self.haproxy.command(f"commit ssl cert {path}")


@pytest.fixture(params=["envoy", "haproxy"])
def meddler(place: Path, request: pytest.FixtureRequest) -> Iterator[EnvoyMeddler | HaproxyMeddler]:
    if request.param == "envoy":
        with running_envoy(place) as envoy:
            yield EnvoyMeddler(envoy)
    else:
        with running_haproxy(place) as haproxy:
            yield HaproxyMeddler(haproxy)


def fleet_of(database_url: str, place: Path, meddler: EnvoyMeddler | HaproxyMeddler, *, repair: bool) -> Fleet:
    process = meddler.envoy if isinstance(meddler, EnvoyMeddler) else meddler.haproxy
    fleet = build_fleet(database_url, place, regions=[process.region(REGION, repair=repair)])
    fleet.prober = TlsProber()
    return fleet


def leaf(address: str) -> str:
    seen = TlsProber().handshake(address, host=HOST, client=Client.ANONYMOUS)
    return seen.chain[0] if seen.chain else ""


def wait_for(address: str, fingerprint: str) -> None:
    wait_until(lambda: leaf(address) == fingerprint, seconds=20, otherwise=lambda: f"still {leaf(address)}")


def test_a_certificate_swapped_by_hand_is_noticed_by_one_patrol_and_named(
    database_url: str, tmp_path: Path, meddler: EnvoyMeddler | HaproxyMeddler
) -> None:
    fleet = fleet_of(database_url, tmp_path, meddler, repair=False)
    certificate_id, listener_id = bound(fleet, HOST, REGION)
    patrol_now(fleet)
    assert told(fleet) == []
    stranger = foreign_material(HOST)
    meddler.swap(stranger)
    wait_for(meddler.address, stranger.fingerprint_sha256)

    after_a_period(fleet)

    assert [kind for kind, _ in told(fleet)] == ["drifted"]
    listener = listener_of(fleet, listener_id)
    assert (listener.served, listener.served_fingerprint_sha256) == ("mismatch", stranger.fingerprint_sha256)
    assert stranger.fingerprint_sha256 in (listener.served_message or "")
    drift = deployment_of(fleet, certificate_id, REGION).drift
    assert drift is not None
    assert stranger.fingerprint_sha256 in drift["message"]
    after_a_period(fleet)
    fleet.run()
    assert len(told(fleet)) == 1
    assert leaf(meddler.address) == stranger.fingerprint_sha256
    fleet.context.database.close()


def test_where_the_region_says_so_it_is_put_right_and_said(
    database_url: str, tmp_path: Path, meddler: EnvoyMeddler | HaproxyMeddler
) -> None:
    fleet = fleet_of(database_url, tmp_path, meddler, repair=True)
    certificate_id, listener_id = bound(fleet, HOST, REGION)
    stranger = foreign_material(HOST)
    meddler.swap(stranger)
    wait_for(meddler.address, stranger.fingerprint_sha256)

    after_a_period(fleet)
    fleet.run()
    fleet.pass_time(PERIOD)
    patrol_now(fleet)

    assert list(dict.fromkeys(kind for kind, _ in told(fleet))) == ["drifted", "recovered"]
    assert listener_of(fleet, listener_id).served == "match"
    assert leaf(meddler.address) == fleet.certificate(certificate_id).fingerprint_sha256
    assert deployment_of(fleet, certificate_id, REGION).drift is None
    fleet.context.database.close()


@pytest.mark.parametrize("repair", [False, True], ids=["told", "repaired"])
def test_a_file_swapped_under_a_real_nginx_is_noticed_by_one_patrol_and_named(
    database_url: str, tmp_path: Path, place: Path, *, repair: bool
) -> None:
    with Nginx(program=require("nginx"), place=place) as nginx:
        settings = {"path": str(place / "region")}
        declared = Region(id=REGION, name="Local", driver="directory", settings=settings, repair=repair)
        fleet = build_fleet(database_url, tmp_path, regions=[declared])
        _, certificate_id = fleet.submit(server_upload(HOST, regions=[REGION]))
        fleet.run()
        (held,) = nginx.driver().snapshot().objects
        nginx.configure(held.ref)
        nginx.start()
        stranger = foreign_material(HOST)
        swap_files(place / "region" / "current", held.ref.name.label, stranger)
        nginx.reload()
        wait_for(nginx.address, stranger.fingerprint_sha256)

        after_a_period(fleet)

        (event,) = drift_events(fleet)
        assert stranger.fingerprint_sha256 in event["error"]["message"]
        assert str(fleet.certificate(certificate_id).fingerprint_sha256) in event["error"]["message"]
        fleet.run()
        after_a_period(fleet)
        assert [kind for kind, _ in told(fleet)] == (["drifted", "recovered"] if repair else ["drifted"])
        nginx.reload()
        ours = fleet.certificate(certificate_id).fingerprint_sha256
        wait_for(nginx.address, str(ours) if repair else stranger.fingerprint_sha256)
        fleet.context.database.close()


def swap_files(current: Path, label: str, stranger: Material) -> None:
    for suffix, text in ((".pem", stranger.certificate_pem), (".key", stranger.private_key_pem or "")):
        file = (current / f"{label}{suffix}").resolve()
        file.chmod(0o600)
        file.write_text(text)


def drift_events(fleet: Fleet) -> list[dict[str, Any]]:
    with fleet.transaction() as session:
        statement = select(Event.data).where(Event.type == "deployment.drifted")
        return list(session.execute(statement).scalars())
