"""What ``[region.settings]`` of an ``envoy`` region says, and how it is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from shared.config.regions import Region
from shared.errors import Misconfigured

DEFAULT_LOCK_TIMEOUT: Final = timedelta(seconds=10)
DEFAULT_ACK_TIMEOUT: Final = timedelta(seconds=10)

_LONGEST_TIMEOUT: Final = 3600
_KNOWN: Final = frozenset({"path", "admin", "cluster", "bind", "lock_timeout", "ack_timeout"})
_PORTS: Final = 1 << 16
_UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An IP address (or, for the admin interface, a host name) and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """The settings of one Envoy.

    Attributes:
        path: the directory that Envoy watches for ``lds.json``; created when missing. A relative one is relative to
            the working directory of the process that builds the driver, so give services an absolute one. Envoy runs
            as the worker's user (or as root): what lies there is readable by that user alone.
        admin: Envoy's admin interface: the path of a unix socket, or host and port. It has no authentication.
        bind: where Envoy listens for clients.
        cluster: the cluster of the operator's bootstrap that requests go to; ``None``: Envoy answers 200 by itself.
        lock_timeout: how long to wait for another writer.
        ack_timeout: how long Envoy may take to answer, and to acknowledge a change.
    """

    path: Path
    admin: Path | Endpoint
    bind: Endpoint
    cluster: str | None = None
    lock_timeout: timedelta = DEFAULT_LOCK_TIMEOUT
    ack_timeout: timedelta = DEFAULT_ACK_TIMEOUT


def parse_settings(region: Region) -> EnvoySettings:
    """Read a region's settings; ``bind`` is its ``listener_address`` unless given.

    Raises:
        Misconfigured: listing every problem.
    """
    settings = region.settings
    problems = [f"unknown setting {key!r}; known: {', '.join(sorted(_KNOWN))}" for key in set(settings) - _KNOWN]
    path = settings.get("path")
    if not isinstance(path, str) or not path or "\0" in path:
        problems.append("path is missing; name the directory that Envoy watches for lds.json")
    admin = _admin(settings.get("admin"))
    if admin is None:
        problems.append('admin is missing; name Envoy\'s admin interface, "unix:/path/to.sock" or "host:port"')
    bind = _address(settings.get("bind", region.listener_address))
    if bind is None:
        problems.append('bind takes "address:port" with an IP address; without it, listener_address must be one')
    cluster = settings.get("cluster")
    if cluster is not None and (not isinstance(cluster, str) or not cluster):
        problems.append("cluster takes the name of a cluster of Envoy's bootstrap")
    lock_timeout = _timeout(settings, "lock_timeout", DEFAULT_LOCK_TIMEOUT, problems=problems)
    ack_timeout = _timeout(settings, "ack_timeout", DEFAULT_ACK_TIMEOUT, problems=problems)
    if problems or admin is None or bind is None:
        raise Misconfigured(tuple(sorted(problems)))
    return EnvoySettings(
        path=Path(str(path)).absolute(),
        admin=admin,
        bind=bind,
        cluster=cluster,
        lock_timeout=lock_timeout,
        ack_timeout=ack_timeout,
    )


def _timeout(settings: Mapping[str, Any], name: str, default: timedelta, *, problems: list[str]) -> timedelta:
    seconds = settings.get(name, default.total_seconds())
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= _LONGEST_TIMEOUT:
        problems.append(f"{name} takes seconds, more than 0 and up to {_LONGEST_TIMEOUT}")
        return default
    return timedelta(seconds=seconds)


def _admin(value: Any) -> Path | Endpoint | None:
    if not isinstance(value, str) or "\0" in value:
        return None
    if value.startswith(_UNIX):
        path = Path(value.removeprefix(_UNIX))
        return path if path.is_absolute() else None
    return _endpoint(value)


def _address(value: Any) -> Endpoint | None:
    """Envoy resolves no names in a listener's address."""
    endpoint = _endpoint(value) if isinstance(value, str) else None
    try:
        return endpoint if endpoint and ipaddress.ip_address(endpoint.host) else None
    except ValueError:
        return None


def _endpoint(text: str) -> Endpoint | None:
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not is_bracketed) or not port.isdecimal() or not 0 < int(port) < _PORTS:
        return None
    return Endpoint(host=host[1:-1] if is_bracketed else host, port=int(port))
