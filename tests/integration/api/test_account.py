"""GET and PATCH /v1/account: whom the account tells, when; checked, audited, and heeded by the next scan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.domain.reminders import DAY
from shared.domain.scopes import Scope
from shared.usecases.account_settings import change_settings
from shared.usecases.reminder_scan import scan
from tests.support.api import Api, answer, codes
from tests.support.locks import wait_until_somebody_waits_for_a_lock
from tests.support.reminders import add_certificate, notices

PATH = "/v1/account"


def test_a_new_account_has_the_usual_thresholds_and_no_quiet_window(api: Api) -> None:
    shown = answer(api.client.get(PATH))

    assert shown["id"] == api.fleet.caller.account_id
    assert (shown["reminder_thresholds"], shown["effective_reminder_thresholds"]) == (None, [60, 30, 15, 7, 3, 1, 0])
    assert (shown["time_zone"], shown["quiet_window"], shown["contacts"]) == ("UTC", None, [])
    assert (shown["auto_renew"], shown["renew_before_days"]) == (False, None)


def test_what_is_given_is_changed_and_the_rest_stays(api: Api) -> None:
    changes = {
        "contacts": ["ops@example.com"],
        "reminder_thresholds": [1, 30, 7],
        "time_zone": "Asia/Shanghai",
        "quiet_window": {"from": "22:00", "until": "07:30"},
    }
    api.client.patch(PATH, changes)

    response = api.client.patch(PATH, {"name": "Shop"})

    assert response.status_code == 200
    assert answer(response) == answer(api.client.get(PATH))
    assert answer(response) | changes == answer(response) | {"reminder_thresholds": [1, 30, 7]}
    assert answer(response)["reminder_thresholds"] == [30, 7, 1]
    assert answer(response)["name"] == "Shop"
    last, first = api.client.items("/v1/audit")
    assert (last["action"], last["details"]) == ("account.changed", {"fields": ["name"]})
    assert first["details"] == {"fields": sorted(changes)}


def test_a_window_and_thresholds_are_taken_back_by_null(api: Api) -> None:
    api.client.patch(PATH, {"quiet_window": {"from": "22:00", "until": "07:00"}, "reminder_thresholds": []})
    assert answer(api.client.get(PATH))["effective_reminder_thresholds"] == []

    api.client.patch(PATH, {"quiet_window": None, "reminder_thresholds": None})

    shown = answer(api.client.get(PATH))
    assert (shown["quiet_window"], shown["reminder_thresholds"]) == (None, None)


def test_what_changes_nothing_is_not_audited(api: Api) -> None:
    api.client.patch(PATH, {"time_zone": "UTC", "contacts": []})

    assert api.client.items("/v1/audit") == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"contacts": ["ops@example.com", "nobody"]}, {("contacts.1", "invalid_email")}),
        ({"contacts": ["a@example.com", "a@example.com"]}, {("contacts.1", "duplicate_value")}),
        ({"contacts": [f"a{number}@example.com" for number in range(21)]}, {("contacts", "wrong_length")}),
        ({"reminder_thresholds": [7, 7]}, {("reminder_thresholds.1", "duplicate_value")}),
        ({"reminder_thresholds": [-1]}, {("reminder_thresholds.0", "out_of_range")}),
        ({"reminder_thresholds": [731]}, {("reminder_thresholds.0", "out_of_range")}),
        ({"reminder_thresholds": [1.5]}, {("reminder_thresholds.0", "wrong_type")}),
        ({"reminder_thresholds": list(range(21))}, {("reminder_thresholds", "wrong_length")}),
        ({"time_zone": "Mars/Olympus"}, {("time_zone", "unknown_time_zone")}),
        ({"time_zone": "../../etc/passwd"}, {("time_zone", "unknown_time_zone")}),
        ({"quiet_window": {"from": "22:00"}}, {("quiet_window.until", "missing_field")}),
        (
            {"quiet_window": {"from": "24:00", "until": "7:00"}},
            {("quiet_window.from", "invalid_time"), ("quiet_window.until", "invalid_time")},
        ),
        ({"quiet_window": {"from": "22:00", "until": "22:00"}}, {("quiet_window.until", "empty_window")}),
        ({"quiet_window": "night"}, {("quiet_window", "wrong_type")}),
        ({"name": ""}, {("name", "wrong_length")}),
        ({"renew_before_days": 0}, {("renew_before_days", "out_of_range")}),
        ({"id": "acc_1"}, {("id", "unknown_field")}),
    ],
)
def test_a_bad_setting_is_named_with_its_reason(api: Api, changes: dict[str, Any], expected: set[Any]) -> None:
    assert codes(api.client.patch(PATH, changes)) == expected


def test_a_name_that_another_account_has_is_a_conflict(api: Api) -> None:
    api.account("taken")

    response = api.client.patch(PATH, {"name": "taken"})

    assert (response.status_code, answer(response)["code"]) == (409, "account_exists")


def test_settings_are_read_with_read_and_changed_with_admin_only(api: Api) -> None:
    assert api.scoped(Scope.READ).get(PATH).status_code == 200
    for scope in (Scope.READ, Scope.WRITE):
        assert api.scoped(scope).patch(PATH, {"time_zone": "UTC"}).status_code == 403
    assert api.scoped(Scope.ADMIN).patch(PATH, {"time_zone": "UTC"}).status_code == 200


def test_the_next_scan_heeds_new_contacts_and_thresholds(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=50 * DAY, contacts=[])
    scan(api.fleet.context, now=api.fleet.now)

    api.client.patch(PATH, {"contacts": ["ops@example.com"], "reminder_thresholds": [55]})
    scan(api.fleet.context, now=api.fleet.now)

    assert notices(api.fleet) == [(certificate_id, 55, "ops@example.com")]


def test_a_certificate_takes_thresholds_of_its_own_and_gives_them_to_its_successor(api: Api) -> None:
    certificate = api.deployed(reminder_thresholds=[5, 20])
    path = f"/v1/certificates/{certificate['id']}"
    assert certificate["reminder_thresholds"] == [20, 5]

    assert codes(api.client.patch(path, {"reminder_thresholds": [800]})) == {("reminder_thresholds.0", "out_of_range")}
    assert answer(api.client.patch(path, {"reminder_thresholds": [1, 2]}))["reminder_thresholds"] == [2, 1]
    assert answer(api.client.patch(path, {"reminder_thresholds": None}))["reminder_thresholds"] is None


def test_of_two_accounts_that_want_a_name_at_once_one_gets_it(api: Api) -> None:
    other = api.account("other")
    with ThreadPoolExecutor(1) as pool:
        with api.fleet.transaction() as session:
            change_settings(api.fleet.context, session, api.fleet.caller, {"name": "Shop"}, now=api.fleet.now)
            session.flush()
            second = pool.submit(other.patch, PATH, {"name": "Shop"})
            wait_until_somebody_waits_for_a_lock(api.fleet)
        refused = second.result()

    assert (refused.status_code, answer(refused)["code"]) == (409, "account_exists")
