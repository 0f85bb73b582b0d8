"""Envoy's admin interface: what it acknowledges, why it refuses, and which certificates it really holds."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from services.worker.drivers.envoy_lds import LISTENER, Json
from services.worker.drivers.envoy_settings import Endpoint
from shared.errors import Unreachable, Unsupported

OLDEST: Final = (1, 28)
"""The first Envoy with every field that ``envoy_lds`` writes. An older one takes a file with a field that it does not
know for unreadable, and prints it whole, keys included, to its own log. Measured with 1.40."""

_PREFIX: Final = "listener_manager.lds."
_STATS: Final = f"/stats?filter={quote('^listener_manager[.]lds[.]')}&format=json"
_DUMP: Final = "/config_dump?resource=dynamic_listeners"
_OK: Final = 200
_MOST_BYTES: Final = 256 << 20
_PIECE: Final = 1 << 16
_LONGEST_REASON: Final = 300
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05


class Verdict(Enum):
    """What Envoy made of a file."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Read, and not taken; what was served before is served on."""
    UNREADABLE = "unreadable"
    """Not readable, or not JSON of this Envoy's kind; what was served before is served on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Envoy's counters of the file: how often it was accepted, refused or unreadable; the last accepted version."""

    version: str
    accepted: int
    refused: int
    unreadable: int

    def verdict_since(self, before: Status, version: str) -> Verdict | None:
        """What became of ``version``, offered at ``before``; ``None``: nothing yet.

        A restart sets the counters to zero; then only the version counts.
        """
        if self.version == version and (before.version != version or self.accepted > before.accepted):
            return Verdict.ACCEPTED
        if self.refused > before.refused:
            return Verdict.REFUSED
        return Verdict.UNREADABLE if self.unreadable > before.unreadable else None


class Admin:
    """One Envoy's admin interface. Reads only; keeps no connection open.

    Every method raises ``Unreachable`` when there is no answer within ``timeout``, or none that can be read.
    """

    def __init__(self, address: Path | Endpoint, *, timeout: timedelta) -> None:
        self._address = address
        self._timeout = timeout.total_seconds()

    def check_release(self) -> None:
        """Look whether this Envoy knows every field that we write.

        Raises:
            Unsupported: it is too old.
        """
        release = str(self._json("/server_info").get("version", ""))
        found = re.search(r"/(\d+)\.(\d+)\.", release)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise Unsupported(f"This Envoy is older than {oldest}.", hint=f"Run Envoy {oldest} or newer.")

    def status(self) -> Status:
        """The counters as they stand."""
        entries = _tables(self._json(_STATS).get("stats"))
        values: dict[str, Any] = {
            str(one["name"]).removeprefix(_PREFIX): one.get("value") for one in entries if "name" in one
        }
        try:
            return Status(
                version=str(values["version_text"]),
                accepted=int(values["update_success"]),
                refused=int(values["update_rejected"]),
                unreadable=int(values["update_failure"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Unreachable(
                f"The admin interface at {self._name} has no counters of lds.json.",
                hint="Give Envoy's bootstrap dynamic_resources.lds_config with the path of lds.json.",
            ) from error

    def wait_for_verdict(self, version: str, *, before: Status) -> Verdict | None:
        """Ask until Envoy has judged ``version``; ``None``: not within the timeout, or Envoy is away."""
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            verdict = self._try_verdict(version, before)
            left = deadline - time.monotonic()
            if verdict is not None or left <= 0:
                return verdict
            time.sleep(min(left, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _try_verdict(self, version: str, before: Status) -> Verdict | None:
        try:
            return self.status().verdict_since(before, version)
        except Unreachable:
            return None

    def listeners(self) -> list[Json]:
        """The listeners that Envoy serves now, as in its configuration; private keys are left out by it.

        Those that it was given and that are not ours count, too.
        """
        return [_table(_table(one.get("active_state")).get("listener")) for one in self._listeners()]

    def reason(self) -> str:
        """Why it refused the last file, in its own words; short, in one line, never with PEM in it."""
        states = [_table(one["error_state"]) for one in self._listeners() if "error_state" in one]
        details = next((str(one["details"]) for one in states if one.get("details")), "no reason given")
        cut = " ".join(details.partition("-----")[0].split())
        return cut[:_LONGEST_REASON]

    def _listeners(self) -> list[Json]:
        entries = _tables(self._json(_DUMP).get("configs"))
        return sorted(entries, key=lambda one: one.get("name") != LISTENER)

    def _json(self, path: str) -> Json:
        try:
            return _table(json.loads(self._get(path)))
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            raise Unreachable(
                f"Envoy's admin interface at {self._name} does not answer ({type(error).__name__}).",
                hint="Start Envoy, and compare the region's setting admin with its bootstrap.",
            ) from error

    def _get(self, path: str) -> bytes:
        deadline = time.monotonic() + self._timeout
        with closing(_connection(self._address, self._timeout)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            content = bytearray()
            while piece := response.read1(_PIECE):
                content += piece
                if len(content) > _MOST_BYTES or time.monotonic() > deadline:
                    raise TimeoutError("the answer does not end")
        if response.status != _OK:
            raise ValueError(f"HTTP {response.status}")
        return bytes(content)

    @property
    def _name(self) -> str:
        return str(self._address) if isinstance(self._address, Path) else f"{self._address.host}:{self._address.port}"


def _table(value: Any) -> Json:
    """An object; anything else that is said in its place tells us nothing."""
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _connection(address: Path | Endpoint, timeout: float) -> HTTPConnection:
    if isinstance(address, Path):
        return _UnixConnection(address, timeout)
    return HTTPConnection(address.host, address.port, timeout=timeout)
