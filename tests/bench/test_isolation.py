"""One region of ten that hangs for its full timeout, and what the other nine notice of it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from services.cli.client import ApiClient
from tests.bench.conftest import DRIVERS, client_of
from tests.bench.test_rollout import submission
from tests.support.stack import running_stack

HEALTHY = 9
JOBS = 20
HANGS = 5.0
"""Seconds that every call to the tenth region takes."""


def test_nine_regions_beside_one_that_hangs(place: Path) -> None:
    file = place / "regions.toml"
    file.write_text("".join(_region(place, number) for number in range(HEALTHY + 1)))
    environ = {"CERTFLEET_REGIONS": str(file), "PYTHONPATH": str(DRIVERS)}
    with running_stack(place / "state", environ=environ) as stack:
        client = client_of(stack)
        _through_the_healthy(client)
        alone, beside = [], []
        for _ in range(3):
            alone.append(_through_the_healthy(client))
            hanging = [_submit(client, [HEALTHY]) for _ in range(4)]
            beside.append(_through_the_healthy(client))
            assert {client.get(f"/v1/jobs/{job}")["state"] for job in hanging} == {"deploying"}
            for job in hanging:
                client.follow(job, seconds=60, see=lambda _: None)
    ratio = statistics.median(with_ / without for with_, without in zip(beside, alone, strict=True))
    print(f"\n{JOBS} jobs through {HEALTHY} regions; a tenth takes {HANGS:.0f} s for every call")
    print(f"  without work for the tenth: {statistics.median(alone):6.1f} jobs/s   (min {min(alone):.1f})")
    print(f"  while the tenth hangs:      {statistics.median(beside):6.1f} jobs/s   (min {min(beside):.1f})")
    print(f"  ratio: {ratio:.2f}")


def _through_the_healthy(client: ApiClient) -> float:
    began = time.perf_counter()
    jobs = [_submit(client, list(range(HEALTHY))) for _ in range(JOBS)]
    for job in jobs:
        assert client.follow(job, seconds=120, see=lambda _: None)["state"] == "succeeded"
    return JOBS / (time.perf_counter() - began)


def _submit(client: ApiClient, regions: list[int]) -> str:
    body = {**submission(1), "regions": [f"r{number:02}" for number in regions]}
    return str(client.post("/v1/certificates", body)["job"]["id"])


def _region(place: Path, number: int) -> str:
    hangs = number == HEALTHY
    driver, setting = ("slow", f"delay_seconds = {HANGS}\n") if hangs else ("directory", "")
    return (
        f'[[region]]\nid = "r{number:02}"\ndriver = "{driver}"\nquota = {{ server = 100000, ca = 100000 }}\n'
        f'[region.settings]\npath = "{place}/regions/r{number:02}"\n{setting}\n'
    )
