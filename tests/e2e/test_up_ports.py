"""Which addresses the load balancers of ``certfleet up`` get, and what happens when one is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli.embedded.envoy import find_balancers
from services.cli.embedded.layout import StateDir, prepare
from services.cli.embedded.ports import FIRST, Ports
from services.cli.embedded.regions import is_ours, keep_regions_file
from shared.config.regions import Region, load_regions
from shared.errors import Misconfigured

pytestmark = pytest.mark.e2e


def test_the_same_state_directory_gets_the_same_ports_again_after_its_file_is_gone(place: Path) -> None:
    first = started(place)
    (place / "state" / "regions.toml").unlink()

    assert started(place) == first


def test_ports_are_out_of_the_way_of_outgoing_connections(place: Path) -> None:
    ports = {port_of(region) for region in started(place).values()}

    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert len(ports) == 3
    assert all(FIRST <= port < lowest for port in ports)


def test_a_port_that_serves_nothing_yet_and_is_taken_is_exchanged_and_said(place: Path) -> None:
    before = started(place)
    said: list[str] = []

    with listening(port_of(before["eu-central-1"])):
        after = started(place, said=said)

    changed = [region for region in before if port_of(before[region]) != port_of(after[region])]
    assert changed == ["eu-central-1"]
    gone = port_of(before["eu-central-1"])
    assert said == [f"Port {gone} of eu-central-1 cannot be used any more (Address already in use); choosing another"]


def test_a_port_that_clients_know_is_never_exchanged(place: Path) -> None:
    before = started(place)
    port = port_of(before["eu-central-1"])
    give_a_listener(place, "eu-central-1")

    with listening(port), pytest.raises(Misconfigured) as refused:
        started(place)

    (problem,) = refused.value.problems
    assert problem.startswith(f"Region 'eu-central-1' in {place}/state/regions.toml: 127.0.0.1:{port} cannot be used (")
    assert problem.endswith("(Address already in use); free that port, or change listener_address there.")
    assert started(place) == before


def test_a_file_that_somebody_changed_is_only_read(place: Path) -> None:
    port = port_of(started(place)["us-west-1"])
    file = place / "state" / "regions.toml"
    theirs = file.read_text(encoding="utf-8").replace("US (Silicon Valley)", "Home")
    file.write_text(theirs, encoding="utf-8")

    with listening(port), pytest.raises(Misconfigured, match=f"127.0.0.1:{port} cannot be used"):
        started(place)

    assert file.read_text(encoding="utf-8") == theirs
    assert not is_ours(theirs)
    assert started(place)["us-west-1"].name == "Home"


def test_a_moved_state_directory_takes_its_regions_along(place: Path) -> None:
    before = started(place)
    (place / "state").rename(place / "moved")

    after = started(place, name="moved")

    assert {region.settings["path"] for region in after.values()} == {f"{place}/moved/regions/{name}" for name in after}
    assert [port_of(region) for region in after.values()] == [port_of(region) for region in before.values()]


@pytest.mark.parametrize("theirs", ['admin = "127.0.0.1:9901"', 'admin = "unix:/elsewhere/admin.sock"'])
def test_an_admin_interface_that_others_reach_is_refused(place: Path, theirs: str) -> None:
    started(place)
    file = place / "state" / "regions.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(theirs if line.startswith("admin") else line for line in lines), encoding="utf-8")

    with pytest.raises(Misconfigured) as refused:
        started(place)

    assert len(refused.value.problems) == 3
    assert 'its Envoy is started here, so admin must be "unix:' in refused.value.problems[0]


def test_two_regions_at_one_port_are_refused(place: Path) -> None:
    regions = started(place)
    file = place / "state" / "regions.toml"
    first, second = (regions[name].listener_address or "" for name in ("cn-hangzhou", "us-west-1"))
    file.write_text(file.read_text(encoding="utf-8").replace(second, first), encoding="utf-8")

    with pytest.raises(Misconfigured, match=r"Region 'us-west-1' .* cannot be used"):
        started(place)


def test_the_apis_port_is_no_balancers(place: Path) -> None:
    ours = port_of(started(place)["cn-hangzhou"])

    assert port_of(started(place, api=ours)["cn-hangzhou"]) != ours


def started(place: Path, *, name: str = "state", api: int = 0, said: list[str] | None = None) -> dict[str, Region]:
    """What a start does with the regions file, up to where programs would run."""
    state = prepare(place / name)
    with Ports(api=api) as ports:
        keep_regions_file(state, sockets=state.sockets, ports=ports, say=(said if said is not None else []).append)
        regions = load_regions(state.regions_file)
        assert len(find_balancers(regions, state=state, sockets=state.sockets, ports=ports)) == 3
    return regions


def port_of(region: Region) -> int:
    return int(str(region.listener_address).rpartition(":")[2])


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Another program's server."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def give_a_listener(place: Path, region: str) -> None:
    state = StateDir(root=place / "state", sockets=place)
    (state.regions / region).mkdir(parents=True)
    (state.regions / region / "lds.json").write_text('{"resources": [{"name": "certfleet"}]}', encoding="ascii")
