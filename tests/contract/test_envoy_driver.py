"""The envoy driver passes the public contract suite in front of a real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.drivers.envoy import EnvoyDriver
from services.worker.probe import TlsProber
from shared.usecases.driver import Listener
from tests.contract.driver_kit import DriverContract, NewDriver, leaf_seen
from tests.support.envoy import EnvoyProcess, running_envoy


@pytest.mark.integration
class TestEnvoyDriver(DriverContract):
    @pytest.fixture(autouse=True)
    def _envoy(self, place: Path) -> Iterator[None]:
        with running_envoy(place) as envoy:
            self.envoy: EnvoyProcess = envoy
            yield

    @pytest.fixture
    def new_driver(self) -> NewDriver:
        region = self.envoy.region()
        return lambda: EnvoyDriver.for_region(region)

    def handshake(self, listener: Listener) -> str:
        return leaf_seen(TlsProber(), self.envoy.address, listener)
