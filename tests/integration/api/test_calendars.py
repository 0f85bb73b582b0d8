"""Calendar feeds: RFC 5545 as an independent reader takes it, at an address that only its holder knows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import icalendar
import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from shared.domain.reminders import DAY
from shared.domain.rollout import DeploymentState
from shared.models import CalendarFeed
from shared.usecases.calendar_feeds import MOST
from tests.support.api import Api, answer, codes
from tests.support.reminders import add_certificate, add_deployment, change_certificate


def make_feed(api: Api, **body: Any) -> tuple[str, str]:
    """Id and path of a new feed."""
    made = answer(api.client.post("/v1/calendar-feeds", body))
    return made["id"], path_of(api, made["url"])


def path_of(api: Api, url: str) -> str:
    return url.removeprefix(api.fleet.context.settings.public_url)


def fetch(api: Api, path: str, **headers: str) -> TestResponse:
    """Without any token, as a calendar does."""
    return api.app.test_client().get(path, headers=headers)


def events(response: TestResponse) -> list[Any]:
    assert response.status_code == 200, response.text
    return icalendar.Calendar.from_ical(response.data).walk("VEVENT")


def test_a_feed_shows_when_what_expires_and_where_it_is(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)
    add_deployment(api.fleet, certificate_id, "eu-central-1", state=DeploymentState.DEPLOYED, served="match")
    _, path = make_feed(api)

    response = fetch(api, path)

    (event,) = events(response)
    assert response.content_type == "text/calendar; charset=utf-8"
    assert event["uid"] == f"{certificate_id}@certfleet"
    assert event["summary"] == "www.example.com expires"
    assert event.start == api.fleet.now + 20 * DAY
    assert "Regions: eu-central-1" in event["description"]
    assert event["url"].endswith(f"/certificates/{certificate_id}")


def test_every_line_ends_with_crlf_and_has_75_octets_at_most_whatever_the_names(api: Api) -> None:
    hostile = 'Größe 很长的名字 🦊, ; \\ " ' * 6 + "\u202e\u0007\r\nBEGIN:VALARM\r\nEND:VEVENT"
    add_certificate(api.fleet, left=20 * DAY, name=hostile, common_name=hostile)
    _, path = make_feed(api)

    raw = fetch(api, path).data

    assert raw.endswith(b"END:VCALENDAR\r\n")
    lines = raw.split(b"\r\n")
    assert all(len(line) <= 75 and b"\n" not in line and b"\r" not in line for line in lines)
    assert all(line.decode("utf-8") is not None for line in lines)
    assert lines.count(b"END:VEVENT") == 1
    assert b"BEGIN:VALARM" not in lines
    (event,) = events(fetch(api, path))
    assert event["summary"].startswith('Größe 很长的名字 🦊, ; \\ "')
    assert "\u202e" not in event["summary"]


def test_what_nobody_has_to_do_anything_about_is_not_shown(api: Api) -> None:
    shown = add_certificate(api.fleet, left=20 * DAY)
    for change in ({"reminders_muted": True}, {"state": "rejected"}, {"replaced_by_id": shown}):
        change_certificate(api.fleet, add_certificate(api.fleet, left=20 * DAY), **change)
    add_certificate(api.fleet, left=-100 * DAY)
    past = add_certificate(api.fleet, left=-5 * DAY)
    _, path = make_feed(api)

    assert [event["uid"] for event in events(fetch(api, path))] == [f"{past}@certfleet", f"{shown}@certfleet"]


def test_an_empty_feed_is_a_calendar(api: Api) -> None:
    _, path = make_feed(api)

    assert events(fetch(api, path)) == []


def test_the_same_expiries_are_the_same_bytes_and_are_not_sent_twice(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)
    _, path = make_feed(api)
    first = fetch(api, path)
    api.fleet.pass_time(timedelta(hours=1))

    again = fetch(api, path, **{"If-None-Match": first.headers["ETag"]})
    change_certificate(api.fleet, certificate_id, name="Other")
    changed = fetch(api, path, **{"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")
    assert changed.status_code == 200
    assert [event["uid"] for event in events(changed)] == [event["uid"] for event in events(first)]


def test_a_rotated_feed_has_another_address_and_a_revoked_one_none(api: Api) -> None:
    feed_id, old = make_feed(api, name="Operations")

    new = path_of(api, answer(api.client.post(f"/v1/calendar-feeds/{feed_id}/rotate"))["url"])
    assert (fetch(api, old).status_code, fetch(api, new).status_code) == (404, 200)
    assert api.client.delete(f"/v1/calendar-feeds/{feed_id}").status_code == 204

    assert fetch(api, new).status_code == 404
    assert api.client.items("/v1/calendar-feeds") == []
    actions = [entry["action"] for entry in api.client.items("/v1/audit")]
    assert actions == ["calendar_feed.revoked", "calendar_feed.rotated", "calendar_feed.created"]


def test_an_address_is_shown_once_kept_as_a_hash_and_never_logged(api: Api) -> None:
    feed_id, path = make_feed(api)
    token = path.removeprefix("/calendar/").removesuffix(".ics")
    fetch(api, path)

    (listed,) = api.client.items("/v1/calendar-feeds")
    with api.fleet.transaction() as session:
        stored = repr(session.execute(text("SELECT row_to_json(f)::text FROM calendar_feeds f")).all())
        assert session.get_one(CalendarFeed, feed_id).token_hash != token

    assert "url" not in listed
    assert token not in repr(listed) + stored + repr(list(api.logs))
    assert "request_answered" in repr(list(api.logs))


@pytest.mark.parametrize("token", ["x", "%00", "x" * 3000, "%F0%9F%98%80", "certfleet_x"])
def test_no_other_address_finds_a_calendar(api: Api, token: str) -> None:
    make_feed(api)

    assert fetch(api, f"/calendar/{token}.ics").status_code == 404


def test_one_accounts_feed_shows_nothing_of_another(api: Api) -> None:
    add_certificate(api.fleet, left=20 * DAY)
    stranger = api.account("stranger")
    made = answer(stranger.post("/v1/calendar-feeds", {}))

    assert events(fetch(api, path_of(api, made["url"]))) == []
    assert api.client.delete(f"/v1/calendar-feeds/{made['id']}").status_code == 404


def test_a_name_is_one_line_and_the_number_of_feeds_has_an_end(api: Api) -> None:
    assert codes(api.client.post("/v1/calendar-feeds", {"name": "a\nb"})) == {("name", "invalid_character")}
    for _ in range(MOST):
        make_feed(api)

    assert answer(api.client.post("/v1/calendar-feeds", {}))["code"] == "too_many_feeds"
