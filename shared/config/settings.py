"""One frozen ``Settings``, built once from the environment at each entry point."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from shared.config.regions import Region, load_regions
from shared.config.sources import CertificateService, load_sources
from shared.errors import Misconfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WEBHOOK_RETRY_SCHEDULE: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between attempts after the first, immediate one; Standard Webhooks 1.0.0, "Deliverability"."""

WEBHOOK_DISABLE_AFTER: Final = timedelta(days=5)
"""Of nothing but failures; what Svix does by default."""

REMINDER_THRESHOLDS: Final = (60, 30, 15, 7, 3, 1, 0)
"""Days before expiry. "Expired" is a threshold of its own, after these."""


MOST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set from outside; see ``docs/configuration.md``."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    kek_file: Path
    regions: dict[str, Region] = field(repr=False)
    sources: dict[str, CertificateService] = field(default_factory=dict, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str = "certfleet@localhost"
    public_url: str = "http://127.0.0.1:8080"
    log_level: str = "INFO"
    webhook_allowed_networks: tuple[Network, ...] = ()
    webhook_retry_schedule: tuple[timedelta, ...] = tuple(timedelta(seconds=s) for s in WEBHOOK_RETRY_SCHEDULE)
    webhook_timeout: timedelta = timedelta(seconds=15)
    webhook_disable_after: timedelta = WEBHOOK_DISABLE_AFTER
    webhook_at_once: int = 4
    webhook_rest: timedelta = timedelta(seconds=60)
    webhook_trial_threads: int = 4
    lease: timedelta = timedelta(seconds=60)
    sweep_every: timedelta = timedelta(seconds=5)
    reminders_every: timedelta = timedelta(minutes=10)
    patrol_every: timedelta = timedelta(seconds=60)
    sources_every: timedelta = timedelta(minutes=5)
    retention_every: timedelta = timedelta(hours=1)
    keep_events: timedelta = timedelta(days=90)
    keep_attempts: timedelta = timedelta(days=30)
    database_pool: int = 20


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read ``CERTFLEET_*``, ``DATABASE_URL``, ``REDIS_URL`` and ``SMTP_URL``.

    Raises:
        Misconfigured: listing every problem at once.
    """
    reader = _Reader(environ)
    settings = Settings(
        database_url=reader.required("DATABASE_URL", "postgresql://user:password@host/certfleet"),
        redis_url=reader.required("REDIS_URL", "redis://host:6379/0"),
        kek_file=Path(reader.required("CERTFLEET_KEK_FILE", "/etc/certfleet/keks.json")),
        regions=reader.regions("CERTFLEET_REGIONS"),
        sources=reader.sources("CERTFLEET_SOURCES"),
        **reader.given(_OPTIONAL),
    )
    if reader.problems:
        raise Misconfigured(tuple(reader.problems))
    return settings


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def required(self, name: str, example: str) -> str:
        value = self.environ.get(name, "")
        if not value:
            self.problems.append(f"{name} is not set; for example {name}={example}.")
        return value

    def regions(self, name: str) -> dict[str, Region]:
        text = self.environ.get(name)
        if text is None:
            self.problems.append(f"{name} is not set; point it at the regions file (TOML).")
            return {}
        try:
            return load_regions(Path(text))
        except Misconfigured as error:
            self.problems.extend(error.problems)
            return {}

    def sources(self, name: str) -> dict[str, CertificateService]:
        """None are needed: everything can be uploaded."""
        text = self.environ.get(name)
        if not text:
            return {}
        try:
            return load_sources(Path(text))
        except Misconfigured as error:
            self.problems.extend(error.problems)
            return {}

    def given(self, optional: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
        """What is set, parsed; what is not set keeps the default of ``Settings``."""
        found: dict[str, Any] = {}
        for field_name, (name, parse) in optional.items():
            if name not in self.environ:
                continue
            try:
                found[field_name] = parse(self.environ[name])
            except ValueError as error:
                self.problems.append(f"{name}: {error}.")
        return found


def _log_level(text: str) -> str:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if text.upper() not in levels:
        raise ValueError(f"takes one of {', '.join(levels)}")
    return text.upper()


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _schedule(text: str) -> tuple[timedelta, ...]:
    return tuple(_seconds(part) for part in text.split(",") if part.strip())


def _seconds(text: str) -> timedelta:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 10**9:
        raise ValueError(f"takes seconds, a number above 0, not {text!r}")
    return timedelta(seconds=value)


def _days(text: str) -> timedelta:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MOST_DAYS:
        raise ValueError(f"takes days, a number above 0 up to {MOST_DAYS}, not {text!r}")
    return timedelta(days=value)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"takes a whole number from 1, not {text!r}")
    return int(text)


_OPTIONAL: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "smtp_url": ("SMTP_URL", lambda text: text or None),
    "mail_from": ("CERTFLEET_MAIL_FROM", str),
    "public_url": ("CERTFLEET_PUBLIC_URL", lambda text: text.rstrip("/")),
    "log_level": ("CERTFLEET_LOG_LEVEL", _log_level),
    "webhook_allowed_networks": ("CERTFLEET_WEBHOOK_ALLOWED_NETWORKS", _networks),
    "webhook_retry_schedule": ("CERTFLEET_WEBHOOK_RETRY_SCHEDULE", _schedule),
    "webhook_timeout": ("CERTFLEET_WEBHOOK_TIMEOUT_SECONDS", _seconds),
    "webhook_disable_after": ("CERTFLEET_WEBHOOK_DISABLE_AFTER_SECONDS", _seconds),
    "webhook_at_once": ("CERTFLEET_WEBHOOK_AT_ONCE", _positive),
    "webhook_rest": ("CERTFLEET_WEBHOOK_REST_SECONDS", _seconds),
    "webhook_trial_threads": ("CERTFLEET_WEBHOOK_TRIAL_THREADS", _positive),
    "lease": ("CERTFLEET_LEASE_SECONDS", _seconds),
    "sweep_every": ("CERTFLEET_SWEEP_SECONDS", _seconds),
    "reminders_every": ("CERTFLEET_REMINDERS_SECONDS", _seconds),
    "patrol_every": ("CERTFLEET_PATROL_SECONDS", _seconds),
    "sources_every": ("CERTFLEET_SOURCES_SECONDS", _seconds),
    "retention_every": ("CERTFLEET_RETENTION_SECONDS", _seconds),
    "keep_events": ("CERTFLEET_KEEP_EVENTS_DAYS", _days),
    "keep_attempts": ("CERTFLEET_KEEP_ATTEMPTS_DAYS", _days),
    "database_pool": ("CERTFLEET_DATABASE_POOL", _positive),
}
"""Field of :class:`Settings` to the variable that sets it and how its text is read."""
