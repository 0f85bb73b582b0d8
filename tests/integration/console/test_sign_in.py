"""Sign-in: by password and by link, counted, the same for unknown and wrong; sessions that end; forms of ours only."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from services.api.console.registration import is_console
from shared.models import ConsoleSession, Person, SignInCount, SignInLink
from shared.usecases.people import remove_person
from shared.usecases.sign_in import IDLE, LONGEST, TRIES_BY_ADDRESS, TRIES_BY_EMAIL, WINDOW
from tests.support.api import Api, build_api
from tests.support.console import CSP, EMAIL, PASSWORD, Browser, browser, person, signed_in, stranger, token_of

OPEN = {
    "/",
    "/sign-in",
    "/sign-in/<token>",
    "/language",
    "/theme",
    "/static/<path:name>",
}
GOOD = {"email": EMAIL, "password": PASSWORD}


def by_password(one: Browser, **fields: str) -> int:
    return one.submit("/sign-in", "/sign-in", {**GOOD, **fields}).status_code


def test_a_password_signs_in_whatever_the_case_of_the_address(api: Api) -> None:
    person(api)
    one = browser(api)
    assert by_password(one, email="Ann@Example.com") == 303
    assert "Your first certificate" in one.page("/certificates")
    assert EMAIL in one.page("/certificates")


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "another password"},
        {"email": "nobody@example.com"},
        {"email": "", "password": ""},
        {"email": "ann@example.com\0"},
        {"password": "x" * 100_000},
    ],
)
def test_wrong_and_unknown_are_answered_alike(api: Api, fields: dict[str, str]) -> None:
    person(api)
    person(api, email="link@example.com", password=None)
    one = browser(api)
    refused = one.submit("/sign-in", "/sign-in", {**GOOD, **fields})
    assert refused.status_code == 401
    assert "The e-mail address or the password is wrong." in refused.text
    assert "certfleet_session" not in str(refused.headers.getlist("Set-Cookie"))


def test_somebody_without_a_password_is_refused_like_anybody(api: Api) -> None:
    person(api, password=None)
    assert by_password(browser(api)) == 401
    assert by_password(browser(api), password="") == 401


def test_a_link_asks_first_and_signs_in_once(api: Api) -> None:
    token = person(api)
    first, second = browser(api), browser(api)
    form = token_of(second.page(f"/sign-in/{token}"))
    assert first.submit(f"/sign-in/{token}", f"/sign-in/{token}").status_code == 303
    assert first.get("/certificates").status_code == 200
    again = second.http.post(f"/sign-in/{token}", data={"csrf_token": form})
    assert again.status_code == 401
    assert second.get(f"/sign-in/{token}").status_code == 401


def test_looking_at_a_link_does_not_use_it_up(api: Api) -> None:
    token = person(api)
    for _ in range(3):
        assert browser(api).get(f"/sign-in/{token}").status_code == 200


def test_a_link_runs_out(api: Api) -> None:
    token = person(api)
    api.fleet.now += timedelta(minutes=30, seconds=-1)
    assert browser(api).get(f"/sign-in/{token}").status_code == 200
    api.fleet.now += timedelta(seconds=1)
    assert browser(api).get(f"/sign-in/{token}").status_code == 401


def test_neither_link_nor_session_nor_password_is_kept_in_clear(api: Api) -> None:
    token = person(api)
    one = signed_in(api, email="bob@example.com")
    cookie = one.http.get_cookie("certfleet_session")
    assert cookie is not None
    with api.fleet.transaction() as session:
        kept = [*session.execute(select(SignInLink.token_hash)).scalars()]
        kept += session.execute(select(ConsoleSession.token_hash)).scalars()
        hashes = [text for text in session.execute(select(Person.password_hash)).scalars() if text]
    assert token not in kept
    assert cookie.value not in kept
    assert [text.split("$")[1] for text in hashes] == ["argon2id"]


def test_the_cookie_is_for_this_host_and_no_script_and_changes_at_sign_in(api: Api) -> None:
    person(api)
    one = browser(api)
    assert by_password(one) == 303
    before = one.http.get_cookie("certfleet_session")
    again = one.http.get("/sign-in")
    refreshed = one.http.post("/sign-in", data={**GOOD, "csrf_token": token_of(again.text)})
    after = one.http.get_cookie("certfleet_session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    header = next(text for text in refreshed.headers.getlist("Set-Cookie") if text.startswith("certfleet_session="))
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(header.split("; "))
    with api.fleet.transaction() as session:
        assert len(session.execute(select(ConsoleSession)).all()) == 1


def test_by_https_cookies_are_secure_and_bound_to_the_host(api: Api) -> None:
    settings = replace(api.fleet.context.settings, public_url="https://certs.example.com")
    https = build_api(api.fleet, context=replace(api.fleet.context, settings=settings))
    person(https)
    one = Browser(http=https.app.test_client())
    one.http.environ_base["wsgi.url_scheme"] = "https"
    shown = one.get("/sign-in", base_url="https://certs.example.com")
    answer = one.http.post(
        "/sign-in", base_url="https://certs.example.com", data={**GOOD, "csrf_token": token_of(shown.text)}
    )
    assert answer.status_code == 303
    header = next(text for text in answer.headers.getlist("Set-Cookie") if "session" in text)
    assert header.startswith("__Host-certfleet_session=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(header.split("; "))
    assert "Domain" not in header
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_session_ends_when_idle_and_in_the_end_anyway(api: Api) -> None:
    one = signed_in(api)
    began = api.fleet.now
    while api.fleet.now + IDLE - timedelta(minutes=1) < began + LONGEST:
        api.fleet.now += IDLE - timedelta(minutes=1)
        assert one.get("/certificates").status_code == 200
    api.fleet.now = began + LONGEST
    assert one.get("/certificates").status_code == 303
    idle = signed_in(api, email="bob@example.com")
    api.fleet.now += IDLE
    assert idle.get("/certificates").status_code == 303


def test_signing_out_ends_the_session_and_not_only_the_cookie(api: Api) -> None:
    one = signed_in(api)
    cookie = one.http.get_cookie("certfleet_session")
    assert cookie is not None
    assert one.submit("/certificates", "/sign-out").status_code == 303
    one.http.set_cookie("certfleet_session", cookie.value)
    assert one.get("/certificates").status_code == 303


def test_a_person_sees_and_ends_the_own_sessions_only(api: Api) -> None:
    one = signed_in(api)
    eve = stranger(api)
    with api.fleet.transaction() as session:
        mine = session.execute(
            select(ConsoleSession.id).join(Person, Person.id == ConsoleSession.person_id).where(Person.email == EMAIL)
        ).scalar_one()
    assert eve.page("/sessions").count("<tr>") == 2
    assert eve.submit("/sessions", f"/sessions/{mine}/end").status_code == 404
    assert one.get("/certificates").status_code == 200
    assert one.submit("/sessions", f"/sessions/{mine}/end").status_code == 303
    assert one.get("/certificates").status_code == 303


def test_a_removed_person_is_out_at_once(api: Api) -> None:
    one = signed_in(api)
    with api.fleet.transaction() as session:
        remove_person(session, session.execute(select(Person)).scalar_one())
    assert one.get("/certificates").status_code == 303


def test_tries_are_counted_by_address_of_mail_and_refused_even_with_the_right_password(api: Api) -> None:
    person(api)
    one, wrong = browser(api), {"password": "wrong"}
    for _ in range(TRIES_BY_EMAIL):
        assert by_password(one, **wrong) == 401
    refused = one.submit("/sign-in", "/sign-in", GOOD)
    assert refused.status_code == 409
    assert "Too many attempts" in refused.text
    api.fleet.now += WINDOW
    assert by_password(browser(api)) == 303


def test_tries_are_counted_by_network_address_over_many_mails_and_the_counts_go_away(api: Api) -> None:
    one = browser(api)
    token = one.token("/sign-in")
    for number in range(TRIES_BY_ADDRESS):
        data = {"csrf_token": token, "email": f"guess{number}@example.com", "password": "x"}
        assert one.http.post("/sign-in", data=data).status_code == 401
    person(api)
    assert by_password(one) == 409
    api.fleet.now += WINDOW
    assert by_password(one) == 303
    with api.fleet.transaction() as session:
        assert len(session.execute(select(SignInCount)).all()) == 2


def test_every_page_needs_a_session_and_every_form_a_token(api: Api) -> None:
    nobody, somebody = browser(api), signed_in(api)
    rules = [rule for rule in api.app.url_map.iter_rules() if is_console(rule.endpoint) and rule.rule not in OPEN]
    assert len(rules) > 3
    for rule in rules:
        path = rule.rule.replace("<", "").replace(">", "")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            refused = nobody.http.open(path, method=method)
            assert (refused.status_code, refused.headers["Location"].split("?")[0]) == (303, "/sign-in"), path
            if method != "GET":
                assert somebody.http.open(path, method=method).status_code == 403, path


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_from_elsewhere_is_refused_even_with_its_token(api: Api, headers: dict[str, str]) -> None:
    one = signed_in(api)
    assert one.submit("/certificates", "/sign-out", headers=headers).status_code == 403
    assert one.get("/certificates").status_code == 200


def test_the_token_of_another_session_is_refused(api: Api) -> None:
    one, other = signed_in(api), signed_in(api, email="bob@example.com")
    data = {"csrf_token": other.token("/certificates")}
    assert one.http.post("/sign-out", data=data).status_code == 403
    assert browser(api).http.post("/sign-in", data={**GOOD, **data}).status_code == 403


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("/certificates?q=shop", "/certificates?q=shop"),
        ("https://evil.example/", "/overview"),
        ("//evil.example/", "/overview"),
        ("/\\evil.example", "/overview"),
        ("/\t/evil.example", "/overview"),
        ("javascript:alert(1)", "/overview"),
    ],
)
def test_sign_in_goes_on_where_one_was_and_never_elsewhere(api: Api, wanted: str, there: str) -> None:
    person(api)
    answer = browser(api).submit("/sign-in", "/sign-in", {**GOOD, "next": wanted})
    assert answer.headers["Location"] == there


def test_every_answer_of_the_console_has_the_strict_headers(api: Api) -> None:
    one = signed_in(api)
    for path in ("/", "/sign-in", "/certificates", "/sessions", "/certificates?cursor=x", "/sign-in/nothing"):
        headers = one.get(path).headers
        assert headers["Content-Security-Policy"] == CSP, path
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"


def test_static_files_are_kept_for_ever_at_addresses_of_their_content(api: Api) -> None:
    one = browser(api)
    page = one.page("/sign-in")
    address = next(part for part in page.split('"') if part.startswith("/static/console."))
    answer = one.get(address)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.mimetype == "text/css"
    packed = one.get(address, headers={"Accept-Encoding": "br, gzip"})
    assert (packed.headers["Content-Encoding"], packed.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(packed.data) == answer.data
    for path in ("/static/console.css", "/static/../app.py", "/static/console.0000000000000000.css"):
        assert one.get(path).status_code == 404


def test_no_page_has_anything_inline(api: Api) -> None:
    one = signed_in(api)
    for path in ("/sign-in", "/certificates", "/sessions"):
        page = one.page(path)
        assert "<style" not in page
        assert " style=" not in page
        assert "<script>" not in page
        assert " onclick=" not in page
