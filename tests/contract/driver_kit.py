"""The acceptance test of every driver: subclass ``DriverContract``, say how to build yours, run pytest.

::

    class TestMyDriver(DriverContract):
        @pytest.fixture
        def new_driver(self, my_balancer: MyBalancer) -> NewDriver:
            self.address = my_balancer.address
            return lambda: MyDriver(...)   # each call: another instance for the same, initially empty balancer

        def handshake(self, listener: Listener) -> str:   # optional: what a client really gets
            return leaf_seen(Prober(), self.address, listener)

The balancer may be slow and may be started once for many tests, as long as each test finds it empty. What every test
wants is in the docstrings of ``shared/usecases/driver.py``; this page for people: ``docs/drivers.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from shared.domain.certificates import Material
from shared.errors import DriverError, InvalidMaterial, Unsupported
from shared.usecases.driver import Driver, ObjectName, Readback, Ref, Staged, StagesMany
from tests.contract.kit_fencing import FencingObligations, NewDriver
from tests.contract.kit_listeners import ListenerObligations, leaf_seen
from tests.contract.kit_material import absent_ref, ca_material, key_lines, listener_of, owner, server_material

__all__ = [
    "DriverContract",
    "NewDriver",
    "ObjectContract",
    "absent_ref",
    "ca_material",
    "leaf_seen",
    "listener_of",
    "owner",
    "server_material",
]

CONCURRENT: Final = 8

MOST_CERTIFICATES: Final = 100
"""Validation lets no more through (``too_large``), so nothing larger is ever staged."""


class ObjectContract(FencingObligations):
    """The part of :class:`DriverContract` for drivers that deliver certificates and serve no listeners."""

    @pytest.fixture
    def new_driver(self) -> NewDriver:
        """How to build one more instance for the same balancer, which is empty when the test begins."""
        raise NotImplementedError

    def test_capabilities_are_constant_and_known_without_asking(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        assert driver.capabilities == driver.capabilities == new_driver().capabilities

    def test_it_is_a_driver(self, new_driver: NewDriver) -> None:
        assert isinstance(new_driver(), Driver)

    def test_an_empty_balancer_has_an_empty_snapshot(self, new_driver: NewDriver) -> None:
        snapshot = new_driver().snapshot()
        assert (snapshot.objects, snapshot.listeners, snapshot.anomalies) == ((), (), ())

    def test_several_staged_together_are_what_each_would_be_alone(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        if not isinstance(driver, StagesMany):
            return  # optional: without it, the product stages one after the other
        wanted = [
            (server_material(serial=1), owner(certificate_id="cert_1")),
            (server_material(serial=2), owner("acct_two", certificate_id="cert_2")),
            (ca_material(), owner(certificate_id="cert_3")),
        ]
        alone = driver.stage(*wanted[0][:1], owner=wanted[0][1])
        together = driver.stage_all(wanted)
        assert [one.ref.name for one in together] == [ObjectName.of(*one) for one in wanted]
        assert [one.created for one in together] == [False, True, True]
        assert together[0].ref == alone.ref
        assert {held.ref.name for held in driver.snapshot().objects} == {one.ref.name for one in together}
        assert [one.created for one in driver.stage_all(wanted)] == [False, False, False]

    def test_of_several_staged_together_all_are_there_or_none(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        if not isinstance(driver, StagesMany):
            return  # optional, as above
        good, bad = server_material(serial=1), dataclasses.replace(server_material(serial=2), private_key_pem=None)
        with pytest.raises(DriverError):
            driver.stage_all([(good, owner(certificate_id="cert_1")), (bad, owner(certificate_id="cert_2"))])
        assert driver.snapshot().objects == ()

    @pytest.mark.parametrize("build", [server_material, ca_material])
    def test_a_staged_object_is_in_the_snapshot_under_its_name(
        self, new_driver: NewDriver, build: Callable[[], Material]
    ) -> None:
        driver, material = new_driver(), build()
        staged = driver.stage(material, owner=owner())
        assert staged.created
        assert staged.ref.name == ObjectName.of(material, owner())
        held = driver.snapshot().find(staged.ref.name)
        assert held is not None
        assert held.ref == staged.ref
        if driver.capabilities.readback is not Readback.NAMES:
            assert held.fingerprint_sha256 == material.fingerprint_sha256

    def test_several_ca_certificates_fit_one_object(self, new_driver: NewDriver) -> None:
        driver, material = new_driver(), ca_material(certificates=3)
        if not driver.capabilities.several_ca_certificates:
            with pytest.raises(InvalidMaterial):
                driver.stage(material, owner=owner())
            return
        staged = driver.stage(material, owner=owner())
        assert [held.ref for held in driver.snapshot().objects] == [staged.ref]

    def test_staging_twice_changes_nothing_and_says_so(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        first = driver.stage(server_material(), owner=owner())
        before = driver.snapshot()
        assert driver.stage(server_material(), owner=owner()) == Staged(ref=first.ref, created=False)
        assert driver.snapshot() == before

    def test_another_instance_finds_what_the_first_staged(self, new_driver: NewDriver) -> None:
        first = new_driver().stage(server_material(), owner=owner())
        assert new_driver().stage(server_material(), owner=owner()) == Staged(ref=first.ref, created=False)

    def test_new_content_is_a_new_object_beside_the_old(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        old = driver.stage(server_material(serial=1), owner=owner(certificate_id="cert_old"))
        new = driver.stage(server_material(serial=2), owner=owner(certificate_id="cert_new"))
        assert {held.ref for held in driver.snapshot().objects} == {old.ref, new.ref}

    def test_the_same_content_of_two_accounts_is_two_objects(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        one = driver.stage(server_material(), owner=owner("acct_one"))
        two = driver.stage(server_material(), owner=owner("acct_two"))
        assert two.created
        assert [held.ref for held in driver.snapshot().of_account("acct_one").objects] == [one.ref]
        assert [held.ref for held in driver.snapshot().of_account("acct_two").objects] == [two.ref]

    def test_retiring_one_accounts_object_leaves_the_others(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        one = driver.stage(server_material(), owner=owner("acct_one"))
        two = driver.stage(server_material(), owner=owner("acct_two"))
        assert driver.retire(one.ref)
        assert [held.ref for held in driver.snapshot().objects] == [two.ref]

    def test_a_reference_under_a_foreign_account_is_absent(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        mine = driver.stage(server_material(), owner=owner("acct_one"))
        stolen = Ref(name=dataclasses.replace(mine.ref.name, account_id="acct_two"), remote_id=mine.ref.remote_id)
        assert driver.retire(stolen) is False
        assert driver.snapshot().find(mine.ref.name) is not None

    def test_retiring_what_was_never_staged_is_success_without_change(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        assert driver.retire(absent_ref()) is False
        driver.stage(server_material(), owner=owner())
        before = driver.snapshot()
        assert driver.retire(absent_ref()) is False
        assert driver.snapshot() == before

    def test_a_retired_object_is_gone_and_can_be_retired_again(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        staged = driver.stage(server_material(), owner=owner())
        assert driver.retire(staged.ref) is True
        assert driver.snapshot().objects == ()
        assert driver.retire(staged.ref) is False

    def test_a_retired_object_can_be_staged_again(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        staged = driver.stage(server_material(), owner=owner())
        driver.retire(staged.ref)
        assert driver.stage(server_material(), owner=owner()).created
        assert driver.snapshot().anomalies == ()

    def test_a_reference_survives_storage_as_text(self, new_driver: NewDriver) -> None:
        staged = new_driver().stage(server_material(), owner=owner())
        stored = (staged.ref.name.account_id, staged.ref.name.label, staged.ref.remote_id)
        ref = Ref(name=ObjectName.parse(stored[1], account_id=stored[0]), remote_id=stored[2])
        assert new_driver().retire(ref) is True

    def test_an_untouched_balancer_keeps_its_version_and_a_changed_one_does_not(self, new_driver: NewDriver) -> None:
        driver = new_driver()
        versions = [driver.snapshot().version]
        staged = driver.stage(server_material(), owner=owner())
        versions.append(driver.snapshot().version)
        driver.retire(staged.ref)
        versions.append(driver.snapshot().version)
        assert len(set(versions)) == 3
        assert driver.snapshot().version == versions[-1]

    def test_concurrent_stagers_lose_nothing(self, new_driver: NewDriver) -> None:
        owners = [owner(f"acct_{number}", certificate_id=f"cert_{number}") for number in range(CONCURRENT)]
        with ThreadPoolExecutor(CONCURRENT) as threads:
            staged = list(threads.map(lambda one: new_driver().stage(server_material(), owner=one), owners))
        snapshot = new_driver().snapshot()
        assert {held.ref for held in snapshot.objects} == {one.ref for one in staged}
        assert snapshot.anomalies == ()

    def test_of_concurrent_stagers_of_one_object_exactly_one_created_it(self, new_driver: NewDriver) -> None:
        with ThreadPoolExecutor(CONCURRENT) as threads:
            calls = [
                threads.submit(lambda: new_driver().stage(server_material(), owner=owner())) for _ in range(CONCURRENT)
            ]
            created = [call.result().created for call in calls]
        assert created.count(True) == 1

    def test_content_over_the_size_limit_is_refused_for_good_and_without_a_limit_the_largest_is_taken(
        self, new_driver: NewDriver
    ) -> None:
        driver, one = new_driver(), len(ca_material().certificate_pem)
        able = driver.capabilities
        if able.max_pem_bytes is not None:
            with pytest.raises(InvalidMaterial):
                driver.stage(ca_material(certificates=able.max_pem_bytes // one + 1), owner=owner())
            return
        largest = ca_material(certificates=MOST_CERTIFICATES if able.several_ca_certificates else 1)
        staged = driver.stage(largest, owner=owner())
        assert driver.snapshot().find(staged.ref.name) is not None

    def test_listeners_are_refused_with_a_sentence_or_held_to_all_of_their_obligations(
        self, new_driver: NewDriver
    ) -> None:
        driver = new_driver()
        if driver.capabilities.listeners:
            assert isinstance(self, DriverContract)
            return
        listener = listener_of(driver.stage(server_material(), owner=owner()))
        for verb in (driver.bind, driver.unbind):
            with pytest.raises(Unsupported, match=r"\w+ \w+ \w+"):
                verb(listener)

    def test_no_key_shows_in_any_answer(self, new_driver: NewDriver) -> None:
        driver, material = new_driver(), server_material()
        staged = driver.stage(material, owner=owner())
        shown = repr((driver, staged, driver.snapshot(), driver.capabilities))
        assert not key_lines(material) & set(shown.replace("\\n", "\n").split("\n"))
        assert "PRIVATE KEY" not in shown

    def test_a_refusal_names_no_key(self, new_driver: NewDriver) -> None:
        material = dataclasses.replace(server_material(), certificate_pem="", fingerprint_sha256="0" * 64)
        with pytest.raises(DriverError) as refused:
            new_driver().stage(material, owner=owner())
        assert not any(line in f"{refused.value!r} {refused.value.hint}" for line in key_lines(material))


class DriverContract(ObjectContract, ListenerObligations):
    """What holds for every driver. A subclass gives ``new_driver``; capabilities decide which tests apply.

    A driver whose balancer can be reached by clients also overrides ``handshake``
    (:meth:`tests.contract.kit_listeners.ListenerObligations.handshake`), which lets the kit look from outside.
    """
