"""The in-memory balancer fails, lies and is meddled with exactly as told, and its prober tells what clients meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.config.regions import Region
from shared.domain.certificates import CertificateType, Material
from shared.domain.rollout import ServedState
from shared.domain.served import Client, Expected, Handshake, Verdict, judge
from shared.errors import Busy, InvalidMaterial, Misconfigured, OutcomeUnknown, QuotaExceeded, Replan, Unreachable
from shared.usecases.driver import AnomalyKind, Listener
from shared.usecases.driver_registry import build_driver
from shared.usecases.proof import knock
from tests.contract.kit_material import (
    ca_material,
    leaf_of,
    listener_of,
    owner,
    server_material,
    stage_ca,
    stage_server,
)
from tests.support import pki
from tests.support.memory_balancers import (
    SITE,
    MemoryBalancer,
    MemoryDriver,
    MemoryProber,
    address_of,
    balancer,
    forget_balancers,
    memory_region,
)

pytestmark = pytest.mark.unit

HOST = "shop.example"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_balancers()


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver.for_region(memory_region("hangzhou"))


@pytest.fixture
def place(driver: MemoryDriver) -> MemoryBalancer:
    del driver
    return balancer("hangzhou")


@pytest.fixture
def listener(driver: MemoryDriver) -> Listener:
    bound = listener_of(stage_server(driver))
    driver.bind(bound)
    return bound


@pytest.fixture
def mutual(driver: MemoryDriver) -> Listener:
    bound = listener_of(stage_server(driver), ca=stage_ca(driver))
    driver.bind(bound)
    return bound


def shake(host: str = HOST, *, client: Client = Client.ANONYMOUS, sni: bool = True) -> Handshake:
    return MemoryProber().handshake(address_of("hangzhou"), host=host, client=client, sni=sni)


def verdict(*, ca_names: tuple[str, ...] = ()) -> Verdict:
    shaken = knock(MemoryProber(), address_of("hangzhou"), [HOST], is_mutual=bool(ca_names))
    return judge(Expected(chain=(leaf_of(1),), client_ca_names=ca_names), shaken)


def pki_material(issued: pki.Issued) -> Material:
    return Material(
        type=CertificateType.SERVER,
        certificate_pem=issued.chain_pem,
        private_key_pem=issued.key_pem,
        fingerprint_sha256=issued.fingerprint_sha256,
    )


CA_NAMES = ("CN=Clients CA 0",)


def test_it_is_found_by_its_entry_point_and_shares_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SITE)
    ref = stage_server(build_driver(memory_region("hangzhou")))
    assert [held.ref for held in build_driver(memory_region("hangzhou")).snapshot().objects] == [ref]
    assert balancer("hangzhou").calls == ["stage", "snapshot"]


def test_a_fault_before_changes_nothing(driver: MemoryDriver, place: MemoryBalancer) -> None:
    place.faults.add("stage", Busy)
    with pytest.raises(Busy):
        stage_server(driver)
    assert driver.snapshot().objects == ()
    assert place.faults.are_used_up


def test_a_fault_afterwards_loses_only_the_answer(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    place.faults.add("unbind", OutcomeUnknown, after=True)
    with pytest.raises(OutcomeUnknown):
        driver.unbind(listener)
    assert driver.unbind(listener) is False


def test_a_fault_of_any_verb_lasts_until_it_is_cleared(driver: MemoryDriver, place: MemoryBalancer) -> None:
    place.faults.add("*", Unreachable, times=None)
    for call in (driver.snapshot, lambda: stage_server(driver)):
        with pytest.raises(Unreachable):
            call()
    place.faults.clear()
    assert driver.snapshot().objects == ()


def test_faults_are_met_in_order_and_as_often_as_told(driver: MemoryDriver, place: MemoryBalancer) -> None:
    place.faults.add("snapshot", Busy, times=2)
    place.faults.add("snapshot", Unreachable)
    for kind in (Busy, Busy, Unreachable):
        with pytest.raises(kind):
            driver.snapshot()
    assert driver.snapshot().objects == ()


def test_somebody_else_can_come_between(driver: MemoryDriver, place: MemoryBalancer, listener: Listener) -> None:
    place.faults.run("bind", lambda: place.unbind_by_hand(HOST))
    assert driver.bind(listener) is True


def test_a_lie_of_bind_is_seen_by_clients_only_and_put_right_by_the_next(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    new = listener_of(stage_server(driver, 2))
    place.faults.lie("bind")
    assert driver.bind(new) is True
    assert driver.snapshot().listeners == (new,)
    assert shake().chain == (leaf_of(1),)
    assert driver.bind(new) is True
    assert shake().chain == (leaf_of(2),)
    assert driver.bind(listener)


def test_a_lie_of_stage_is_seen_in_the_snapshot(driver: MemoryDriver, place: MemoryBalancer) -> None:
    place.faults.lie("stage")
    ref = stage_server(driver)
    held = driver.snapshot().find(ref.name)
    assert held is not None
    assert held.fingerprint_sha256 != leaf_of(1)
    with pytest.raises(Replan):
        driver.bind(listener_of(ref))


def test_lies_of_unbind_and_retire_leave_what_was(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    place.faults.lie("unbind")
    assert driver.unbind(listener) is True
    assert place.shown_to(HOST) == leaf_of(1)
    assert driver.unbind(listener) is True
    place.faults.lie("retire")
    assert driver.retire(listener.server) is True
    assert driver.snapshot().find(listener.server.name) is not None


def test_a_certificate_swapped_by_hand_is_seen_by_all_and_put_right_by_staging(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    place.swap_by_hand(HOST, server_material(serial=9))
    assert [one.kind for one in driver.snapshot().anomalies] == [AnomalyKind.ALTERED]
    assert shake().chain == (leaf_of(9),)
    assert driver.stage(server_material(), owner=owner(certificate_id="cert_1")).created
    assert driver.bind(listener) is False
    assert verdict().state is ServedState.MATCH


def test_what_is_shown_by_hand_is_seen_by_clients_only(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    before = driver.snapshot()
    place.show_by_hand(HOST, server_material(serial=9))
    assert driver.snapshot() == before
    assert verdict().state is ServedState.MISMATCH
    assert driver.bind(listener) is True
    assert verdict().state is ServedState.MATCH


def test_a_wiped_balancer_holds_nothing_and_remembers_its_writers(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    driver.fenced(7).unbind(listener)
    place.wipe()
    assert driver.snapshot().objects == ()
    with pytest.raises(Replan):
        stage_server(driver.fenced(6))


def test_a_mutual_listener_matches_when_everybody_unknown_is_refused(mutual: Listener) -> None:
    assert mutual.ca is not None
    assert verdict(ca_names=CA_NAMES).state is ServedState.MATCH
    assert shake(client=Client.FOREIGN).status is None


@pytest.mark.parametrize("knob", [{"answers_anyone": True}, {"asks_for": ("CN=x",)}, {"answers_without_sni": True}])
def test_each_knob_of_mutual_listeners_is_a_mismatch(
    place: MemoryBalancer, mutual: Listener, knob: dict[str, object]
) -> None:
    del mutual
    for name, value in knob.items():
        setattr(place, name, value)
    assert verdict(ca_names=CA_NAMES).state is ServedState.MISMATCH


def test_an_unreachable_balancer_is_unreachable_for_clients_only(
    driver: MemoryDriver, place: MemoryBalancer, listener: Listener
) -> None:
    place.unreachable = True
    assert verdict().state is ServedState.UNREACHABLE
    assert driver.snapshot().listeners == (listener,)


def test_nobody_answers_at_an_unknown_address_and_no_chain_comes_for_an_unknown_host(listener: Listener) -> None:
    del listener
    away = MemoryProber().handshake("elsewhere.test:443", host=HOST, client=Client.ANONYMOUS)
    assert not away.reached
    assert (shake("other.example").reached, shake("other.example").chain) == (True, ())


def test_the_whole_chain_is_shown_leaf_first(driver: MemoryDriver) -> None:
    issued = pki.server_with_chain(HOST)
    material = pki_material(issued)
    driver.bind(listener_of(driver.stage(material, owner=owner())))
    assert len(shake().chain) == 1 + len(issued.above) > 1
    assert shake().chain[0] == issued.fingerprint_sha256


def test_limits_and_key_algorithms_are_the_settings() -> None:
    settings = {"max_server_certificates": 1, "max_ca_certificates": 0, "key_algorithms": ["rsa-2048"]}
    driver = MemoryDriver.for_region(memory_region("small", settings=settings))
    ref = stage_server(driver, 1)
    with pytest.raises(QuotaExceeded):
        stage_server(driver, 2)
    with pytest.raises(QuotaExceeded):
        driver.stage(ca_material(), owner=owner())
    with pytest.raises(InvalidMaterial, match="ec-p256"):
        driver.bind(listener_of(ref))
    assert driver.snapshot().listeners == ()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(Misconfigured, match="balancer is missing") as refused:
        MemoryDriver.for_region(Region(id="x", name="x", driver="memory", settings={"colour": "red"}))
    assert len(refused.value.problems) == 2
