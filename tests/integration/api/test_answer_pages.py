"""The links of a reminder mail: looking changes nothing, only their reader's own POST does, and nothing else opens."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.crypto.vault import add_kek
from shared.domain.answers import LINK_LIFE, LinkScope
from shared.domain.reminders import DAY, calendar_day
from shared.models import Certificate, Reminder
from shared.usecases import answers
from shared.usecases.answer_links import answer_url
from shared.usecases.reminder_scan import scan
from tests.support.api import Api
from tests.support.fleet import new_caller
from tests.support.reminders import OPS, add_certificate, change_certificate, ledger, set_account_contacts

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def certificate_id(api: Api) -> str:
    return add_certificate(api.fleet, left=20 * DAY, contacts=[OPS, "boss@example.com"])


@pytest.fixture
def browser(api: Api) -> FlaskClient:
    return api.app.test_client()


def reminder_to(api: Api, recipient: str = OPS) -> Reminder:
    scan(api.fleet.context, now=api.fleet.now)
    return next(row for row in ledger(api.fleet) if row.recipient == recipient)


def link(api: Api, scope: LinkScope = LinkScope.CERTIFICATE, recipient: str = OPS) -> str:
    """The path of a link in the mail about the certificate."""
    url = answer_url(api.fleet.context, reminder_to(api, recipient), scope, now=api.fleet.now)
    return url.removeprefix(api.fleet.context.settings.public_url)


def seen(page: TestResponse) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def choose(browser: FlaskClient, path: str, answer: str, **fields: str) -> TestResponse:
    """Look, and send the page's form."""
    return browser.post(path, data={"answer": answer, "seen": seen(browser.get(path)), **fields})


def row(api: Api, certificate_id: str) -> Certificate:
    return api.fleet.certificate(certificate_id)


def answered(api: Api, certificate_id: str) -> tuple[bool, bool, bool]:
    found = row(api, certificate_id)
    return (
        found.reminders_acknowledged_at is not None,
        found.reminders_snoozed_until is not None,
        found.reminders_muted,
    )


def test_looking_any_number_of_times_changes_nothing(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    paths = [link(api), link(api, LinkScope.UNSUBSCRIBE)]

    for path in paths:
        for method in ("GET", "HEAD", "GET"):
            assert browser.open(path, method=method).status_code == 200

    assert answered(api, certificate_id) == (False, False, False)
    assert api.client.items("/v1/reminders/unsubscribed") == []
    assert api.client.items("/v1/audit") == []


def test_the_page_says_what_it_is_about_and_who_answers(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    page = browser.get(link(api))

    for words in ("www.example.com", "Expires in 20 days", "4 Feb 2026, 12:00 UTC", f"You answer as {OPS}"):
        assert words in page.text
    assert certificate_id not in page.text


def test_the_page_runs_no_script_is_framed_by_nobody_and_kept_by_nobody(api: Api, browser: FlaskClient) -> None:
    add_certificate(api.fleet, left=20 * DAY)

    page = browser.get(link(api))

    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Robots-Tag"].startswith("noindex")
    assert "Set-Cookie" not in page.headers
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://", page.text)
    style = browser.get("/answer.css")
    assert (style.status_code, style.mimetype) == (200, "text/css")


def test_an_acknowledgement_by_mail_names_who_gave_it(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)

    response = choose(browser, path, "acknowledge")

    assert response.status_code == 303
    assert browser.get(response.headers["Location"], base_url=f"http://localhost{path.rpartition('/')[0]}/").status_code
    assert row(api, certificate_id).reminders_acknowledged_by == f"mailto:{OPS}"
    (entry,) = api.client.items("/v1/audit")
    assert (entry["actor"], entry["action"]) == (f"mailto:{OPS}", "reminders.acknowledged")
    assert f"Acknowledged by {OPS}" in browser.get(path).text
    assert f"Acknowledged by {OPS}" in browser.get(link(api, recipient="boss@example.com")).text


def test_a_snooze_takes_one_of_the_times_offered_and_ends_at_the_floor_at_the_latest(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    path = link(api)
    offered = re.findall(r'<option value="([^"]+)">', browser.get(path).text)

    assert choose(browser, path, "snooze", until=offered[-1]).status_code == 303

    assert len(offered) == 5
    assert row(api, certificate_id).reminders_snoozed_until == api.fleet.now + 17 * DAY


def test_a_snooze_past_the_floor_is_refused_whatever_the_form_says(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    until = (api.fleet.now + 17 * DAY + timedelta(seconds=1)).isoformat()

    assert choose(browser, link(api), "snooze", until=until).status_code == 422
    assert answered(api, certificate_id) == (False, False, False)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"answer": "delete"},
        {"answer": "snooze"},
        {"answer": "snooze", "until": "soon"},
        {"answer": "snooze", "until": "2026-01-30T00:00:00"},
        {"answer": "snooze", "until": "\U0001f600" * 500},
        ONE_CLICK,
    ],
)
def test_a_form_that_was_not_ours_changes_nothing(
    api: Api, browser: FlaskClient, certificate_id: str, form: dict[str, str]
) -> None:
    path = link(api)
    response = browser.post(path, data={"seen": seen(browser.get(path)), **form})

    assert response.status_code == 422
    assert answered(api, certificate_id) == (False, False, False)
    assert api.client.items("/v1/reminders/unsubscribed") == []


def test_muting_and_resuming(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)

    assert choose(browser, path, "mute").status_code == 303
    assert answered(api, certificate_id) == (False, False, True)
    assert choose(browser, path, "resume").status_code == 303
    assert answered(api, certificate_id) == (False, False, False)


def test_the_same_post_again_changes_nothing_more(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)
    form = {"answer": "acknowledge", "seen": seen(browser.get(path))}

    assert [browser.post(path, data=form).status_code for _ in range(3)] == [303, 303, 303]
    assert len(api.client.items("/v1/audit")) == 1
    assert answered(api, certificate_id) == (True, False, False)


def test_a_post_replayed_after_it_was_taken_back_does_nothing(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    path = link(api)
    form = {"answer": "mute", "seen": seen(browser.get(path))}
    browser.post(path, data=form)
    with api.fleet.transaction() as session:
        answers.resume(session, api.fleet.caller, certificate_id, now=api.fleet.now)
        answers.acknowledge(session, api.fleet.caller, certificate_id, now=api.fleet.now)

    response = browser.post(path, data=form)

    assert response.status_code == 409
    assert "in the meantime" in response.text
    assert answered(api, certificate_id) == (True, False, False)


def test_a_post_from_another_site_is_refused(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)
    form = {"answer": "mute", "seen": seen(browser.get(path))}

    for site in ("cross-site", "same-site"):
        assert browser.post(path, data=form, headers={"Sec-Fetch-Site": site}).status_code == 409

    assert answered(api, certificate_id) == (False, False, False)
    assert browser.post(path, data=form, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def forged(path: str, **changes: object) -> str:
    """The same link with other content and the old signature."""
    payload, _, signature = path.removeprefix("/answer/").partition(".")
    names = ("kek", "scope", "reminder", "ends")
    values = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    document = list({**dict(zip(names, values, strict=True)), **changes}.values())
    encoded = base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"/answer/{encoded}.{signature}"


def test_a_changed_link_opens_nothing(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path, other = link(api), reminder_to(api, "boss@example.com")
    other_certificate = add_certificate(api.fleet, left=20 * DAY)
    scan(api.fleet.context, now=api.fleet.now)
    third = next(one for one in ledger(api.fleet) if one.certificate_id == other_certificate)

    assert forged(path) == path
    changed = [
        forged(path, reminder=other.id),
        forged(path, reminder=third.id),
        forged(path, scope="unsubscribe"),
        forged(path, scope="everything"),
        forged(path, ends=9_999_999_999),
        forged(path, ends=True),
        forged(path, ends=10**400),
        forged(path, kek="none"),
        forged(path, kek=None),
        forged(path, reminder=["rem"]),
        forged(path, reminder="rem_\u0000"),
        path[:-1],
        path[:-1] + ("A" if path[-1] != "A" else "B"),
        path + "A",
        path + "=",
        path.partition(".")[0],
        path.partition(".")[0] + ".",
        "/answer/" + "x" * 2000,
        "/answer/%F0%9F%98%80.AAAA",
        "/answer/" + base64.urlsafe_b64encode(b"[" * 300).decode() + ".AAAA",
    ]
    for one in changed:
        for method in ("GET", "POST"):
            response = browser.open(one, method=method, data={"answer": "mute"} if method == "POST" else None)
            assert response.status_code == 404, (one, response.text)
            assert "This link is not valid" in response.text
    assert answered(api, certificate_id) == (False, False, False)


def test_a_row_that_says_something_else_now_is_not_what_was_signed(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    path, reminder = link(api), reminder_to(api)
    with api.fleet.transaction() as session:
        session.get_one(Reminder, reminder.id).recipient = "somebody@example.com"

    assert browser.get(path).status_code == 404
    assert answered(api, certificate_id) == (False, False, False)


def test_a_link_ends(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    paths = [link(api), link(api, LinkScope.UNSUBSCRIBE)]
    form = {"answer": "mute", "seen": seen(browser.get(paths[0]))}
    api.fleet.pass_time(LINK_LIFE - timedelta(seconds=1))
    assert [browser.get(path).status_code for path in paths] == [200, 200]

    api.fleet.pass_time(timedelta(seconds=1))

    assert [browser.get(path).status_code for path in paths] == [410, 410]
    assert browser.post(paths[0], data=form).status_code == 410
    assert browser.post(paths[1], data=ONE_CLICK).status_code == 410
    assert answered(api, certificate_id) == (False, False, False)


def test_who_is_no_contact_any_more_answers_nothing(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)
    form = {"answer": "mute", "seen": seen(browser.get(path))}
    change_certificate(api.fleet, certificate_id, contacts=["boss@example.com"])

    assert browser.get(path).status_code == 410
    assert browser.post(path, data=form).status_code == 410
    assert answered(api, certificate_id) == (False, False, False)

    set_account_contacts(api.fleet, OPS)
    assert browser.get(path).status_code == 200


@pytest.mark.parametrize("state", ["deleting", "deleted"])
def test_a_removed_certificate_takes_no_answer(api: Api, browser: FlaskClient, certificate_id: str, state: str) -> None:
    path = link(api)
    change_certificate(api.fleet, certificate_id, state=state)

    page = browser.get(path)

    assert page.status_code == 410
    assert "www.example.com" not in page.text
    assert browser.post(path, data={"answer": "mute"}).status_code == 410


def test_another_accounts_link_touches_nothing_of_ours(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    other = new_caller(api.fleet.context, "other", now=api.fleet.now)
    theirs = add_certificate(api.fleet, left=20 * DAY, account_id=other.account_id, contacts=["x@example.com"])
    path = link(api, recipient="x@example.com")

    assert choose(browser, path, "mute").status_code == 303

    assert answered(api, theirs) == (False, False, True)
    assert answered(api, certificate_id) == (False, False, False)
    assert api.client.items("/v1/audit") == []


def test_links_live_on_when_the_keys_rotate_and_die_when_their_key_is_taken_away(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    path, kek_file = link(api), api.fleet.context.settings.kek_file
    active = add_kek(kek_file, now=api.fleet.now)
    assert browser.get(path).status_code == 200
    fresh = link(api)

    document = json.loads(kek_file.read_text())
    document["keys"] = {active: document["keys"][active]}
    kek_file.write_text(json.dumps(document, indent=4))

    assert browser.get(path).status_code == 404
    assert browser.get(fresh).status_code == 200
    assert answered(api, certificate_id) == (False, False, False)


def test_one_click_unsubscribes_and_the_page_takes_it_back(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api, LinkScope.UNSUBSCRIBE)

    clicked = [browser.post(path, data=ONE_CLICK) for _ in range(2)]

    assert [response.status_code for response in clicked] == [200, 200]
    assert "You are unsubscribed" in browser.get(path).text
    assert [one["recipient"] for one in api.client.items("/v1/reminders/unsubscribed")] == [OPS]
    assert answered(api, certificate_id) == (False, False, False)
    assert "You are unsubscribed" not in browser.post(path, data={"answer": "resume"}).text
    assert api.client.items("/v1/reminders/unsubscribed") == []
    actions = [(entry["actor"], entry["action"]) for entry in api.client.items("/v1/audit")]
    assert actions == [
        (f"mailto:{OPS}", "reminders.subscribed_again"),
        (f"mailto:{OPS}", "reminders.unsubscribed"),
    ]


@pytest.mark.usefixtures("certificate_id")
def test_mail_programs_may_click_by_either_kind_of_form(api: Api, browser: FlaskClient) -> None:
    """RFC 8058 §3.2: ``multipart/form-data`` should be sent, ``application/x-www-form-urlencoded`` may be."""
    path = link(api, LinkScope.UNSUBSCRIBE)

    clicked = browser.post(path, data=ONE_CLICK, content_type="multipart/form-data")

    assert clicked.status_code == 200
    assert [one["recipient"] for one in api.client.items("/v1/reminders/unsubscribed")] == [OPS]


def test_a_link_to_one_certificate_does_not_unsubscribe_and_the_other_way_round(
    api: Api, browser: FlaskClient, certificate_id: str
) -> None:
    assert browser.post(link(api), data=ONE_CLICK).status_code == 422
    assert browser.post(link(api, LinkScope.UNSUBSCRIBE), data={"answer": "mute"}).status_code == 422
    assert answered(api, certificate_id) == (False, False, False)
    assert api.client.items("/v1/reminders/unsubscribed") == []


def test_no_token_of_a_link_is_logged(api: Api, browser: FlaskClient, certificate_id: str) -> None:
    path = link(api)

    browser.get(path)
    choose(browser, path, "mute")
    browser.post(path, data={"answer": "nonsense"})
    browser.get(path + "A")

    token = path.removeprefix("/answer/")
    lines = repr(list(api.logs))
    assert row(api, certificate_id).reminders_muted
    assert "request_answered" in lines
    for piece in (token, token[:40], token[-40:], OPS):
        assert piece not in lines


def test_hostile_names_stay_text(api: Api, browser: FlaskClient) -> None:
    name = "<b>x</b>\u202emoc.live\u0007\r\nSubject: y"
    add_certificate(api.fleet, left=20 * DAY, name=name, common_name=name)

    page = browser.get(link(api)).text

    assert "<b>x" not in page
    assert "&lt;b&gt;x&lt;/b&gt; moc.live Subject: y" in page
    assert "\u202e" not in page
    assert "\u0007" not in page


def test_in_the_last_days_there_is_no_snooze_on_the_page(api: Api, browser: FlaskClient) -> None:
    add_certificate(api.fleet, left=2 * DAY)

    page = browser.get(link(api)).text

    assert "cannot be snoozed" in page
    assert "<option" not in page
    assert "The last reminders come nevertheless" in page


def test_a_link_about_the_chain_shows_the_end_that_its_mail_was_about(api: Api, browser: FlaskClient) -> None:
    chain = [
        {
            "subject": subject,
            "fingerprint_sha256": "cd" * 32,
            "not_before": (api.fleet.now - 900 * DAY).isoformat(),
            "not_after": (api.fleet.now + left).isoformat(),
        }
        for subject, left in (("CN=www", 90 * DAY), ("CN=Issuing CA", 20 * DAY))
    ]
    certificate_id = add_certificate(api.fleet, left=90 * DAY, chain=chain)
    path = link(api)

    page = browser.get(path)
    choose(browser, path, "acknowledge")

    assert "A certificate of its chain: <b>Expires in 20 days</b>" in page.text
    assert answered(api, certificate_id) == (True, False, False)
    (left, _) = browser.get(path).text.split("three days before the end")
    assert left.endswith(f"No reminders until {spoken(api.fleet.now + 17 * DAY)}, ")


def spoken(moment: datetime) -> str:
    return f"{calendar_day(moment)}, {moment:%H:%M} UTC"
