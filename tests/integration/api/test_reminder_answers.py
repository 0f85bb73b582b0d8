"""Acknowledge, snooze and mute by API: visible on the certificate, in the list and in the audit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.domain.reminders import DAY
from shared.usecases import answers
from tests.support.api import Api, answer, codes
from tests.support.reminders import OPS, add_certificate


def reminders_of(api: Api, certificate_id: str) -> dict[str, Any]:
    shown = answer(api.client.get(f"/v1/certificates/{certificate_id}"))
    (listed,) = api.client.items("/v1/certificates")
    assert listed["reminders"] == shown["reminders"]
    reminders: dict[str, Any] = shown["reminders"]
    return reminders


def written(moment: Any) -> str:
    return str(moment.isoformat().replace("+00:00", "Z"))


def test_an_acknowledgement_is_seen_until_it_is_withdrawn(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)
    path = f"/v1/certificates/{certificate_id}/acknowledge"

    assert api.client.post(path).status_code == 200
    seen = reminders_of(api, certificate_id)
    assert api.client.delete(path).status_code == 200

    assert seen["acknowledged_at"] == written(api.fleet.now)
    assert seen["acknowledged_by"].startswith("tok_")
    assert seen["held_until"] == written(api.fleet.now + 17 * DAY)
    assert reminders_of(api, certificate_id) == {
        "muted": False,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "snoozed_until": None,
        "snoozed_by": None,
        "held_until": None,
    }
    actions = [entry["action"] for entry in api.client.items("/v1/audit")]
    assert actions[:2] == ["reminders.acknowledgement_withdrawn", "reminders.acknowledged"]


def test_a_snooze_is_seen_until_it_is_ended(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)
    path, until = f"/v1/certificates/{certificate_id}/snooze", written(api.fleet.now + 5 * DAY)

    assert api.client.post(path, {"until": until}).status_code == 200
    seen = reminders_of(api, certificate_id)
    assert api.client.delete(path).status_code == 200

    assert (seen["snoozed_until"], seen["held_until"]) == (until, until)
    assert reminders_of(api, certificate_id)["snoozed_until"] is None
    first, second = api.client.items("/v1/audit")[:2]
    assert (first["action"], second["action"]) == ("reminders.snooze_ended", "reminders.snoozed")
    assert second["details"] == {"until": until}


def test_a_snooze_past_the_floor_says_until_when_it_could_be(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)
    until = written(api.fleet.now + 17 * DAY + timedelta(seconds=1))

    response = api.client.post(f"/v1/certificates/{certificate_id}/snooze", {"until": until})

    assert codes(response) == {("until", "snooze_out_of_range")}
    assert written(api.fleet.now + 17 * DAY) in response.text


def test_a_snooze_takes_a_time_and_nothing_else(api: Api) -> None:
    path = f"/v1/certificates/{add_certificate(api.fleet, left=20 * DAY)}/snooze"

    assert codes(api.client.post(path, {})) == {("until", "missing_field")}
    assert codes(api.client.post(path, {"until": "tomorrow"})) == {("until", "invalid_time")}


def test_muting_is_a_change_of_the_certificate_and_shows_beside_the_other_answers(api: Api) -> None:
    certificate_id = add_certificate(api.fleet, left=20 * DAY)

    api.client.patch(f"/v1/certificates/{certificate_id}", {"reminders_muted": True})

    assert reminders_of(api, certificate_id)["muted"] is True
    api.client.patch(f"/v1/certificates/{certificate_id}", {"reminders_muted": False})
    assert reminders_of(api, certificate_id)["muted"] is False


def test_who_has_unsubscribed_is_listed_and_can_be_subscribed_again(api: Api) -> None:
    with api.fleet.transaction() as session:
        answers.unsubscribe(session, api.fleet.caller, OPS, now=api.fleet.now)

    listed = api.client.items("/v1/reminders/unsubscribed")
    again = [api.client.post("/v1/reminders/subscribe", {"recipient": OPS}).status_code for _ in range(2)]

    assert listed == [{"recipient": OPS, "at": written(api.fleet.now)}]
    assert again == [204, 404]
    assert api.client.items("/v1/reminders/unsubscribed") == []
    assert codes(api.client.post("/v1/reminders/subscribe", {"recipient": "no address"})) == {
        ("recipient", "invalid_email")
    }
