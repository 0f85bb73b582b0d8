"""The in-memory double passes the public contract suite, so that what is tested on it holds for real balancers."""

from __future__ import annotations

import pytest

from tests.contract.driver_kit import DriverContract, NewDriver
from tests.support.memory_balancers import MemoryDriver, forget_balancers, memory_region


class TestMemoryDriver(DriverContract):
    @pytest.fixture
    def new_driver(self) -> NewDriver:
        forget_balancers()
        return lambda: MemoryDriver.for_region(memory_region("hangzhou"))
