"""Settings from the environment: what is not set has one default, and all that is wrong is said at once."""

from __future__ import annotations

import dataclasses
import ipaddress
from datetime import timedelta
from pathlib import Path

import pytest

from shared.config.settings import Settings, load_settings
from shared.errors import Misconfigured

pytestmark = pytest.mark.unit


def environment(place: Path, **overrides: str) -> dict[str, str]:
    """The least that is needed."""
    regions = place / "regions.toml"
    regions.write_text('[[region]]\nid = "here"\ndriver = "directory"\n', encoding="utf-8")
    needed = {"DATABASE_URL": "postgresql://host/name", "REDIS_URL": "redis://host", "CERTFLEET_KEK_FILE": "keks.json"}
    return {**needed, "CERTFLEET_REGIONS": str(regions), **overrides}


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as refused:
        load_settings(environ)
    return refused.value.problems


def test_what_is_not_set_keeps_its_default(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path))

    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    needed = {"database_url", "redis_url", "kek_file", "regions", "sources"}
    assert {name: getattr(settings, name) for name in defaults.keys() - needed} == {
        name: default for name, default in defaults.items() if name not in needed
    }
    assert set(settings.regions) == {"here"}
    assert settings.sources == {}


def test_every_variable_is_read(tmp_path: Path) -> None:
    given = {
        "SMTP_URL": "smtp://mail",
        "CERTFLEET_MAIL_FROM": "tls@example.com",
        "CERTFLEET_PUBLIC_URL": "https://certfleet.example.com/",
        "CERTFLEET_LOG_LEVEL": "debug",
        "CERTFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8, ::1/128",
        "CERTFLEET_WEBHOOK_RETRY_SCHEDULE": "1,2.5",
        "CERTFLEET_WEBHOOK_TIMEOUT_SECONDS": "3",
        "CERTFLEET_LEASE_SECONDS": "4",
        "CERTFLEET_SWEEP_SECONDS": "0.5",
        "CERTFLEET_REMINDERS_SECONDS": "6",
        "CERTFLEET_PATROL_SECONDS": "9",
        "CERTFLEET_SOURCES_SECONDS": "11",
        "CERTFLEET_RETENTION_SECONDS": "13",
        "CERTFLEET_KEEP_EVENTS_DAYS": "2.5",
        "CERTFLEET_KEEP_ATTEMPTS_DAYS": "1",
        "CERTFLEET_DATABASE_POOL": "7",
    }

    settings = load_settings(environment(tmp_path, **given))

    assert settings == Settings(
        database_url="postgresql://host/name",
        redis_url="redis://host",
        kek_file=Path("keks.json"),
        regions=settings.regions,
        smtp_url="smtp://mail",
        mail_from="tls@example.com",
        public_url="https://certfleet.example.com",
        log_level="DEBUG",
        webhook_allowed_networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        webhook_retry_schedule=(timedelta(seconds=1), timedelta(seconds=2.5)),
        webhook_timeout=timedelta(seconds=3),
        lease=timedelta(seconds=4),
        sweep_every=timedelta(seconds=0.5),
        reminders_every=timedelta(seconds=6),
        patrol_every=timedelta(seconds=9),
        sources_every=timedelta(seconds=11),
        retention_every=timedelta(seconds=13),
        keep_events=timedelta(days=2.5),
        keep_attempts=timedelta(days=1),
        database_pool=7,
    )


def test_all_that_is_missing_is_said_at_once() -> None:
    said = problems({})

    assert [problem.split()[0] for problem in said] == [
        *("DATABASE_URL", "REDIS_URL", "CERTFLEET_KEK_FILE", "CERTFLEET_REGIONS"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CERTFLEET_LOG_LEVEL", "LOUD"),
        ("CERTFLEET_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.1/8"),
        ("CERTFLEET_WEBHOOK_RETRY_SCHEDULE", "5,later"),
        ("CERTFLEET_WEBHOOK_TIMEOUT_SECONDS", "0"),
        ("CERTFLEET_LEASE_SECONDS", "-1"),
        ("CERTFLEET_KEEP_EVENTS_DAYS", "0"),
        ("CERTFLEET_KEEP_EVENTS_DAYS", "36501"),
        ("CERTFLEET_KEEP_ATTEMPTS_DAYS", "for ever"),
        ("CERTFLEET_SWEEP_SECONDS", "nan"),
        ("CERTFLEET_REMINDERS_SECONDS", "inf"),
        ("CERTFLEET_DATABASE_POOL", "1.5"),
        ("CERTFLEET_REGIONS", "/nowhere/regions.toml"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, text: str) -> None:
    (said,) = problems(environment(tmp_path, **{name: text}))

    assert name in said


def test_an_empty_mail_server_is_none(tmp_path: Path) -> None:
    assert load_settings(environment(tmp_path, SMTP_URL="")).smtp_url is None


def test_no_secret_shows(tmp_path: Path) -> None:
    secret = "hunter2"  # noqa: S105 - what must not show
    urls = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "SMTP_URL"), f"x://user:{secret}@host")

    assert secret not in repr(load_settings(environment(tmp_path, **urls)))
