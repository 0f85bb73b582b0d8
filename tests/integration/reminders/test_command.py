"""``certfleet reminders run``: one scan now, as a table and as data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from services.cli.main import cli
from shared.domain.reminders import DAY, calendar_day
from shared.errors import Rejected
from shared.models import Account
from tests.support.fleet import Fleet
from tests.support.reminders import OPS, add_certificate, notices

HOUR = timedelta(hours=1)


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


def test_a_preview_says_who_would_be_told_and_why_nobody_is_and_writes_nothing(
    fleet: Fleet, environment: dict[str, str]
) -> None:
    add_certificate(fleet, left=5 * DAY + HOUR)
    add_certificate(fleet, left=5 * DAY + HOUR, common_name="muted.example.com", reminders_muted=True)

    result = certfleet(environment, "reminders", "preview")

    day = calendar_day(fleet.now + 5 * DAY + HOUR)
    lines = [line.strip() for line in result.output.splitlines()]
    assert lines[0].startswith("Account ")
    assert lines[1] == f"Mail to {OPS} (now):"
    assert lines[2] == f"soon     www.example.com expires in 5 days ({day}); threshold 7 days"
    assert lines[4] == f"soon     muted.example.com expires in 5 days ({day}): muted"
    assert notices(fleet) == []


def test_a_preview_of_a_date_as_data_is_what_the_api_answers(fleet: Fleet, environment: dict[str, str]) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    date = (fleet.now + 18 * DAY).isoformat()

    result = certfleet(environment, "reminders", "preview", "--date", date, "--json")

    (document,) = json.loads(result.output)
    assert set(document) == {"account", "date", "mails", "silent", "next_cursor"}
    (group,) = document["mails"][0]["groups"]
    assert [(each["certificate_id"], each["threshold"]) for each in group["certificates"]] == [(certificate_id, 3)]


def test_a_date_that_is_none_is_refused_with_a_remedy(environment: dict[str, str]) -> None:
    with pytest.raises(Rejected) as refused:
        certfleet(environment, "reminders", "preview", "--date", "tomorrow")

    assert [(error.field, error.code) for error in refused.value.errors] == [("date", "invalid_time")]


def test_an_accounts_settings_are_set_and_shown(fleet: Fleet, environment: dict[str, str]) -> None:
    name = json.loads(certfleet(environment, "accounts", "show", account_name(fleet), "--json").output)["name"]

    changed = certfleet(
        environment,
        *("accounts", "set", name, "--contact", OPS, "--thresholds", "7,30", "--time-zone", "Asia/Shanghai"),
        *("--quiet", "22:00-07:00"),
    )

    assert changed.exit_code == 0
    shown = certfleet(environment, "accounts", "show", name).output
    for words in (OPS, "30, 7; and once it has expired", "Asia/Shanghai", "22:00 to 07:00; urgent mail goes out"):
        assert words in shown
    certfleet(environment, "accounts", "set", name, "--no-contacts", "--thresholds", "none", "--quiet", "none")
    shown = certfleet(environment, "accounts", "show", name).output
    for words in ("nobody", "none; and once it has expired", "quiet window          none"):
        assert words in shown


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--thresholds", "7,7", "reminder_thresholds.1"),
        ("--thresholds", "soon", "reminder_thresholds.0"),
        ("--thresholds", "9999", "reminder_thresholds.0"),
        ("--quiet", "22:00", "quiet_window.until"),
        ("--time-zone", "Mars", "time_zone"),
        ("--contact", "nobody", "contacts.0"),
    ],
)
def test_a_bad_setting_is_refused_by_name(environment: dict[str, str], option: str, value: str, field: str) -> None:
    with pytest.raises(Rejected) as refused:
        certfleet(environment, "accounts", "set", "whatever", option, value)

    assert [error.field for error in refused.value.errors] == [field]


def account_name(fleet: Fleet) -> str:
    with fleet.transaction() as session:
        return session.get_one(Account, fleet.caller.account_id).name
