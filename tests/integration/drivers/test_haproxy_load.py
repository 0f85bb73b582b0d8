"""300 certificates one after the other under load: no connection fails, and nobody ever meets another than the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.worker.drivers.haproxy import HaproxyDriver
from tests.contract.driver_kit import listener_of
from tests.contract.kit_material import leaf_of, stage_server
from tests.support.haproxy import running_haproxy
from tests.support.tls_load import load_on

REPLACEMENTS = 300
HOST = "shop.example"

pytestmark = pytest.mark.integration


@pytest.mark.timeout(300)
def test_300_replacements_under_load_lose_no_connection_and_show_nothing_wrong(place: Path) -> None:
    with running_haproxy(place) as haproxy:
        driver = HaproxyDriver.for_region(haproxy.region())
        old = stage_server(driver, 1)
        driver.bind(listener_of(old))
        with load_on(haproxy.address, HOST) as report:
            for serial in range(2, REPLACEMENTS + 2):
                new = stage_server(driver, serial)
                assert driver.bind(listener_of(new))
                assert driver.retire(old)
                old = new
        order = {leaf_of(serial): serial for serial in range(1, REPLACEMENTS + 2)}
        assert [failure for client in report for failure in client["failures"]] == []
        assert sum(client["requests"] for client in report) > REPLACEMENTS
        for client in report:
            places = [order[leaf] for leaf in client["leaves"]]
            assert places == sorted(places), "a client met a certificate that had been replaced before"
        assert haproxy.held() == {old.remote_id}
        assert len(driver.snapshot().objects) == 1
        assert driver.snapshot().anomalies == ()
        print(f"\n{sum(client['requests'] for client in report)} requests, {REPLACEMENTS} replacements, 0 failures")  # noqa: T201 - a figure
