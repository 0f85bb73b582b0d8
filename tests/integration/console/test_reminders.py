"""Reminders in the console: the year to come, answers to reminders and taking them back, who has unsubscribed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from services.api.console.pages.reminders import ROWS
from shared.models import Certificate, Unsubscribed
from tests.support.api import Api
from tests.support.console import EMAIL, signed_in, stranger
from tests.support.reminders import add_certificate


def certificate(api: Api, certificate_id: str) -> Certificate:
    return api.fleet.certificate(certificate_id)


def add(api: Api, days: float, **overrides: Any) -> str:
    return add_certificate(api.fleet, left=timedelta(days=days), **overrides)


def test_an_empty_year_says_what_will_be_here(api: Api) -> None:
    page = signed_in(api).page("/reminders")
    assert "Nothing ends within a year" in page
    assert page.count('<table class="month">') == 12


def test_what_ends_is_listed_by_day_and_counted_in_the_calendar(api: Api) -> None:
    first, second = add(api, 10, name="First"), add(api, 10, name="Second")
    add(api, 400, name="Later")
    add(api, -1, name="Gone")
    add(api, 12, name="Old", replaced_by_id=first)
    add(api, 12, name="Refused", state="rejected")
    page = signed_in(api).page("/reminders")
    day = certificate(api, first).not_after
    assert day is not None
    assert re.findall(r'href="/certificates/(\w+)"', page) == [first, second]
    assert f'href="/reminders?on={day:%Y-%m-%d}">{day.day}<b>2</b>' in page
    assert "2 end" in page


def test_a_day_and_a_month_are_shown_by_themselves(api: Api) -> None:
    first, second = add(api, 3), add(api, 80)
    one = signed_in(api)
    at = certificate(api, second).not_after
    assert at is not None
    for on in (f"{at:%Y-%m-%d}", f"{at:%Y-%m}"):
        page = one.page(f"/reminders?on={on}")
        assert re.findall(r'href="/certificates/(\w+)"', page) == [second], on
    for on in ("x", "2030-13", "2030-02-30", "9999-12-31", "0001-01-01", "\u0662\u0660\u0663\u0660-01"):
        assert first in one.page(f"/reminders?on={on}"), on


def test_the_list_is_paged_in_order(api: Api) -> None:
    for number in range(ROWS + 1):
        add(api, 100 - number, name=f"Number {number}")
    one = signed_in(api)
    page = one.page("/reminders")
    names = re.findall(r">Number (\d+)</a>", page)
    assert names == [str(number) for number in range(ROWS, 0, -1)]
    (more,) = re.findall(r'rel="next" href="([^"]+)"', page)
    assert re.findall(r">Number (\d+)</a>", one.page(f"/reminders{more.replace('&amp;', '&')}")) == ["0"]
    assert one.get("/reminders?cursor=x").status_code == 422


def test_every_answer_is_given_shown_with_who_gave_it_and_taken_back(api: Api) -> None:
    certificate_id = add(api, 20)
    one, path = signed_in(api), f"/reminders/certificates/{certificate_id}"
    assert one.submit(path, f"{path}/acknowledge").status_code == 303
    page = one.page(path)
    assert EMAIL in page
    assert "acknowledged" in one.page("/reminders")
    assert one.submit(path, f"{path}/acknowledge/undo").status_code == 303
    (first, *_others) = re.findall(r'<option value="([^"]+)">', one.page(path))
    assert one.submit(path, f"{path}/snooze", {"until": first}).status_code == 303
    assert "snoozed" in one.page("/reminders/answers")
    assert one.submit(path, f"{path}/snooze/undo").status_code == 303
    assert one.submit(path, f"{path}/mute").status_code == 303
    assert "for ever" in one.page("/reminders/answers")
    assert one.submit("/reminders/answers", f"{path}/resume").status_code == 303
    found = certificate(api, certificate_id)
    assert (found.reminders_muted, found.reminders_acknowledged_at, found.reminders_snoozed_until) == (
        False,
        None,
        None,
    )
    assert "Nobody has answered" in one.page("/reminders/answers")


@pytest.mark.parametrize("until", ["", "tomorrow", "2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_a_snooze_that_cannot_be_says_why(api: Api, until: str) -> None:
    certificate_id = add(api, 20)
    path = f"/reminders/certificates/{certificate_id}"
    page = signed_in(api).submit(path, f"{path}/snooze", {"until": until})
    assert page.status_code == 422
    assert 'id="until-mistake"' in page.text
    assert certificate(api, certificate_id).reminders_snoozed_until is None


def test_close_to_the_end_no_snooze_is_offered_and_an_invalid_certificate_has_no_page(api: Api) -> None:
    one = signed_in(api)
    assert "cannot be held back any more" in one.page(f"/reminders/certificates/{add(api, 2)}")
    assert one.get(f"/reminders/certificates/{add(api, 20, state='rejected')}").status_code == 404


def test_who_has_unsubscribed_is_subscribed_again(api: Api) -> None:
    recipient = "gone@example.com"
    with api.fleet.transaction() as session:
        session.add(Unsubscribed(account_id=api.fleet.caller.account_id, recipient=recipient, at=api.fleet.now))
    one, eve = signed_in(api), stranger(api)
    assert recipient in one.page("/reminders/answers")
    assert recipient not in eve.page("/reminders/answers")
    assert eve.submit("/reminders", "/reminders/subscribe", {"recipient": recipient}).status_code == 404
    assert one.submit("/reminders", "/reminders/subscribe", {"recipient": recipient}).status_code == 303
    assert recipient not in one.page("/reminders/answers")
    assert one.submit("/reminders", "/reminders/subscribe", {"recipient": "x"}).status_code in {404, 422}


def test_a_stranger_sees_and_answers_nothing(api: Api) -> None:
    certificate_id = add(api, 20)
    eve, path = stranger(api), f"/reminders/certificates/{certificate_id}"
    assert certificate_id not in eve.page("/reminders")
    assert eve.get(path).status_code == 404
    for verb in ("acknowledge", "mute", "resume", "acknowledge/undo", "snooze/undo"):
        assert eve.submit("/reminders", f"{path}/{verb}").status_code == 404, verb
    assert eve.submit("/reminders", f"{path}/snooze", {"until": "2999-01-01T00:00:00Z"}).status_code == 404
    assert not certificate(api, certificate_id).reminders_muted
