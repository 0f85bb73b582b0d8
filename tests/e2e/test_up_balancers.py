"""The load balancers of ``certfleet up``: three real Envoys, private, at addresses that stay."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.client import ApiClient
from services.cli.demo.serving import fingerprints
from services.cli.embedded import envoy
from shared.config.regions import Region, load_regions
from tests.support import pki
from tests.support.pki import Issued
from tests.support.places import private_directory
from tests.support.stack import RunningStack, listening_ports, logs, running_stack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGIONS = ("cn-hangzhou", "eu-central-1", "us-west-1")


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """One running stack for the tests that leave it running."""
    with private_directory() as place, running_stack(place / "state") as running:
        yield running


def test_three_envoys_answer(stack: RunningStack) -> None:
    answers = {region: json.loads(admin(stack, region, "/server_info")) for region in REGIONS}

    assert {region: answer["state"] for region, answer in answers.items()} == dict.fromkeys(REGIONS, "LIVE")
    assert {answer["node"]["id"] for answer in answers.values()} == set(REGIONS)
    assert "the load balancers answer" in stack.text()


def test_the_api_says_where_they_listen(stack: RunningStack) -> None:
    client = ApiClient(stack.connection.url, stack.connection.token)

    told = {region["id"]: region["listener_address"] for region in client.get("/v1/regions")["items"]}

    assert told == {region.id: region.listener_address for region in regions(stack).values()}
    assert len({address.rpartition(":")[2] for address in told.values()}) == len(REGIONS)


def test_nobody_is_listened_to_before_there_is_a_listener_and_the_admin_is_a_private_socket(
    stack: RunningStack,
) -> None:
    for region in regions(stack).values():
        socket = Path(str(region.settings["admin"]).removeprefix("unix:"))
        assert socket.is_socket()
        assert socket.stat().st_mode & 0o077 == 0
        assert listening_ports(stack.condition(f"envoy-{region.id}").pid) == set()


def test_the_connection_file_tells_nothing_new(stack: RunningStack) -> None:
    assert "envoy" not in stack.state.connection.read_text(encoding="utf-8")


def test_what_is_put_into_the_directory_is_served_and_served_again_after_a_kill(stack: RunningStack) -> None:
    region = regions(stack)["eu-central-1"]
    publish(region, text="hello")
    wait_until(lambda: answer_of(region) == "hello", seconds=20, otherwise=lambda: logs(stack.state.root))
    before = stack.condition("envoy-eu-central-1").pid
    assert listening_ports(before) == {port_of(region)}

    os.kill(before, signal.SIGKILL)

    wait_until(
        lambda: stack.condition("envoy-eu-central-1").pid not in (0, before) and answer_of(region) == "hello",
        seconds=30,
        otherwise=lambda: (stack.text(), logs(stack.state.root)),
    )


def test_addresses_and_what_is_served_are_the_same_after_a_restart(place: Path) -> None:
    with running_stack(place / "state") as first:
        before = regions(first)
        publish(before["us-west-1"], text="kept")
        assert first.stop() == 0
    with running_stack(place / "state") as second:
        assert regions(second) == before
        assert answer_of(before["us-west-1"]) == "kept"


def test_two_stacks_at_once_share_no_address_even_when_one_is_a_copy_of_the_other(
    stack: RunningStack, place: Path
) -> None:
    (place / "state").mkdir(mode=0o700)
    shutil.copy(stack.state.regions_file, place / "state" / "regions.toml")

    with running_stack(place / "state") as other:
        ours = {port_of(region) for region in regions(stack).values()}
        theirs = {port_of(region) for region in regions(other).values()}
        assert len(ours | theirs) == 2 * len(REGIONS)
        assert str(other.state.regions) in other.state.regions_file.read_text(encoding="utf-8")
        assert "cannot be used any more (Address already in use); choosing another" in other.text()


def test_an_older_state_directory_keeps_its_directories_until_its_file_is_taken_away(place: Path) -> None:
    state = place / "state"
    state.mkdir(mode=0o700)
    older = "\n".join(
        f'[[region]]\nid = "{name}"\ndriver = "directory"\n[region.settings]\npath = "{state}/regions/{name}"\n'
        for name in REGIONS
    )
    (state / "regions.toml").write_text(older, encoding="utf-8")

    with running_stack(state) as stack:
        issued = deploy_everywhere(stack)
        assert "load balancers" not in stack.text()
        assert (state / "regions.toml").read_text(encoding="utf-8") == older
    (state / "regions.toml").rename(place / "regions.toml")
    (state / "regions").rename(place / "regions")

    with running_stack(state, environ={"CERTFLEET_PATROL_SECONDS": "1"}) as stack:
        wait_until(
            lambda: all(issued.fingerprint_sha256 in fingerprints(state / "regions" / name) for name in REGIONS),
            seconds=30,
            otherwise=lambda: logs(state),
        )


def test_an_operators_regions_start_no_envoy(place: Path) -> None:
    file = place / "regions.toml"
    file.write_text(
        '[[region]]\nid = "a"\ndriver = "envoy"\nlistener_address = "127.0.0.1:20999"\n[region.settings]\n'
        f'path = "{place}/state/regions/a"\nadmin = "127.0.0.1:20998"\n',
        encoding="utf-8",
    )

    with running_stack(place / "state", environ={"CERTFLEET_REGIONS": str(file)}) as stack:
        assert "load balancers" not in stack.text()
        assert not stack.state.regions.exists()
        assert not stack.state.regions_file.exists()


def deploy_everywhere(stack: RunningStack) -> Issued:
    """One certificate into every region."""
    now = datetime.now(UTC)
    issued = pki.server("www.example.test", not_before=now - timedelta(days=1), not_after=now + timedelta(days=90))
    body = {"source": "third_party", "type": "server", "certificate": issued.chain_pem, "private_key": issued.key_pem}
    client = ApiClient(stack.connection.url, stack.connection.token)
    job = client.post("/v1/certificates", {**body, "regions": list(REGIONS)})["job"]["id"]
    assert client.follow(job, seconds=30, see=lambda _: None)["state"] == "succeeded"
    return issued


def regions(stack: RunningStack) -> dict[str, Region]:
    return load_regions(stack.state.regions_file)


def admin(stack: RunningStack, region: str, path: str) -> bytes:
    return envoy.ask(envoy.admin_socket(stack.state.sockets, region), path)[1]


def port_of(region: Region) -> int:
    return int(str(region.listener_address).rpartition(":")[2])


def answer_of(region: Region) -> str | None:
    """What a client without TLS is told; None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(region), timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def publish(region: Region, *, text: str) -> None:
    """Put a listener without TLS in front of the region's Envoy, as its driver puts files: whole, by rename."""
    lds = Path(region.settings["path"]) / "lds.json"
    following = lds.with_name("following")
    following.write_text(json.dumps({"version_info": "1", "resources": [listener(region, text)]}), encoding="utf-8")
    following.rename(lds)


def listener(region: Region, text: str) -> dict[str, Any]:
    types = "type.googleapis.com/envoy"
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}
    manager = {
        "@type": f"{types}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "@type": f"{types}.config.listener.v3.Listener",
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port_of(region)}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
