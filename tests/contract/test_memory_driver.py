"""The in-memory double passes the public contract suite, so that what is tested on it holds for real balancers."""

from __future__ import annotations

import pytest

from shared.usecases.driver import Listener
from tests.contract.driver_kit import DriverContract, NewDriver, ObjectContract, leaf_seen
from tests.support.memory_balancers import MemoryDriver, MemoryProber, address_of, forget_balancers, memory_region


class TestMemoryDriver(DriverContract):
    @pytest.fixture
    def new_driver(self) -> NewDriver:
        forget_balancers()
        return lambda: MemoryDriver.for_region(memory_region("hangzhou"))

    def handshake(self, listener: Listener) -> str:
        return leaf_seen(MemoryProber(), address_of("hangzhou"), listener)


class TestMemoryDriverWithoutMutualAuthentication:
    def test_a_listener_with_a_ca_is_shown_with_it_or_refused(self) -> None:
        forget_balancers()
        driver = MemoryDriver.for_region(memory_region("hangzhou", settings={"mutual_auth": False}))
        DriverContract().test_a_listener_with_a_ca_is_shown_with_it_or_refused(driver)


class TestMemoryDriverWithoutListeners(ObjectContract):
    @pytest.fixture
    def new_driver(self) -> NewDriver:
        forget_balancers()
        return lambda: MemoryDriver.for_region(memory_region("hangzhou", settings={"listeners": False}))
