"""Reads a compose file as Docker Compose would, and runs its services as plain processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from services.cli.embedded.program import leashed

ROOT: Final = Path(__file__).parents[2]
COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
COMPLETED: Final = "service_completed_successfully"
HEALTHY: Final = "service_healthy"
START_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.05

_INTERPOLATION: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the file, with everything merged and interpolated. ``health`` is the words of its check."""

    name: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """What runs: the entrypoint, then the command."""
        return (*self.raw.get("entrypoint", ()), *self.raw.get("command", ()))

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.raw.get("environment", {}).items()}

    @property
    def health(self) -> tuple[str, ...]:
        how, *words = self.raw.get("healthcheck", {}).get("test", ("NONE",))
        assert how in ("CMD", "NONE"), f"{self.name}: a health check is a list of words here"
        return tuple(words)

    @property
    def target(self) -> str | None:
        """The Dockerfile's target; ``None`` for somebody else's image."""
        return str(self.raw["build"]["target"]) if "build" in self.raw else None

    @property
    def needs(self) -> dict[str, str]:
        """Which services must be how far before this one starts."""
        return {name: need["condition"] for name, need in self.raw.get("depends_on", {}).items()}

    @property
    def grace_seconds(self) -> float:
        """Docker's default is 10 s (Compose file reference, ``stop_grace_period``)."""
        return float(str(self.raw.get("stop_grace_period", "10s")).removesuffix("s"))


def read_compose(environ: Mapping[str, str], path: Path = COMPOSE_FILE) -> dict[str, Service]:
    """The services of the file, by name; ``environ`` is what ``.env`` would say."""
    document = _interpolated(yaml.safe_load(path.read_text(encoding="utf-8")), environ)
    return {name: Service(name=name, raw=raw) for name, raw in document["services"].items()}


def in_order_of_needs(services: Mapping[str, Service]) -> list[Service]:
    """Each service after all that it needs."""
    ordered: dict[str, Service] = {}

    def visit(service: Service) -> None:
        for name in service.needs:
            visit(services[name])
        ordered.setdefault(service.name, service)

    for service in services.values():
        visit(service)
    return list(ordered.values())


def _interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, environ) for item in value]
    return _INTERPOLATION.sub(lambda found: _value_of(found, environ), value) if isinstance(value, str) else value


def _value_of(found: re.Match[str], environ: Mapping[str, str]) -> str:
    escaped, name, operator, rest = found.groups()
    if escaped:
        return "$"
    if environ.get(name):
        return environ[name]
    if operator == ":?":
        raise KeyError(f"{name}: {rest}")
    return rest or ""


@dataclass(slots=True, kw_only=True)
class Here:
    """This machine in place of containers: what each of the file's names, ports and paths is here.

    Attributes:
        words: the visible mapping, replaced wherever they occur in commands, environments and health checks.
        elsewhere: services that run already; only their health is checked.
        health: health checks whose program is not on this machine.
    """

    directory: Path
    words: Mapping[str, str]
    elsewhere: frozenset[str] = frozenset()
    health: Mapping[str, Sequence[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def translate(self, text: str) -> str:
        """One pass, so that nothing that was put in is replaced again."""
        pattern = "|".join(re.escape(word) for word in sorted(self.words, key=len, reverse=True))
        return re.sub(pattern, self._replacement, text)

    def run(self, service: Service, *arguments: str) -> str:
        """Run ``docker compose run SERVICE ARGUMENTS`` to its end and return what it printed."""
        words = (*service.raw["entrypoint"], *arguments)
        done = subprocess.run(
            [self.translate(word) for word in words],
            env=self.environment(service),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, service: Service) -> subprocess.Popen[bytes]:
        with self.log(service).open("wb") as log:
            return subprocess.Popen(
                leashed([self.translate(word) for word in service.words]),
                env=self.environment(service),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_healthy(self, service: Service) -> bool:
        words = self.health.get(service.name) or [self.translate(word) for word in service.health]
        checked = subprocess.run(
            words,
            env=self.environment(service),
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS,
            check=False,
        )
        return checked.returncode == 0

    def environment(self, service: Service) -> dict[str, str]:
        """What the file says, and what an image or Docker adds: ``PATH``, ``HOSTNAME``. Nothing of ours."""
        given = {name: self.translate(value) for name, value in service.environment.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
        return {"PATH": path, "HOSTNAME": socket.gethostname(), **given}

    def log(self, service: Service) -> Path:
        return self.directory / f"{service.name}.log"

    def _replacement(self, found: re.Match[str]) -> str:
        self.used.add(found[0])
        return self.words[found[0]]


@dataclass(slots=True, kw_only=True)
class Composition:
    """The running services, and how each one ended; ``None`` for one that had to be killed."""

    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: dict[str, int | None] = field(default_factory=dict)


@contextmanager
def composed(services: Mapping[str, Service], here: Here) -> Iterator[Composition]:
    """Start everything in the order that ``depends_on`` asks for, until all is healthy; stop it in reverse."""
    composition = Composition()
    ordered = in_order_of_needs(services)
    try:
        for service in ordered:
            for name, condition in service.needs.items():
                _wait_for(services[name], condition, composition, here)
            if service.name not in here.elsewhere:
                composition.processes[service.name] = here.start(service)
        for service in ordered:
            if service.health:
                _wait_for(service, HEALTHY, composition, here)
        yield composition
    finally:
        for service in reversed(ordered):
            if service.name in composition.processes:
                composition.ended[service.name] = _stop(composition.processes[service.name], service)


def _wait_for(service: Service, condition: str, composition: Composition, here: Here) -> None:
    deadline = time.monotonic() + START_SECONDS
    process = composition.processes.get(service.name)
    while True:
        status = process.poll() if process else None
        if condition == COMPLETED and status == 0:
            return
        assert status is None, f"{service.name} ended with {status}:\n{_tail(service, here)}"
        if condition == HEALTHY and here.is_healthy(service):
            return
        assert time.monotonic() < deadline, f"{service.name} is not {condition}:\n{_tail(service, here)}"
        time.sleep(_POLL_SECONDS)


def _tail(service: Service, here: Here) -> str:
    log = here.log(service)
    return log.read_text(errors="replace")[-4000:] if log.exists() else ""


def _stop(process: subprocess.Popen[bytes], service: Service) -> int | None:
    if process.poll() is None:
        process.send_signal(signal.Signals[service.raw.get("stop_signal", "SIGTERM")])
    try:
        return process.wait(service.grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
