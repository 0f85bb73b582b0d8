"""The haproxy driver passes the public contract suite in front of a real HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.drivers.haproxy import HaproxyDriver
from services.worker.probe import TlsProber
from shared.usecases.driver import Listener
from tests.contract.driver_kit import DriverContract, NewDriver, leaf_seen
from tests.support.haproxy import HaproxyProcess, running_haproxy


@pytest.mark.integration
class TestHaproxyDriver(DriverContract):
    @pytest.fixture(autouse=True)
    def _haproxy(self, place: Path) -> Iterator[None]:
        with running_haproxy(place) as haproxy:
            self.haproxy: HaproxyProcess = haproxy
            yield

    @pytest.fixture
    def new_driver(self) -> NewDriver:
        region = self.haproxy.region()
        return lambda: HaproxyDriver.for_region(region)

    def handshake(self, listener: Listener) -> str:
        return leaf_seen(TlsProber(), self.haproxy.address, listener)
