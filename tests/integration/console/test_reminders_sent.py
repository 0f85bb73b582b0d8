"""The ledger and the simulator in the console: who was told of what, what would be sent, and why not."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from services.api.console.pages.reminders_simulator import CERTIFICATES, REASONS, URGENCIES
from shared.domain.reminder_decisions import Silence
from shared.domain.reminders import Urgency
from shared.usecases import answers, reminder_preview
from shared.usecases.reminder_scan import scan
from tests.support.api import Api
from tests.support.console import signed_in, stranger
from tests.support.reminders import OPS, add_certificate, change_account

SIMULATOR = "/reminders/simulator"


def rows(page: str) -> list[str]:
    """The certificates of the tables of a page."""
    return re.findall(r'<th scope="row"><a href="/certificates/(\w+)"', page)


def at(api: Api, days: float) -> str:
    return f"{api.fleet.now + timedelta(days=days):%Y-%m-%dT%H:%M}"


def test_an_empty_ledger_leads_to_the_simulator(api: Api) -> None:
    page = signed_in(api).page("/reminders/sent")
    assert "Nobody was reminded yet" in page
    assert f'href="{SIMULATOR}"' in page


def test_the_ledger_shows_who_is_told_of_what_and_is_filtered(api: Api) -> None:
    near, nobody = (
        add_certificate(api.fleet, left=timedelta(days=5)),
        add_certificate(api.fleet, left=timedelta(days=6), contacts=[], name="Lonely"),
    )
    scan(api.fleet.context, now=api.fleet.now)
    one = signed_in(api)
    page = one.page("/reminders/sent")
    assert set(rows(page)) == {near, nobody}
    assert OPS in page
    assert "7 days before" in page
    assert "recorded only" in page
    assert rows(one.page("/reminders/sent?state=recorded")) == [nobody]
    assert rows(one.page(f"/reminders/sent?certificate={near}")) == [near]
    assert "Nothing matches" in one.page("/reminders/sent?state=failed")
    assert set(rows(one.page("/reminders/sent?state=wrong"))) == {near, nobody}
    assert one.get("/reminders/sent?cursor=x").status_code == 422
    assert rows(stranger(api).page("/reminders/sent")) == []


def test_the_simulator_says_who_would_be_told_now_and_then(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=timedelta(days=100), name="Shop of ours")
    one = signed_in(api)
    assert "No mail would be sent." in one.page(SIMULATOR)
    then = one.page(f"{SIMULATOR}?date={at(api, 71)}")
    assert OPS in then
    assert f'href="/certificates/{certificate_id}">Shop of ours</a>' in then
    assert "30 days before" in then
    assert f'value="{at(api, 71)}"' in then
    assert "No mail would be sent." in one.page(SIMULATOR)


def test_the_simulator_says_why_nobody_is_told(api: Api) -> None:
    acknowledged, muted, lonely = (
        add_certificate(api.fleet, left=timedelta(days=20 + number), contacts=contacts)
        for number, contacts in enumerate(([OPS], [OPS], []))
    )
    with api.fleet.transaction() as session:
        answers.acknowledge(session, api.fleet.caller, acknowledged, now=api.fleet.now)
        answers.mute(session, api.fleet.caller, muted, now=api.fleet.now)
    page = signed_in(api).page(SIMULATOR)
    assert rows(page) == [acknowledged, muted, lonely]
    assert REASONS["acknowledged"] in page
    assert REASONS["muted"] in page
    assert REASONS["no_recipient"] in page


def test_mail_that_waits_for_the_quiet_window_says_so(api: Api) -> None:
    now = api.fleet.now
    add_certificate(api.fleet, left=timedelta(days=20))
    begins, ends = (now - timedelta(hours=1)).time(), (now + timedelta(hours=1)).time()
    change_account(api.fleet, quiet_from=begins, quiet_until=ends)
    assert "waits for the end of the quiet window" in signed_in(api).page(SIMULATOR)


@pytest.mark.parametrize("date", ["tomorrow", "2030-02-30", "0001-01-01", "9999-12-31T00:00", "2030-01-31T25:00"])
def test_a_moment_that_is_none_is_refused_at_its_field(api: Api, date: str) -> None:
    answer = signed_in(api).get(f"{SIMULATOR}?date={date}")
    assert answer.status_code == 422
    assert 'id="date-mistake"' in answer.text


def test_the_simulator_pages_through_what_is_near(api: Api) -> None:
    for number in range(CERTIFICATES + 1):
        add_certificate(api.fleet, left=timedelta(days=10, seconds=number), name=f"Number {number}")
    one = signed_in(api)
    page = one.page(SIMULATOR)
    (more,) = re.findall(r'rel="next" href="([^"]+)"', page)
    rest = one.page(f"{SIMULATOR}{more.replace('&amp;', '&')}")
    names = [set(re.findall(r">Number (\d+)</a>", text)) for text in (page, rest)]
    assert [len(names[0]), names[1]] == [CERTIFICATES, {str(CERTIFICATES)}]


def test_a_stranger_simulates_with_nothing_of_ours(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=timedelta(days=5))
    assert certificate_id not in stranger(api).page(SIMULATOR)


def test_every_reason_and_urgency_has_words() -> None:
    silences = {silence.value for silence in Silence} - {Silence.NOT_YET.value}
    assert set(REASONS) == silences | {reminder_preview.NO_RECIPIENT, reminder_preview.UNSUBSCRIBED}
    assert set(URGENCIES) == {urgency.value for urgency in Urgency}
