"""Acknowledged, snoozed and muted reminders: what they hold back, and what breaks through."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.answers import FLOOR
from shared.domain.reminders import DAY, EXPIRED
from shared.errors import Conflict, NotFound, Rejected
from shared.models import Certificate
from shared.usecases import answers
from shared.usecases.reminder_scan import scan
from tests.support.fleet import Fleet, new_caller
from tests.support.reminders import (
    OPS,
    add_certificate,
    change_certificate,
    expiry_events,
    ledger,
    notices,
    set_account_contacts,
)

SECOND = timedelta(seconds=1)


def thresholds_over_its_life(fleet: Fleet, *, days: int) -> list[int]:
    for hour in range(0, days * 24, 6):
        scan(fleet.context, now=fleet.now + timedelta(hours=hour))
    return [row.threshold for row in ledger(fleet)]


def test_an_acknowledgement_holds_back_until_three_days_before_the_end_and_no_longer(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=40 * DAY)
    with fleet.transaction() as session:
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now)

    assert thresholds_over_its_life(fleet, days=42) == [3, 1, 0, EXPIRED]
    assert len(expiry_events(fleet)) == 4


def test_a_snooze_holds_back_until_its_end(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=40 * DAY)
    with fleet.transaction() as session:
        answers.snooze(session, fleet.caller, certificate_id, until=fleet.now + 28 * DAY, now=fleet.now)

    assert thresholds_over_its_life(fleet, days=42) == [15, 7, 3, 1, 0, EXPIRED]


def test_at_the_end_of_a_snooze_the_nearest_notice_comes_at_once(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    with fleet.transaction() as session:
        answers.snooze(session, fleet.caller, certificate_id, until=fleet.now + 6 * DAY, now=fleet.now)

    assert scan(fleet.context, now=fleet.now + 6 * DAY - SECOND).events == 0
    assert scan(fleet.context, now=fleet.now + 6 * DAY).by_threshold == {15: 1}


@pytest.mark.parametrize("beyond", [SECOND, 30 * DAY])
def test_no_snooze_goes_past_the_floor(fleet: Fleet, beyond: timedelta) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    latest = fleet.now + 20 * DAY - FLOOR

    with fleet.transaction() as session:
        with pytest.raises(Rejected, match="and no later"):
            answers.snooze(session, fleet.caller, certificate_id, until=latest + beyond, now=fleet.now)
        answers.snooze(session, fleet.caller, certificate_id, until=latest, now=fleet.now)

    assert scan(fleet.context, now=latest - SECOND).events == 0
    assert scan(fleet.context, now=latest).by_threshold == {3: 1}


@pytest.mark.parametrize("after", [timedelta(0), -SECOND, -400 * DAY])
def test_no_snooze_ends_in_the_past(fleet: Fleet, after: timedelta) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)

    with fleet.transaction() as session, pytest.raises(Rejected):
        answers.snooze(session, fleet.caller, certificate_id, until=fleet.now + after, now=fleet.now)


@pytest.mark.parametrize("left", [3 * DAY, DAY, -DAY])
def test_the_last_days_can_not_be_snoozed_and_an_acknowledgement_then_holds_nothing_back(
    fleet: Fleet, left: timedelta
) -> None:
    certificate_id = add_certificate(fleet, left=left)

    with fleet.transaction() as session:
        with pytest.raises(Rejected, match="any more"):
            answers.snooze(session, fleet.caller, certificate_id, until=fleet.now + timedelta(hours=1), now=fleet.now)
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now)

    assert scan(fleet.context, now=fleet.now).events == 1


def test_a_snooze_that_somehow_lies_beyond_the_floor_holds_nothing_back_there(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    change_certificate(fleet, certificate_id, reminders_snoozed_until=fleet.now + 400 * DAY)

    assert scan(fleet.context, now=fleet.now + 17 * DAY).by_threshold == {3: 1}


def test_what_is_resumed_is_told_at_once(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    with fleet.transaction() as session:
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now)
        answers.snooze(session, fleet.caller, certificate_id, until=fleet.now + DAY, now=fleet.now)
        answers.mute(session, fleet.caller, certificate_id, now=fleet.now)
    assert scan(fleet.context, now=fleet.now).events == 0

    with fleet.transaction() as session:
        answers.resume(session, fleet.caller, certificate_id, now=fleet.now)

    assert scan(fleet.context, now=fleet.now).by_threshold == {30: 1}


def test_who_acknowledged_first_stays(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY)
    with fleet.transaction() as session:
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now)
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now + DAY)

    with fleet.transaction() as session:
        assert session.get_one(Certificate, certificate_id).reminders_acknowledged_at == fleet.now


def test_another_account_answers_nothing(fleet: Fleet) -> None:
    other = new_caller(fleet.context, "other", now=fleet.now)
    certificate_id = add_certificate(fleet, left=20 * DAY)

    with fleet.transaction() as session:
        for answer in (answers.acknowledge, answers.mute, answers.resume, answers.end_snooze):
            with pytest.raises(NotFound):
                answer(session, other, certificate_id, now=fleet.now)


def test_what_is_not_valid_takes_no_answer(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=20 * DAY, state="rejected", not_after=None, not_before=None)

    with fleet.transaction() as session, pytest.raises(Conflict):
        answers.acknowledge(session, fleet.caller, certificate_id, now=fleet.now)


def test_who_has_unsubscribed_is_told_nothing_and_the_others_are(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=5 * DAY, contacts=[OPS, "boss@example.com"])
    with fleet.transaction() as session:
        answers.unsubscribe(session, fleet.caller, OPS, now=fleet.now)

    scan(fleet.context, now=fleet.now)

    assert notices(fleet) == [(certificate_id, 7, "boss@example.com")]


def test_where_all_contacts_have_unsubscribed_the_accounts_are_told(fleet: Fleet) -> None:
    set_account_contacts(fleet, "team@example.com")
    certificate_id = add_certificate(fleet, left=5 * DAY)
    with fleet.transaction() as session:
        answers.unsubscribe(session, fleet.caller, OPS, now=fleet.now)

    scan(fleet.context, now=fleet.now)

    assert notices(fleet) == [(certificate_id, 7, "team@example.com")]


def test_where_everybody_has_unsubscribed_the_event_still_comes(fleet: Fleet) -> None:
    add_certificate(fleet, left=5 * DAY)
    with fleet.transaction() as session:
        answers.unsubscribe(session, fleet.caller, OPS, now=fleet.now)

    result = scan(fleet.context, now=fleet.now)

    assert (result.events, result.without_recipient, result.reminders) == (1, 1, 0)


def test_one_accounts_unsubscribed_are_anothers_recipients(fleet: Fleet) -> None:
    other = new_caller(fleet.context, "other", now=fleet.now)
    certificate_id = add_certificate(fleet, left=5 * DAY)
    with fleet.transaction() as session:
        answers.unsubscribe(session, other, OPS, now=fleet.now)

    scan(fleet.context, now=fleet.now)

    assert notices(fleet) == [(certificate_id, 7, OPS)]


def test_who_subscribes_again_is_told_again(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=5 * DAY)
    with fleet.transaction() as session:
        answers.unsubscribe(session, fleet.caller, OPS, now=fleet.now)
        answers.subscribe_again(session, fleet.caller, OPS, now=fleet.now)
        with pytest.raises(NotFound):
            answers.subscribe_again(session, fleet.caller, OPS, now=fleet.now)

    scan(fleet.context, now=fleet.now)

    assert notices(fleet) == [(certificate_id, 7, OPS)]
