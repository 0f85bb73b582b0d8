"""The simulator and the ledger by API: what would be sent, to whom, why; why not; and what was."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.deadlines import Validity
from shared.domain.reminder_decisions import LOOK_BACK
from shared.domain.reminders import DAY, counts, crossed
from shared.domain.rollout import DeploymentState
from shared.usecases import answers
from shared.usecases.reminder_scan import scan
from tests.support.api import Api, answer, codes
from tests.support.reminders import (
    OPS,
    add_certificate,
    add_deployment,
    change_account,
    change_certificate,
    ledger,
    notices,
    set_account_contacts,
)

BOSS = "boss@example.com"
SECOND = timedelta(seconds=1)


def preview(api: Api, after: timedelta | None = None, **query: Any) -> dict[str, Any]:
    if after is not None:
        query["date"] = written(api.fleet.now + after)
    response = api.client.get("/v1/reminders/preview", query_string=query)
    assert response.status_code == 200, response.text
    return answer(response)


def written(moment: Any) -> str:
    return str(moment.isoformat().replace("+00:00", "Z"))


def mailed(found: dict[str, Any]) -> list[tuple[str, str, list[str], str]]:
    """Recipient, urgency, certificates and when, of each group of each mail."""
    return [
        (
            mail["recipient"],
            group["urgency"],
            [certificate["certificate_id"] for certificate in group["certificates"]],
            mail["sent_at"],
        )
        for mail in found["mails"]
        for group in mail["groups"]
    ]


def reasons(found: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {each["certificate_id"]: (each["reason"], each["until"]) for each in found["silent"]}


def test_it_says_what_a_scan_at_that_moment_then_really_does_and_writes_nothing(api: Api) -> None:
    soon = add_certificate(api.fleet, left=12 * DAY, contacts=[OPS, BOSS])
    gone = add_certificate(api.fleet, left=-2 * DAY)
    add_certificate(api.fleet, left=90 * DAY)

    found = preview(api, 6 * DAY)

    at = written(api.fleet.now + 6 * DAY)
    assert mailed(found) == [
        (BOSS, "soon", [soon], at),
        (OPS, "expired", [gone], at),
        (OPS, "soon", [soon], at),
    ]
    (certificate,) = found["mails"][0]["groups"][0]["certificates"]
    assert (certificate["threshold"], certificate["days_left"], certificate["is_news"]) == (7, 6, True)
    assert ledger(api.fleet) == []
    scan(api.fleet.context, now=api.fleet.now + 6 * DAY)
    assert notices(api.fleet) == sorted([(soon, 7, OPS), (soon, 7, BOSS), (gone, -1, OPS)])


def test_each_silence_is_explained(api: Api) -> None:
    fleet = api.fleet
    told = add_certificate(fleet, left=5 * DAY)
    scan(fleet.context, now=fleet.now)
    muted = add_certificate(fleet, left=5 * DAY, reminders_muted=True)
    acknowledged, snoozed = add_certificate(fleet, left=5 * DAY), add_certificate(fleet, left=5 * DAY)
    short = add_certificate(fleet, left=5 * DAY, life=9 * DAY)
    replaced = add_certificate(fleet, left=5 * DAY)
    change_certificate(fleet, replaced, replaced_by_id=add_certificate(fleet, left=300 * DAY))
    with fleet.transaction() as session:
        answers.acknowledge(session, fleet.caller, acknowledged, now=fleet.now)
        answers.snooze(session, fleet.caller, snoozed, until=fleet.now + DAY, now=fleet.now)
        answers.unsubscribe(session, fleet.caller, BOSS, now=fleet.now)
    nobody = add_certificate(fleet, left=5 * DAY, contacts=[])
    unsubscribed = add_certificate(fleet, left=5 * DAY, contacts=[BOSS])

    found = preview(api, SECOND)

    assert found["mails"] == []
    next_threshold = written(fleet.now + DAY + timedelta(microseconds=1))
    assert reasons(found) == {
        told: ("already_told", next_threshold),
        muted: ("muted", None),
        acknowledged: ("acknowledged", written(fleet.now + 2 * DAY)),
        snoozed: ("snoozed", written(fleet.now + DAY)),
        short: ("short_lived", next_threshold),
        replaced: ("replaced", None),
        nobody: ("no_recipient", None),
        unsubscribed: ("unsubscribed", None),
    }
    by_id = {each["certificate_id"]: each for each in found["silent"]}
    assert by_id[told]["told"] == [{"recipient": OPS, "threshold": 7, "state": "pending", "sent_at": None}]
    assert by_id[unsubscribed]["unsubscribed"] == [BOSS]


def test_in_the_quiet_window_the_urgent_goes_out_at_once_and_the_rest_at_its_end(api: Api) -> None:
    """The fleet's now is noon in UTC: 20:00 in Shanghai."""
    change_account(api.fleet, time_zone="Asia/Shanghai")
    api.client.patch("/v1/account", {"quiet_window": {"from": "20:00", "until": "08:00"}})
    urgent, later = add_certificate(api.fleet, left=DAY), add_certificate(api.fleet, left=7 * DAY)

    found = preview(api)

    assert mailed(found) == [
        (OPS, "critical", [urgent], written(api.fleet.now)),
        (OPS, "soon", [later], written(api.fleet.now + DAY / 2)),
    ]
    assert [mail["waits_for_quiet_window"] for mail in found["mails"]] == [False, True]


def test_what_ends_of_a_chain_and_where_a_replaced_one_is_still_held_is_said(api: Api) -> None:
    chain = [
        {
            "subject": subject,
            "fingerprint_sha256": "cd" * 32,
            "not_before": (api.fleet.now - 900 * DAY).isoformat(),
            "not_after": (api.fleet.now + left).isoformat(),
        }
        for subject, left in (("CN=www", 90 * DAY), ("CN=Issuing CA", 7 * DAY))
    ]
    old = add_certificate(api.fleet, left=90 * DAY, chain=chain)
    new = add_certificate(api.fleet, left=300 * DAY)
    change_certificate(api.fleet, old, replaced_by_id=new)
    add_deployment(api.fleet, old, "eu-central-1", state=DeploymentState.DEPLOYED, served="match")

    (certificate,) = preview(api)["mails"][0]["groups"][0]["certificates"]

    assert certificate["chain_certificate"] == {
        "position": 1,
        "subject": "CN=Issuing CA",
        "fingerprint_sha256": "cd" * 32,
    }
    assert (certificate["replaced_by"], certificate["lacking"]) == (
        new,
        [{"region": "eu-central-1", "lack": "old_present"}],
    )


def test_of_the_past_only_what_was_there_and_written_then_counts(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=5 * DAY, created_at=api.fleet.now - 100 * DAY)
    scan(api.fleet.context, now=api.fleet.now)

    assert mailed(preview(api, -DAY)) == [(OPS, "soon", [certificate_id], written(api.fleet.now - DAY))]
    assert preview(api, -101 * DAY)["mails"] == []


@pytest.mark.parametrize("date", ["1970-01-01", "2999-12-31", "9000-12-31T23:59:59Z", "1970-01-01T00:00:00+14:00"])
def test_any_date_is_answered(api: Api, date: str) -> None:
    add_certificate(api.fleet, left=5 * DAY)

    assert set(preview(api, date=date)) == {"date", "mails", "silent", "next_cursor"}


@pytest.mark.parametrize(
    ("date", "code"),
    [
        ("0001-01-01T00:00:00+14:00", "out_of_range"),
        ("9999-12-31T23:59:59-12:00", "out_of_range"),
        ("tomorrow", "invalid_time"),
        ("2030-01-01T00:00:00", "invalid_time"),
    ],
)
def test_a_date_that_is_none_or_too_far_is_refused(api: Api, date: str, code: str) -> None:
    assert codes(api.client.get("/v1/reminders/preview", query_string={"date": date})) == {("date", code)}


def test_pages_show_each_certificate_once_soonest_end_first(api: Api) -> None:
    ids = [add_certificate(api.fleet, left=(number % 6) * DAY) for number in range(12)]
    date = written(api.fleet.now)
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        found = preview(api, date=date, limit=5, **cursor)
        seen += [certificate for _, _, group, _ in mailed(found) for certificate in group]
        cursor = {"cursor": found["next_cursor"]}

    assert found["next_cursor"] is None
    assert sorted(seen) == sorted(ids)
    assert seen[:2] == sorted([ids[0], ids[6]])


def test_it_shows_exactly_what_the_rule_finds_near_whatever_the_thresholds(api: Api) -> None:
    chosen = random.Random(11)  # noqa: S311 - test data
    change_account(api.fleet, reminder_thresholds=[45, 10])
    at = 3 * DAY
    near, mails = set(), set()
    for _ in range(150):
        left = timedelta(hours=chosen.randrange(-40 * 24, 110 * 24))
        life = timedelta(days=chosen.choice([3, 20, 47, 90, 398]))
        own = chosen.choice([None, [], [100], [60, 7], [0]])
        certificate_id = add_certificate(api.fleet, left=left, life=life, reminder_thresholds=own)
        validity = Validity(not_before=api.fleet.now + left - life, not_after=api.fleet.now + left)
        thresholds = (45, 10) if own is None else tuple(own)
        band = crossed(validity, api.fleet.now + at, thresholds=thresholds)
        if band is not None and left - at >= -LOOK_BACK:
            near.add(certificate_id)
            if counts(band, validity):
                mails.add((certificate_id, band.threshold))

    found = preview(api, at, limit=200)

    due = [each for mail in found["mails"] for group in mail["groups"] for each in group["certificates"]]
    assert {(each["certificate_id"], each["threshold"]) for each in due} == mails
    assert {each["certificate_id"] for each in [*due, *found["silent"]]} == near
    assert {each["reason"] for each in found["silent"]} == {"short_lived"}
    scan(api.fleet.context, now=api.fleet.now + at)
    old = {certificate_id for certificate_id, _, _ in notices(api.fleet)} - {id_ for id_, _ in mails}
    assert {(id_, threshold) for id_, threshold, _ in notices(api.fleet) if id_ not in old} == mails


def test_the_ledger_shows_who_was_told_filtered_and_by_pages(api: Api) -> None:
    first = add_certificate(api.fleet, left=5 * DAY)
    second = add_certificate(api.fleet, left=5 * DAY, contacts=[], name="Nobody's")
    scan(api.fleet.context, now=api.fleet.now)

    assert {row["certificate_id"] for row in api.client.items("/v1/reminders")} == {first, second}
    (told,) = api.client.items("/v1/reminders", query_string={"certificate": first})
    assert (told["recipient"], told["state"], told["threshold"], told["sent_at"]) == (OPS, "pending", 7, None)
    (recorded,) = api.client.items("/v1/reminders", query_string={"state": "recorded"})
    assert (recorded["certificate_id"], recorded["recipient"], recorded["name"]) == (second, None, "Nobody's")
    page = answer(api.client.get("/v1/reminders", query_string={"limit": 1}))
    rest = answer(api.client.get("/v1/reminders", query_string={"limit": 1, "cursor": page["next_cursor"]}))
    assert {page["items"][0]["certificate_id"], rest["items"][0]["certificate_id"]} == {first, second}
    assert rest["next_cursor"] is None
    assert codes(api.client.get("/v1/reminders", query_string={"state": "asleep"})) == {("state", "not_one_of")}


def test_another_account_sees_neither_ledger_nor_preview(api: Api) -> None:
    add_certificate(api.fleet, left=5 * DAY)
    set_account_contacts(api.fleet, OPS)
    scan(api.fleet.context, now=api.fleet.now)
    stranger = api.account("stranger")

    assert stranger.items("/v1/reminders") == []
    found = answer(stranger.get("/v1/reminders/preview"))
    assert (found["mails"], found["silent"]) == ([], [])
