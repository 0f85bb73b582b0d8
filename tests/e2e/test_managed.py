"""The managed path on a running ``certfleet up``: offered from the start, ordered, deployed, renewed by one call."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from services.cli.client import ApiClient
from tests.support.places import private_directory
from tests.support.stack import RunningStack, running_stack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGIONS = ["cn-hangzhou", "eu-central-1", "us-west-1"]


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with private_directory() as place, running_stack(place / "state") as running:
        yield running


@pytest.fixture
def client(stack: RunningStack) -> ApiClient:
    return ApiClient(stack.connection.url, stack.connection.token)


def offered(client: ApiClient, q: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/v1/managed-certificates?q={q}")["items"]
    return items


def follow(client: ApiClient, job: dict[str, Any]) -> dict[str, Any]:
    return client.follow(job["id"], seconds=60, see=lambda _: None)


def test_what_is_offered_from_the_start_is_served_and_renewed_by_one_call(client: ApiClient) -> None:
    wait_until(lambda: bool(offered(client, "shop")), seconds=60, otherwise=lambda: "nothing offered")
    (offer,) = offered(client, "legacy")
    body = {"source": "managed", "type": "server", "managed_certificate_id": offer["id"], "regions": REGIONS}
    picked = client.post("/v1/certificates", body)
    assert follow(client, picked["job"])["state"] == "succeeded"
    old = picked["certificate"]["id"]
    for region in REGIONS:
        listener = {"region": region, "name": "legacy", "hosts": ["legacy.example.test"], "server_certificate_id": old}
        assert follow(client, client.post("/v1/listeners", listener)["job"])["state"] == "succeeded"
    renewal = client.post(f"/v1/certificates/{old}/renew")
    assert follow(client, renewal["job"])["state"] == "succeeded"
    new = client.get(f"/v1/certificates/{renewal['certificate']['id']}")
    assert {row["served"]["state"] for row in new["deployments"]} == {"match"}
    assert new["not_after"] > offer["not_after"]
    assert {row["state"] for row in client.get(f"/v1/certificates/{old}")["deployments"]} == {"removed"}


def test_a_certificate_is_ordered_for_any_names_on_the_command_line(stack: RunningStack, client: ApiClient) -> None:
    command = [sys.executable, "-m", "services.cli.main", "sources", "order", "local-ca", "new.example.test"]
    answer = subprocess.run(
        [*command, "--state-dir", str(stack.state.root)], capture_output=True, text=True, check=True
    )
    managed_id = answer.stdout.strip()
    assert re.fullmatch(r"local-ca:lc-[0-9a-f]{20}", managed_id)
    client.post("/v1/managed-certificates/refresh")
    wait_until(lambda: bool(offered(client, "new.example")), seconds=60, otherwise=lambda: "not listed")
    assert [item["id"] for item in offered(client, "new.example")] == [managed_id]
