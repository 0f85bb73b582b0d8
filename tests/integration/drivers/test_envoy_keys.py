"""Which keys a real Envoy serves: the measurement behind the driver's ``key_algorithms``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.worker.drivers.envoy import KEY_ALGORITHMS, EnvoyDriver
from services.worker.probe import TlsProber
from shared.domain.certificates import CertificateType, Material
from shared.domain.served import Client
from shared.errors import InvalidMaterial
from tests.contract.driver_kit import listener_of, owner
from tests.support import pki
from tests.support.envoy import EnvoyProcess, running_envoy
from tests.support.places import private_directory

HOST = "keys.example.com"
REFUSED = ("rsa-1024", "ed448")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def envoy() -> Iterator[EnvoyProcess]:
    with private_directory() as place, running_envoy(place) as running:
        yield running


def material(algorithm: str) -> Material:
    issued = pki.server(HOST, issuer=pki.authority(), key=algorithm)
    return Material(
        type=CertificateType.SERVER,
        certificate_pem=issued.chain_pem,
        private_key_pem=issued.key_pem,
        fingerprint_sha256=issued.fingerprint_sha256,
    )


@pytest.mark.parametrize("algorithm", sorted(KEY_ALGORITHMS))
def test_a_key_of_the_list_is_served(envoy: EnvoyProcess, algorithm: str) -> None:
    driver, content = EnvoyDriver.for_region(envoy.region()), material(algorithm)
    staged = driver.stage(content, owner=owner(certificate_id=algorithm))
    assert driver.bind(listener_of(staged, hosts=(HOST,)))
    seen = TlsProber().handshake(envoy.address, host=HOST, client=Client.ANONYMOUS)
    assert (seen.chain[:1], seen.status) == ((content.fingerprint_sha256,), 200)


@pytest.mark.parametrize("algorithm", REFUSED)
def test_another_key_is_refused_at_bind_and_the_old_is_served_on(envoy: EnvoyProcess, algorithm: str) -> None:
    driver, good = EnvoyDriver.for_region(envoy.region()), material("rsa-2048")
    driver.bind(listener_of(driver.stage(good, owner=owner(certificate_id="good")), hosts=(HOST,)))
    staged = driver.stage(material(algorithm), owner=owner(certificate_id=algorithm))
    with pytest.raises(InvalidMaterial):
        driver.bind(listener_of(staged, hosts=(HOST,)))
    assert driver.retire(staged.ref)
    seen = TlsProber().handshake(envoy.address, host=HOST, client=Client.ANONYMOUS)
    assert seen.chain[0] == good.fingerprint_sha256
    assert driver.snapshot().anomalies == ()
