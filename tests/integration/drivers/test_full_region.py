"""A full region: 100 server and 100 CA certificates at a real balancer, the 101st, and no slot to replace with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from services.worker.probe import TlsProber
from shared.domain.certificates import CertificateType
from shared.usecases.driver_registry import build_driver
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.rollout import remove_region
from tests.support import pki
from tests.support.envoy import EnvoyProcess, running_envoy
from tests.support.fleet import Fleet, build_fleet, new_upload
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.listeners import add_listener, listener_of

QUOTA: Final = 100
REGION: Final = "local"

pytestmark = pytest.mark.integration


@pytest.fixture(params=[running_envoy, running_haproxy], ids=["envoy", "haproxy"])
def balancer(place: Path, request: pytest.FixtureRequest) -> Iterator[EnvoyProcess | HaproxyProcess]:
    with request.param(place) as running:
        yield running


@pytest.fixture
def fleet(database_url: str, tmp_path: Path, balancer: EnvoyProcess | HaproxyProcess) -> Iterator[Fleet]:
    region = balancer.region(REGION, key_policy=frozenset({"ec-p256", "rsa-2048"}))
    built = build_fleet(database_url, tmp_path, regions=[region])
    built.prober = TlsProber()
    yield built
    built.context.database.close()


def server(number: int, *, serial: int = 1) -> pki.Issued:
    issuer = pki.authority("Issuing CA", key="ec-p256")
    return pki.server(f"s{number}.example.com", issuer=issuer, key="ec-p256", serial=1000 * serial + number + 1)


def ca(number: int, *, serial: int = 1) -> pki.Issued:
    return pki.authority(f"Clients {number}.{serial}", key="ec-p256")


def submitted(fleet: Fleet, issued: pki.Issued, kind: CertificateType) -> tuple[str, str]:
    key = issued.key_pem if kind is CertificateType.SERVER else None
    upload = new_upload(type=kind, certificate=issued.chain_pem, private_key=key, regions=[REGION])
    return fleet.submit(upload)


def replaced(fleet: Fleet, certificate_id: str, issued: pki.Issued, *, with_key: bool) -> tuple[str, str]:
    content = NewContent(certificate=issued.chain_pem, private_key=issued.key_pem if with_key else None)
    with fleet.transaction() as session:
        job, new = replace_certificate(fleet.context, session, fleet.caller, certificate_id, content, now=fleet.now)
        return job.id, new.id


@pytest.mark.timeout(420)
def test_a_full_region_serves_replaces_and_rotates_and_says_why_when_it_cannot(
    fleet: Fleet, balancer: EnvoyProcess | HaproxyProcess
) -> None:
    servers = [submitted(fleet, server(number), CertificateType.SERVER)[1] for number in range(QUOTA)]
    cas = [submitted(fleet, ca(number), CertificateType.CA)[1] for number in range(QUOTA)]
    fleet.run()
    listeners = [
        add_listener(fleet, REGION, [f"s{number}.example.com"], server=servers[number], ca=cas[number])
        for number in range(QUOTA - 1)
    ]
    fleet.run()
    assert {listener_of(fleet, one).served for one in listeners} == {"match"}
    for kind, one_more in ((CertificateType.SERVER, server(QUOTA)), (CertificateType.CA, ca(QUOTA))):
        job_id, _ = submitted(fleet, one_more, kind)
        fleet.run()
        error = fleet.job(job_id).error
        assert error is not None
        assert error["code"] == "quota_exceeded"
    job_id, _ = replaced(fleet, servers[0], server(0, serial=2), with_key=True)
    fleet.run()
    said = [finding["message"] for finding in fleet.job(job_id).findings if finding["code"] == "quota_exceeded"]
    assert "beside the old one" in said[0]
    assert listener_of(fleet, listeners[0]).server_certificate_id == servers[0]
    for unused in (servers[-1], cas[-1]):
        fleet.change(remove_region, unused, REGION)
    fleet.run()
    for number in range(QUOTA - 1):
        for certificate_id, issued, with_key in (
            (servers[number], server(number, serial=3), True),
            (cas[number], ca(number, serial=3), False),
        ):
            job_id, _ = replaced(fleet, certificate_id, issued, with_key=with_key)
            fleet.run()
            assert fleet.job(job_id).state == "succeeded", fleet.job(job_id).error
    assert {listener_of(fleet, one).served for one in listeners} == {"match"}
    snapshot = build_driver(balancer.region(REGION)).snapshot()
    assert (len(snapshot.objects), len(snapshot.listeners), snapshot.anomalies) == (2 * QUOTA - 2, QUOTA - 1, ())
