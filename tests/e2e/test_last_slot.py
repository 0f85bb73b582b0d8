"""Fifty programs want the last free slot of a region at once, over HTTP: one gets it, the others are told."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.client import ApiClient
from tests.support import pki
from tests.support.stack import running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGIONS = """
[[region]]
id = "almost-full"
driver = "directory"
quota = {{ server = 1 }}
[region.settings]
path = "{place}/almost-full"
"""


def test_of_fifty_concurrent_submissions_for_the_last_slot_one_succeeds(place: Path) -> None:
    regions = place / "regions.toml"
    regions.write_text(REGIONS.format(place=place))
    now = datetime.now(UTC)
    issued = pki.server("slot.example.com", not_before=now - timedelta(days=1), not_after=now + timedelta(days=99))
    body = {
        "source": "third_party",
        "type": "server",
        "certificate": issued.pem,
        "private_key": issued.key_pem,
        "regions": ["almost-full"],
    }
    with running_stack(place / "state", environ={"CERTFLEET_REGIONS": str(regions)}) as stack:
        client = ApiClient(stack.connection.url, stack.connection.token)

        def submit(_number: int) -> dict[str, Any]:
            job = client.post("/v1/certificates", body)["job"]["id"]
            return client.follow(job, seconds=120, see=lambda _: None)

        with ThreadPoolExecutor(50) as pool:
            jobs = list(pool.map(submit, range(50)))
        [region] = client.get("/v1/regions")["items"]
    assert Counter(job["state"] for job in jobs) == {"succeeded": 1, "failed": 49}
    assert Counter(job["error"]["code"] for job in jobs if job["error"]) == {"quota_exceeded": 49}
    assert all("quota_exceeded" in {one["code"] for one in job["findings"]} for job in jobs if job["error"])
    assert region["quota"]["server"] == {"used": 1, "limit": 1}
