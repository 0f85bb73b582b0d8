"""Settings in the console: the account, tokens, people, calendars, the own password; and what is written down."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from shared.models import AuditEntry, ConsoleSession, Person, SignInLink
from shared.usecases import self_service
from shared.usecases.accounts import create_account
from shared.usecases.people import remove_person
from shared.usecases.self_service import INVITATION_LIFE
from shared.usecases.sign_in import TRIES_BY_EMAIL
from tests.support.api import Api, answer
from tests.support.console import EMAIL, PASSWORD, Browser, browser, person, signed_in, stranger

ACCOUNT = {"name": "Operations", "contacts": "ops@example.com\nnight@example.com"}
TOKEN = {"name": "CI", "scopes": ["read", "write"], "days": "30"}
NEW_PASSWORD = "a few other good words"  # noqa: S105 - of nobody


def audited(api: Api) -> list[tuple[str, str]]:
    """(who, what), oldest first; not what the fleet's own set-up did."""
    with api.fleet.transaction() as session:
        rows = session.execute(select(AuditEntry).order_by(AuditEntry.id)).scalars()
        return [(row.actor[:4], row.action) for row in rows]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def mistake(text: str, field: str) -> str:
    return found(rf'(?s)<p class="mistake" id="{field}-mistake">(.*?)</p>', text)


def by_password(api: Api) -> Browser:
    """Somebody who has signed in with a password."""
    person(api)
    one = browser(api)
    assert one.submit("/sign-in", "/sign-in", {"email": EMAIL, "password": PASSWORD}).status_code == 303
    return one


def invited(one: Browser, email: str = "bob@example.com") -> tuple[str, str]:
    """Invite somebody: the answer's text, and where its link leads."""
    page = one.submit("/settings/people", "/settings/people", {"email": email})
    assert page.status_code == 200, page.text
    return page.text, found(r"(/sign-in/[\w-]+)</code>", page.text)


def test_name_and_contacts_are_changed_and_written_down(api: Api) -> None:
    one = signed_in(api)
    assert one.submit("/settings", "/settings", ACCOUNT).status_code == 303
    page = one.page("/settings")
    assert 'value="Operations"' in page
    assert "ops@example.com\nnight@example.com\n" in page
    assert audited(api) == [("per_", "account.changed")]
    assert one.submit("/settings", "/settings", ACCOUNT).status_code == 303
    assert len(audited(api)) == 1


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"name": ""}, "name", "It has 0 characters"),
        ({"name": "a\x07b"}, "name", "control or invisible"),
        ({"contacts": "nobody"}, "contacts", "not an e-mail address"),
    ],
)
def test_a_refused_change_of_the_account_says_why_and_changes_nothing(
    api: Api, fields: dict[str, str], field: str, says: str
) -> None:
    one = signed_in(api)
    stranger(api)
    page = one.submit("/settings", "/settings", {**ACCOUNT, **fields})
    assert page.status_code == 422
    assert says in mistake(page.text, field)
    assert 'value="default"' in one.page("/settings")
    assert audited(api) == []


def test_a_token_is_shown_once_works_and_is_revoked_at_once(api: Api) -> None:
    one = signed_in(api)
    page = one.submit("/settings/tokens", "/settings/tokens", TOKEN)
    clear = found(r">(certfleet_\w+)</code>", page.text)
    assert page.headers["Cache-Control"] == "no-store"
    client = api.token(api.fleet.caller.account_id, ())
    client.token = clear
    assert client.get("/v1/certificates").status_code == 200
    listed = one.page("/settings/tokens")
    assert clear not in listed
    assert clear[:12] in listed
    path = found(r'(?s)<th scope="row">CI</th>.*?(/settings/tokens/tok_\w+/revoke)', listed)
    assert one.submit("/settings/tokens", path).status_code == 303
    assert client.get("/v1/certificates").status_code == 401
    assert one.submit("/settings/tokens", path).status_code == 404
    assert ("per_", "token.created") in audited(api)
    assert ("per_", "token.revoked") in audited(api)


def test_a_token_ends_when_it_should(api: Api) -> None:
    one = signed_in(api)
    page = one.submit("/settings/tokens", "/settings/tokens", TOKEN)
    client = api.token(api.fleet.caller.account_id, ())
    client.token = found(r">(certfleet_\w+)</code>", page.text)
    api.fleet.now += timedelta(days=30) - timedelta(seconds=1)
    assert client.get("/v1/certificates").status_code == 200
    api.fleet.now += timedelta(seconds=1)
    assert client.get("/v1/certificates").status_code == 401
    assert "expired" in signed_in(api, email="later@example.com").page("/settings/tokens")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"days": "1000000"}, "days"),
        ({"days": ""}, "days"),
    ],
)
def test_a_refused_token_says_why(api: Api, fields: dict[str, Any], field: str) -> None:
    page = signed_in(api).submit("/settings/tokens", "/settings/tokens", {**TOKEN, **fields})
    assert page.status_code == 422
    assert mistake(page.text, field)
    assert audited(api) == []


def test_an_invited_person_signs_in_by_the_link_once_and_within_its_time(api: Api) -> None:
    one = signed_in(api)
    shown, link = invited(one)
    assert "bob@example.com" in shown
    assert link not in one.page("/settings/people")
    assert link.rpartition("/")[2] not in str(api.logs)
    bob = browser(api)
    assert bob.submit(link, link).status_code == 303
    assert "bob@example.com" in bob.page("/settings/people")
    assert browser(api).get(link).status_code == 401
    _shown, late = invited(one, "late@example.com")
    api.fleet.now += INVITATION_LIFE
    assert browser(api).get(late).status_code == 401


def test_a_new_link_is_for_those_who_never_signed_in_and_ends_the_old_one(api: Api) -> None:
    one = signed_in(api)
    _shown, old = invited(one)
    path = found(r"(/settings/people/per_\w+/invite)", one.page("/settings/people"))
    again = one.submit("/settings/people", path)
    link = found(r"(/sign-in/[\w-]+)</code>", again.text)
    assert browser(api).get(old).status_code == 401
    assert browser(api).submit(link, link).status_code == 303
    assert one.submit("/settings/people", path).status_code == 409
    assert path not in one.page("/settings/people")


def test_an_address_that_is_none_or_taken_anywhere_is_refused_alike(api: Api) -> None:
    one = signed_in(api)
    stranger(api)
    for email, says in (("nobody", "not an e-mail"), ("eve@example.com", "cannot be"), (EMAIL, "cannot be")):
        page = one.submit("/settings/people", "/settings/people", {"email": email})
        assert page.status_code == 422
        assert says in mistake(page.text, "email")


def test_a_removed_person_is_out_at_once_and_nobody_removes_themselves(api: Api) -> None:
    one = signed_in(api)
    bob = signed_in(api, email="bob@example.com")
    (path,) = re.findall(r"(/settings/people/per_\w+/remove)", one.page("/settings/people"))
    assert "Remove bob@example.com" in one.page(path)
    (mine,) = re.findall(r"(/settings/people/per_\w+/remove)", bob.page("/settings/people"))
    assert one.submit("/settings/people", mine).status_code == 409
    assert one.submit(path, path).status_code == 303
    assert bob.get("/settings").status_code == 303
    assert one.get(path).status_code == 404
    assert audited(api) == [("per_", "person.removed")]


def test_of_two_who_remove_each_other_one_stays(api: Api) -> None:
    signed_in(api)
    signed_in(api, email="bob@example.com")
    with api.fleet.transaction() as session:
        ann, bob = session.execute(select(Person).order_by(Person.email)).scalars()
        asked = api.fleet.caller.__class__(account_id=bob.account_id, token_id=bob.id, scopes=frozenset())
        remove_person(session, bob)
        with pytest.raises(Exception, match="no such person"):
            self_service.remove_person(session, asked, ann.id, now=api.fleet.now)
        assert [one.email for one in session.execute(select(Person)).scalars()] == [EMAIL]


def test_the_first_password_needs_no_other_and_later_ones_the_present(api: Api) -> None:
    one = signed_in(api)
    fields = {"password": PASSWORD, "again": PASSWORD}
    assert one.submit("/settings", "/settings/password", fields).status_code == 303
    fields = {"password": NEW_PASSWORD, "again": NEW_PASSWORD}
    refused = one.submit("/settings", "/settings/password", {"current": "wrong", **fields})
    assert "not your present password" in mistake(refused.text, "current")
    assert NEW_PASSWORD not in refused.text
    assert one.submit("/settings", "/settings/password", {"current": PASSWORD, **fields}).status_code == 303
    other = browser(api)
    assert other.submit("/sign-in", "/sign-in", {"email": EMAIL, "password": NEW_PASSWORD}).status_code == 303


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "short", "again": "short"}, "password"),
        ({"password": "x" * 1025, "again": "x" * 1025}, "password"),
        ({"password": NEW_PASSWORD, "again": "another"}, "again"),
    ],
)
def test_a_refused_password_says_why(api: Api, fields: dict[str, str], field: str) -> None:
    one = by_password(api)
    refused = one.submit("/settings", "/settings/password", {"current": PASSWORD, **fields})
    assert refused.status_code == 422
    assert mistake(refused.text, field)


def test_a_new_password_ends_the_persons_other_sessions_and_links(api: Api) -> None:
    one, bob = by_password(api), signed_in(api, email="bob@example.com")
    other = browser(api)
    assert other.submit("/sign-in", "/sign-in", {"email": EMAIL, "password": PASSWORD}).status_code == 303
    fields = {"current": PASSWORD, "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    assert one.submit("/settings", "/settings/password", fields).status_code == 303
    assert [each.get("/settings").status_code for each in (one, bob, other)] == [200, 200, 303]
    with api.fleet.transaction() as session:
        mine = session.execute(select(Person.id).where(Person.email == EMAIL)).scalar_one()
        left = select(SignInLink).where(SignInLink.person_id == mine)
        assert session.execute(left).all() == []
        assert len(session.execute(select(ConsoleSession)).all()) == 2


def test_guesses_of_the_present_password_are_counted(api: Api) -> None:
    one = by_password(api)
    fields = {"current": "wrong", "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    for _ in range(TRIES_BY_EMAIL - 1):  # the sign-in was the first
        assert one.submit("/settings", "/settings/password", fields).status_code == 422
    refused = one.submit("/settings", "/settings/password", {**fields, "current": PASSWORD})
    assert "Too many attempts" in refused.text


def test_a_calendar_is_read_at_an_address_shown_once_until_it_gets_another_or_none(api: Api) -> None:
    one = signed_in(api)
    made = one.submit("/settings/calendars", "/settings/calendars", {"name": "Team"})
    first = found(r"(/calendar/[\w-]+\.ics)</code>", made.text)
    nobody = browser(api)
    assert nobody.get(first).mimetype == "text/calendar"
    listed = one.page("/settings/calendars")
    assert first not in listed
    path = found(r"(/settings/calendars/cal_\w+)/rotate", listed)
    second = found(r"(/calendar/[\w-]+\.ics)</code>", one.submit("/settings/calendars", f"{path}/rotate").text)
    assert (nobody.get(first).status_code, nobody.get(second).status_code) == (404, 200)
    assert one.submit("/settings/calendars", f"{path}/revoke").status_code == 303
    assert nobody.get(second).status_code == 404
    assert one.submit("/settings/calendars", "/settings/calendars", {"name": ""}).status_code == 422


def test_a_stranger_sees_and_changes_nothing(api: Api) -> None:
    one, eve = signed_in(api), stranger(api)
    one.submit("/settings/tokens", "/settings/tokens", TOKEN)
    one.submit("/settings/calendars", "/settings/calendars", {"name": "Team"})
    invited(one)
    mine = one.page("/settings/tokens") + one.page("/settings/calendars") + one.page("/settings/people")
    paths = set(re.findall(r'"(/settings/\w+/(?:tok|cal|per)_\w+/\w+)"', mine))
    assert len(paths) >= 5
    theirs = eve.page("/settings/tokens") + eve.page("/settings/calendars") + eve.page("/settings/people")
    assert "bob@example.com" not in theirs
    assert not paths & set(re.findall(r'"(/settings/[^"]+)"', theirs))
    for path in paths:
        assert eve.submit("/settings", path).status_code == 404, path
        if path.endswith("/remove"):
            assert eve.get(path).status_code == 404


def test_names_of_accounts_stay_unique(api: Api) -> None:
    with api.fleet.transaction() as session:
        create_account(session, api.fleet.context.vault, name="Operations", now=api.fleet.now)
    one = signed_in(api)
    assert "Another account has that name." in one.submit("/settings", "/settings", ACCOUNT).text
    assert 'value="default"' in one.page("/settings")


REMINDERS = {
    "which": "own",
    "thresholds": "1, 30 7",
    "time_zone": "Asia/Shanghai",
    "quiet_from": "22:00",
    "quiet_until": "07:30",
    "auto_renew": "yes",
    "renew_before_days": "20",
}


def test_when_people_are_reminded_is_what_the_api_says_then(api: Api) -> None:
    one, path = signed_in(api), "/settings/reminders"
    assert one.submit(path, path, REMINDERS).status_code == 303
    page = one.page(path)
    for shown in ('value="30 7 1"', 'value="Asia/Shanghai"', 'value="22:00"', 'value="07:30"', 'value="20"'):
        assert shown in page
    account = answer(api.client.get("/v1/account"))
    assert (account["reminder_thresholds"], account["auto_renew"]) == ([30, 7, 1], True)
    usual = {**REMINDERS, "which": "usual", "quiet_from": "", "quiet_until": "", "renew_before_days": ""}
    assert one.submit(path, path, usual).status_code == 303
    account = answer(api.client.get("/v1/account"))
    assert [account[name] for name in ("reminder_thresholds", "quiet_window", "renew_before_days")] == [None] * 3
    assert audited(api) == [("per_", "account.changed")] * 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"thresholds": "soon"}, "reminder_thresholds"),
        ({"thresholds": "7 7"}, "reminder_thresholds"),
        ({"thresholds": "99999"}, "reminder_thresholds"),
        ({"time_zone": "Mars"}, "time_zone"),
        ({"quiet_from": ""}, "quiet_window"),
        ({"quiet_until": "22:00"}, "quiet_window"),
        ({"quiet_until": "25:00"}, "quiet_window"),
        ({"renew_before_days": "0"}, "renew_before_days"),
        ({"renew_before_days": "x"}, "renew_before_days"),
    ],
)
def test_a_refused_change_of_reminders_says_why(api: Api, fields: dict[str, str], field: str) -> None:
    one, path = signed_in(api), "/settings/reminders"
    page = one.submit(path, path, {**REMINDERS, **fields})
    assert page.status_code == 422
    assert mistake(page.text, field)
    assert audited(api) == []
