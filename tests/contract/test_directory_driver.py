"""The directory driver passes the public contract suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.worker.drivers.directory import DirectoryDriver
from shared.config.regions import Region
from tests.contract.driver_kit import NewDriver, ObjectContract


class TestDirectoryDriver(ObjectContract):
    @pytest.fixture
    def new_driver(self, tmp_path: Path) -> NewDriver:
        region = Region(id="local", name="Local", driver="directory", settings={"path": str(tmp_path / "region")})
        return lambda: DirectoryDriver.for_region(region)
