"""``certfleet reminders run``: one scan now, as a table and as data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from services.cli.main import cli
from shared.domain.reminders import DAY
from tests.support.fleet import Fleet
from tests.support.reminders import OPS, add_certificate, notices


@pytest.fixture
def environment(fleet: Fleet, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The settings of the fleet's database, with the real time as its now."""
    fleet.now = datetime.now(UTC)
    regions = tmp_path / "regions.toml"
    regions.write_text(f'[[region]]\nid = "cn-hangzhou"\ndriver = "directory"\nsettings = {{path = "{tmp_path}/cn"}}\n')
    return {
        "DATABASE_URL": fleet.context.settings.database_url,
        "REDIS_URL": redis_url,
        "CERTFLEET_KEK_FILE": str(fleet.context.settings.kek_file),
        "CERTFLEET_REGIONS": str(regions),
    }


def certfleet(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner(env=environment).invoke(cli, arguments, catch_exceptions=False)


def test_it_records_what_is_due_wakes_the_workers_and_says_so(
    fleet: Fleet, environment: dict[str, str], redis_url: str
) -> None:
    soon = add_certificate(fleet, left=5 * DAY)
    gone = add_certificate(fleet, left=-5 * DAY)

    result = certfleet(environment, "reminders", "run")

    assert result.exit_code == 0
    assert notices(fleet) == sorted([(soon, 7, OPS), (gone, -1, OPS)])
    assert [line.split() for line in result.output.splitlines()[1:3]] == [
        ["expired", "1"],
        ["7", "days", "or", "less", "1"],
    ]
    assert result.output.endswith("2 newly due, 2 notices recorded, 0 certificates without anybody to tell.\n")
    with Redis.from_url(redis_url) as redis:
        assert redis.llen("mail") == 1


def test_it_answers_as_data_and_finds_nothing_twice(fleet: Fleet, environment: dict[str, str]) -> None:
    add_certificate(fleet, left=5 * DAY)

    first, second = (json.loads(certfleet(environment, "reminders", "run", "--json").output) for _ in range(2))

    assert first == {"events": 1, "reminders": 1, "without_recipient": 0, "by_threshold": {"7": 1}}
    assert second == {"events": 0, "reminders": 0, "without_recipient": 0, "by_threshold": {}}


def test_calendar_feeds_are_made_listed_rotated_and_revoked(environment: dict[str, str]) -> None:
    account = ("--account", "default")
    made = certfleet(environment, "reminders", "calendar", "create", *account, "--name", "Operations").output.strip()
    listed = certfleet(environment, "reminders", "calendar", "list", *account).output
    feed_id = listed.split()[0]
    rotated = certfleet(environment, "reminders", "calendar", "rotate", *account, feed_id).output.strip()

    assert made.startswith("http://127.0.0.1:8080/calendar/")
    assert made.endswith(".ics")
    assert rotated != made
    assert "Operations" in listed
    assert made.rpartition("/")[2] not in listed
    assert certfleet(environment, "reminders", "calendar", "revoke", *account, feed_id).exit_code == 0
    assert certfleet(environment, "reminders", "calendar", "list", *account).output == ""
