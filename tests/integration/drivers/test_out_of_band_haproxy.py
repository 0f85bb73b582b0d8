"""A real HAProxy changed by hand on its disk and in its lists: noticed by one patrol, named, put right if wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.worker.probe import TlsProber
from shared.domain.served import Client
from tests.support.haproxy import HaproxyProcess, running_haproxy
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

SHOP, API = "shop.example.com", "api.example.com"
REGION = "local"

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One HAProxy with two listeners of a fleet."""

    haproxy: HaproxyProcess
    fleet: RealFleet
    shop_id: str
    api_id: str

    def expected(self, certificate_id: str) -> str:
        return str(self.fleet.certificate(certificate_id).fingerprint_sha256)

    def shown(self, host: str = SHOP) -> str | None:
        seen = TlsProber().handshake(self.haproxy.address, host=host, client=Client.ANONYMOUS)
        return seen.chain[0] if seen.chain else None

    def drift(self, certificate_id: str) -> dict[str, Any]:
        return dict(deployment_of(self.fleet, certificate_id, REGION).drift or {})

    def pem(self) -> Path:
        """The file of the shop's certificate."""
        (found,) = [Path(path) for path in self.haproxy.held() if self.shop_id in path]
        return found

    def forget_in_file(self) -> None:
        """Take the shop's line out of the list that HAProxy starts from."""
        lines = self.haproxy.crt_list.read_text().splitlines(keepends=True)
        kept = [line for line in lines if SHOP not in line.split()]
        assert len(kept) < len(lines)
        self.haproxy.crt_list.write_text("".join(kept))

    def forget_at_runtime(self) -> None:
        assert "deleted" in self.haproxy.command(f"del ssl crt-list {self.haproxy.crt_list} {self.pem()}")


@pytest.fixture(params=[False, True], ids=["told-only", "repaired"])
def world(request: pytest.FixtureRequest, database_url: str, place: Path, tmp_path: Path) -> Iterator[World]:
    with running_haproxy(place) as haproxy:
        fleet = build_real_fleet(database_url, tmp_path, haproxy.region(REGION, repair=request.param))
        shop_id, _ = bound(fleet, SHOP, REGION)
        api_id, _ = bound(fleet, API, REGION)
        yield World(haproxy=haproxy, fleet=fleet, shop_id=shop_id, api_id=api_id)
        fleet.context.database.close()


@pytest.fixture
def is_repaired(world: World) -> bool:
    return world.fleet.context.settings.regions[REGION].repair


def assert_put_right(world: World, code: str) -> None:
    """Told once, recovered once, served as deployed, also after a restart, and nothing of the other was told."""
    world.fleet.run()
    go_round(world.fleet, 2)
    assert told(world.fleet) == [("drifted", code), ("recovered", None)]
    world.haproxy.restart()
    assert (world.shown(), world.shown(API)) == (world.expected(world.shop_id), world.expected(world.api_id))
    assert (world.drift(world.shop_id), world.drift(world.api_id)) == ({}, {})


def assert_left_alone(world: World, code: str, shown: str | None) -> None:
    go_round(world.fleet, 2)
    assert told(world.fleet) == [("drifted", code)]
    assert (world.shown(), world.shown(API)) == (shown, world.expected(world.api_id))
    assert world.drift(world.shop_id)["code"] == code


def test_a_pair_swapped_on_the_disk_and_loaded_anew_is_named_by_fingerprint(
    world: World,
    is_repaired: bool,  # noqa: FBT001 - a fixture
) -> None:
    stranger = foreign_material(SHOP)
    world.pem().write_text(f"{stranger.certificate_pem}{stranger.private_key_pem}")
    world.haproxy.restart()
    assert world.shown() == stranger.fingerprint_sha256

    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "served_mismatch")]
    (message,) = told_messages(world.fleet)
    assert stranger.fingerprint_sha256 in message
    assert world.expected(world.shop_id) in message
    assert world.drift(world.api_id) == {}
    if is_repaired:
        assert_put_right(world, "served_mismatch")
    else:
        assert_left_alone(world, "served_mismatch", stranger.fingerprint_sha256)


def test_a_pair_swapped_on_the_disk_is_named_before_a_restart_serves_it(
    world: World,
    is_repaired: bool,  # noqa: FBT001 - a fixture
) -> None:
    stranger = foreign_material(SHOP)
    world.pem().write_text(f"{stranger.certificate_pem}{stranger.private_key_pem}")

    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", "altered")]
    assert world.expected(world.shop_id) in told_messages(world.fleet)[0]
    if is_repaired:
        assert_put_right(world, "altered")
    else:
        assert_left_alone(world, "altered", world.expected(world.shop_id))


@pytest.mark.parametrize("where", ["running", "file", "both"])
def test_a_line_taken_out_of_the_list_is_named(
    world: World,
    is_repaired: bool,  # noqa: FBT001 - a fixture
    where: str,
) -> None:
    if where != "file":
        world.forget_at_runtime()
    if where != "running":
        world.forget_in_file()
    is_served = where == "file"
    code = "missing" if is_served else "served_mismatch"
    assert (world.shown() is not None) == is_served

    after_a_period(world.fleet)

    assert told(world.fleet) == [("drifted", code)]
    assert f"Listener '{SHOP}'" in told_messages(world.fleet)[0]
    assert world.drift(world.shop_id)["witnesses"].get("balancer", {}).get("code", "missing") == "missing"
    if is_repaired:
        assert_put_right(world, code)
    else:
        assert_left_alone(world, code, world.expected(world.shop_id) if is_served else None)
