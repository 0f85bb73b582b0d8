"""The directory driver passes the public contract suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
from tests.contract.driver_kit import DriverContract, NewDriver

if TYPE_CHECKING:
    from pathlib import Path


class TestDirectoryDriver(DriverContract):
    @pytest.fixture
    def new_driver(self, tmp_path: Path) -> NewDriver:
        region = Region(id="local", name="Local", driver="directory", settings={"path": str(tmp_path / "region")})
        return lambda: DirectoryDriver.for_region(region)
