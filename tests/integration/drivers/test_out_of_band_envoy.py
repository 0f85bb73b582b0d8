"""A real Envoy changed by hand: noticed within one patrol, named, told once; put right where the region wants that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.worker.probe import TlsProber
from shared.domain.listeners import ListenerState
from shared.domain.served import Client
from tests.support.envoy import EnvoyProcess, free_port, running_envoy
from tests.support.listeners import listener_of
from tests.support.patrols import (
    RealFleet,
    after_a_period,
    bound,
    build_real_fleet,
    deployment_of,
    foreign_material,
    go_round,
    told,
    told_messages,
)
from tests.support.stack import wait_until

SHOP, API = "shop.example.com", "api.example.com"
REGION = "local"

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One Envoy with two listeners of a fleet, and an operator who edits its file."""

    envoy: EnvoyProcess
    fleet: RealFleet
    shop_id: str
    api_id: str
    listener_id: str

    def expected(self, certificate_id: str) -> str:
        return str(self.fleet.certificate(certificate_id).fingerprint_sha256)

    def shown(self, host: str = SHOP) -> str | None:
        seen = TlsProber().handshake(self.envoy.address, host=host, client=Client.ANONYMOUS)
        return seen.chain[0] if seen.chain else None

    def drift(self, certificate_id: str) -> dict[str, Any]:
        return dict(deployment_of(self.fleet, certificate_id, REGION).drift or {})

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """By hand, as an editor does it: another file in its place; waits until Envoy has taken it."""
        document = json.loads(self.lds.read_bytes())
        change(document)
        document["version_info"] = "by hand"
        self.write(json.dumps(document))
        self.wait_for("version_text", "by hand")

    def write(self, text: str) -> None:
        edited = self.lds.with_name("edited")
        edited.write_text(text)
        edited.replace(self.lds)

    def wait_for(self, name: str, value: str) -> None:
        page = f"/stats?filter={name}"
        wait_until(lambda: value in self.envoy.get(page), seconds=20, otherwise=self.envoy.log)

    @property
    def lds(self) -> Path:
        return self.envoy.directory / "lds.json"


@pytest.fixture(params=[False, True], ids=["told-only", "repaired"])
def world(request: pytest.FixtureRequest, database_url: str, place: Path, tmp_path: Path) -> Iterator[World]:
    with running_envoy(place) as envoy:
        fleet = build_real_fleet(database_url, tmp_path, envoy.region(REGION, repair=request.param))
        shop_id, listener_id = bound(fleet, SHOP, REGION)
        api_id, _ = bound(fleet, API, REGION)
        yield World(envoy=envoy, fleet=fleet, shop_id=shop_id, api_id=api_id, listener_id=listener_id)
        fleet.context.database.close()


@pytest.fixture
def is_repaired(world: World) -> bool:
    return world.fleet.context.settings.regions[REGION].repair


def chain_of(document: dict[str, Any], host: str) -> dict[str, Any]:
    (found,) = [
        chain
        for chain in document["resources"][0]["filter_chains"]
        if host in chain["filter_chain_match"]["server_names"]
    ]
    return dict(found)


def is_as_deployed(world: World) -> bool:
    """Served, and nothing is held against it."""
    matches = world.shown() == world.expected(world.shop_id) and world.shown(API) == world.expected(world.api_id)
    return matches and not world.drift(world.shop_id) and not world.drift(world.api_id)


def test_another_pair_is_named_by_fingerprint(world: World, is_repaired: bool) -> None:  # noqa: FBT001 - a fixture
    stranger = foreign_material(SHOP)

    def swap(document: dict[str, Any]) -> None:
        (pair,) = chain_of(document, SHOP)["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
        pair["certificate_chain"]["inline_string"] = stranger.certificate_pem
        pair["private_key"]["inline_string"] = stranger.private_key_pem

    world.edit(swap)
    assert world.shown() == stranger.fingerprint_sha256

    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "served_mismatch")]
    (message,) = told_messages(world.fleet)
    assert stranger.fingerprint_sha256 in message
    assert world.expected(world.shop_id) in message
    if is_repaired:
        go_round(world.fleet, 2)
        assert told(world.fleet) == [("drifted", "served_mismatch"), ("recovered", None)]
        assert is_as_deployed(world)
        return
    balancer = world.drift(world.shop_id)["witnesses"]["balancer"]
    assert stranger.fingerprint_sha256 in balancer["message"]
    assert world.expected(world.shop_id) in balancer["message"]
    go_round(world.fleet, 2)
    assert world.shown() == stranger.fingerprint_sha256
    assert told(world.fleet) == [("drifted", "served_mismatch")]


def test_another_port_is_named(world: World, is_repaired: bool) -> None:  # noqa: FBT001 - a fixture
    port = free_port()

    def move(document: dict[str, Any]) -> None:
        document["resources"][0]["address"]["socket_address"]["port_value"] = port

    world.edit(move)
    wait_until(lambda: world.shown() is None, seconds=20, otherwise=world.envoy.log)
    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "unreachable")] * 2
    drift = world.drift(world.shop_id)
    message = drift["witnesses"]["balancer"]["message"]
    assert f"listens for it at 127.0.0.1:{port}, not at {world.envoy.address}" in message
    if is_repaired:
        go_round(world.fleet, 2)
        assert sorted(told(world.fleet)) == sorted([("drifted", "unreachable"), ("recovered", None)] * 2)
        assert is_as_deployed(world)
        return
    go_round(world.fleet, 2)
    assert told(world.fleet) == [("drifted", "unreachable")] * 2
    assert world.shown() is None
    assert listener_of(world.fleet, world.listener_id).state == ListenerState.BOUND


def test_a_removed_listener_is_named_and_no_other(world: World, is_repaired: bool) -> None:  # noqa: FBT001 - a fixture
    def remove(document: dict[str, Any]) -> None:
        document["resources"][0]["filter_chains"] = [chain_of(document, API)]

    world.edit(remove)
    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "served_mismatch")]
    assert f"Listener '{SHOP}'" in told_messages(world.fleet)[0]
    assert world.drift(world.api_id) == {}
    if is_repaired:
        go_round(world.fleet, 2)
        assert told(world.fleet) == [("drifted", "served_mismatch"), ("recovered", None)]
        assert is_as_deployed(world)
        return
    assert "Envoy does not serve it." in world.drift(world.shop_id)["witnesses"]["balancer"]["message"]
    go_round(world.fleet, 2)
    assert (world.shown(), told(world.fleet)) == (None, [("drifted", "served_mismatch")])


def test_a_truncated_file_is_named_before_a_restart_loses_what_is_served(
    world: World,
    is_repaired: bool,  # noqa: FBT001 - a fixture
) -> None:
    whole = world.lds.read_text()
    world.write(whole[: len(whole) // 2])
    world.wait_for("listener_manager.lds.update_failure", ": 1")
    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "missing")] * 2
    assert all("a restart of Envoy would lose it" in message for message in told_messages(world.fleet))
    assert world.shown() == world.expected(world.shop_id)
    assert "PRIVATE KEY" not in world.envoy.log()
    go_round(world.fleet, 2)
    if is_repaired:
        assert sorted(told(world.fleet)) == sorted([("drifted", "missing"), ("recovered", None)] * 2)
        world.envoy.restart()
        assert is_as_deployed(world)
        return
    assert told(world.fleet) == [("drifted", "missing")] * 2
    assert world.lds.read_text() == whole[: len(whole) // 2]


def test_a_damaged_object_and_an_edited_file_keep_nobody_else_from_being_bound(world: World) -> None:
    (damaged,) = [one for one in world.envoy.directory.glob("objects/*/*.pem") if world.shop_id in one.name]
    damaged.write_text("not what was staged")
    world.edit(lambda document: document["resources"][0].update(stat_prefix="edited"))

    bound(world.fleet, "third.example.com", REGION)

    assert world.shown("third.example.com") is not None
    assert world.shown() == world.expected(world.shop_id)
