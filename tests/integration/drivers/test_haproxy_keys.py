"""Which keys a real HAProxy serves, and of which CAs it lets clients in: the measurement behind the driver's lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.drivers.haproxy import CA_KEY_ALGORITHMS, KEY_ALGORITHMS, HaproxyDriver
from services.worker.probe import TlsProber
from shared.config.regions import KNOWN_KEY_ALGORITHMS
from shared.domain.certificates import CertificateType, Material
from shared.domain.served import Client
from shared.errors import InvalidMaterial
from shared.usecases.driver import Ref
from tests.contract.driver_kit import listener_of, owner
from tests.contract.kit_material import stage_server
from tests.support import pki
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.places import private_directory
from tests.support.visits import client_context, visit

HOST = "keys.example.com"
FOR_LONG = pki.NOW + 3650 * pki.DAY

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def haproxy() -> Iterator[HaproxyProcess]:
    with private_directory() as place, running_haproxy(place) as running:
        yield running


@pytest.fixture
def driver(haproxy: HaproxyProcess) -> HaproxyDriver:
    return HaproxyDriver.for_region(haproxy.region())


def material(algorithm: str) -> Material:
    issued = pki.server(HOST, issuer=pki.authority(), key=algorithm)
    return Material(
        type=CertificateType.SERVER,
        certificate_pem=issued.chain_pem,
        private_key_pem=issued.key_pem,
        fingerprint_sha256=issued.fingerprint_sha256,
    )


def staged_ca(driver: HaproxyDriver, authority: pki.Issued, algorithm: str) -> Ref:
    content = Material(
        type=CertificateType.CA, certificate_pem=authority.pem, fingerprint_sha256=authority.fingerprint_sha256
    )
    return driver.stage(content, owner=owner(certificate_id=f"ca_{algorithm}")).ref


def test_every_known_key_is_measured() -> None:
    assert KNOWN_KEY_ALGORITHMS - {"rsa-1024"} == KEY_ALGORITHMS == CA_KEY_ALGORITHMS


@pytest.mark.parametrize("algorithm", sorted(KEY_ALGORITHMS))
def test_a_key_of_the_list_is_served(driver: HaproxyDriver, haproxy: HaproxyProcess, algorithm: str) -> None:
    content = material(algorithm)
    staged = driver.stage(content, owner=owner(certificate_id=algorithm))
    assert driver.bind(listener_of(staged, hosts=(HOST,)))
    seen = TlsProber().handshake(haproxy.address, host=HOST, client=Client.ANONYMOUS)
    assert (seen.chain[:1], seen.status) == ((content.fingerprint_sha256,), 200)


def test_another_key_is_refused_when_staged_and_the_old_is_served_on(
    driver: HaproxyDriver, haproxy: HaproxyProcess
) -> None:
    good = material("rsa-2048")
    driver.bind(listener_of(driver.stage(good, owner=owner(certificate_id="good")), hosts=(HOST,)))
    with pytest.raises(InvalidMaterial):
        driver.stage(material("rsa-1024"), owner=owner(certificate_id="rsa-1024"))
    seen = TlsProber().handshake(haproxy.address, host=HOST, client=Client.ANONYMOUS)
    assert seen.chain[0] == good.fingerprint_sha256
    assert driver.snapshot().anomalies == ()


@pytest.mark.parametrize("algorithm", sorted(KNOWN_KEY_ALGORITHMS))
def test_clients_of_a_ca_are_let_in_exactly_if_its_key_is_of_the_list(
    driver: HaproxyDriver, haproxy: HaproxyProcess, tmp_path: Path, algorithm: str
) -> None:
    authority = pki.authority(f"Clients {algorithm}", key=algorithm, not_after=FOR_LONG)
    friend = pki.client(issuer=authority, key="rsa-2048", not_after=FOR_LONG)
    ca = staged_ca(driver, authority, algorithm)
    driver.bind(listener_of(stage_server(driver), hosts=(HOST,), ca=ca))
    visited = visit(haproxy.address, client_context(tmp_path, friend), HOST)
    assert visited.status == (200 if algorithm in CA_KEY_ALGORITHMS else 0)
