"""What ``[region.settings]`` of a ``haproxy`` region says, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from shared.errors import Misconfigured

DEFAULT_BUFSIZE: Final = 16384
"""HAProxy's own default of ``tune.bufsize`` (configuration manual §3.2)."""
SMALLEST_BUFSIZE: Final = 8192
LARGEST_BUFSIZE: Final = 1 << 24
DEFAULT_LOCK_TIMEOUT: Final = timedelta(seconds=10)
DEFAULT_TIMEOUT: Final = timedelta(seconds=5)

_LONGEST_TIMEOUT: Final = 3600
_KNOWN: Final = frozenset({"socket", "path", "crt_list", "bufsize", "lock_timeout", "timeout"})
_SAFE_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{1,199}")
"""Paths stand in commands, which end at a space, a ``;`` or a line's end; and they count against the buffer."""
_UNIX: Final = "unix:"
_PORTS: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HaproxySettings:
    """The settings of one HAProxy.

    Attributes:
        socket: its Runtime API (``stats socket … level admin``): a unix socket's path, or host and port.
        path: the directory for what HAProxy reads at its start, under the same path for both. The private keys there
            are readable by the worker's user alone: HAProxy starts as that user, or as root.
        crt_list: the file that the bind line names, spelled exactly as there.
        bufsize: its ``tune.bufsize``, bytes; no command is longer (and the size of a certificate or CA file with it).
        lock_timeout: how long to wait for another writer.
        timeout: how long one command may take.
    """

    socket: Path | tuple[str, int]
    path: Path
    crt_list: Path
    bufsize: int = DEFAULT_BUFSIZE
    lock_timeout: timedelta = DEFAULT_LOCK_TIMEOUT
    timeout: timedelta = DEFAULT_TIMEOUT


def parse_settings(settings: Mapping[str, Any]) -> HaproxySettings:
    """Read ``[region.settings]`` of a ``haproxy`` region.

    Raises:
        Misconfigured: listing every problem.
    """
    problems = [f"unknown setting {key!r}; known: {', '.join(sorted(_KNOWN))}" for key in set(settings) - _KNOWN]
    socket = _socket(settings.get("socket"))
    if socket is None:
        problems.append('socket is missing; name HAProxy\'s Runtime API, "unix:/path/to.sock" or "host:port"')
    path = _path(settings, "path", default=None, problems=problems)
    crt_list = _path(settings, "crt_list", default=path / "crt-list" if path else Path(), problems=problems)
    bufsize = settings.get("bufsize", DEFAULT_BUFSIZE)
    if not isinstance(bufsize, int) or not SMALLEST_BUFSIZE <= bufsize <= LARGEST_BUFSIZE:
        problems.append(f"bufsize takes HAProxy's tune.bufsize, {SMALLEST_BUFSIZE} to {LARGEST_BUFSIZE} bytes")
    lock_timeout = _timeout(settings, "lock_timeout", DEFAULT_LOCK_TIMEOUT, problems=problems)
    timeout = _timeout(settings, "timeout", DEFAULT_TIMEOUT, problems=problems)
    if problems or socket is None or path is None or crt_list is None:
        raise Misconfigured(tuple(sorted(problems)))
    return HaproxySettings(
        socket=socket,
        path=path,
        crt_list=crt_list,
        bufsize=bufsize,
        lock_timeout=lock_timeout,
        timeout=timeout,
    )


def _path(settings: Mapping[str, Any], name: str, *, default: Path | None, problems: list[str]) -> Path | None:
    value = settings.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, str) and _SAFE_PATH.fullmatch(value):
        return Path(value)
    problems.append(f"{name} takes an absolute path of letters, digits and . _ / -, as HAProxy itself sees it")
    return None


def _timeout(settings: Mapping[str, Any], name: str, default: timedelta, *, problems: list[str]) -> timedelta:
    seconds = settings.get(name, default.total_seconds())
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= _LONGEST_TIMEOUT:
        problems.append(f"{name} takes seconds, more than 0 and up to {_LONGEST_TIMEOUT}")
        return default
    return timedelta(seconds=seconds)


def _socket(value: Any) -> Path | tuple[str, int] | None:
    if not isinstance(value, str) or "\0" in value:
        return None
    if value.startswith(_UNIX):
        path = Path(value.removeprefix(_UNIX))
        return path if path.is_absolute() else None
    host, _, port = value.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not is_bracketed) or not port.isdecimal() or not 0 < int(port) < _PORTS:
        return None
    return (host[1:-1] if is_bracketed else host, int(port))
