"""The webhook pages: make, change, rotate, switch and delete endpoints; whose they are; no secret but once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import select

from services.api.console.webhooks_words import MEANINGS
from shared.events.catalogue import MEANING
from shared.models import AuditEntry
from shared.usecases.accounts import callback_secret
from tests.support.api import Api, answer
from tests.support.console import Browser, signed_in, stranger

URL = "https://93.184.216.34/hooks?key=unshown"
HOST = "93.184.216.34"
FORM = {"url": URL, "types": "deployment.* job.failed", "tags": "team=web\nlive", "description": "On call"}


def add(one: Browser, **fields: Any) -> tuple[str, str]:
    """A new endpoint's id and secret, as the page shows it once."""
    page = one.submit("/webhooks/add", "/webhooks/add", {**FORM, "signature_scheme": "hmac-sha256", **fields})
    assert page.status_code == 200, page.text
    return found(r"/webhooks/(whk_\w+)", page.text), found(r"(whsec_[\w+/=]+)", page.text)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def audited(api: Api, action: str) -> list[str]:
    with api.fleet.transaction() as session:
        return list(session.execute(select(AuditEntry.actor).where(AuditEntry.action == action)).scalars())


def test_an_empty_list_teaches_and_a_full_one_shows_hosts_only(api: Api) -> None:
    one = signed_in(api)
    assert "Hear of every change" in one.page("/webhooks")
    webhook_id, _secret = add(one, regions=["cn-hangzhou"])
    page = one.page("/webhooks")
    assert f'<a href="/webhooks/{webhook_id}">{HOST}</a>' in page
    assert "unshown" not in page
    assert {"deployment.*", "job.failed", "team=web", "live=*", "cn-hangzhou", "On call"} <= set(
        re.findall(r"[\w=.*-]+(?: call)?", page)
    )


def test_the_secret_is_shown_once_in_an_answer_that_nothing_keeps(api: Api) -> None:
    one = signed_in(api)
    page = one.submit("/webhooks/add", "/webhooks/add", {**FORM, "signature_scheme": "hmac-sha256"})
    secret = found(r"(whsec_[\w+/=]+)", page.text)
    assert page.headers["Cache-Control"] == "no-store"
    webhook_id = found(r"/webhooks/(whk_\w+)", page.text)
    paths = ("/webhooks", f"/webhooks/{webhook_id}", f"/webhooks/{webhook_id}/edit", f"/webhooks/{webhook_id}/rotate")
    assert not any(secret in one.page(path) for path in paths)
    assert secret not in str(api.logs)


def test_a_key_pair_shows_its_public_half_only(api: Api) -> None:
    page = signed_in(api).submit("/webhooks/add", "/webhooks/add", {**FORM, "signature_scheme": "ed25519"})
    assert "whpk_" in page.text
    assert "whsk_" not in page.text


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"url": "http://93.184.216.34/"}, "url", "not https"),
        ({"url": "https://127.0.0.1/"}, "url", "publicly reachable"),
        ({"url": ""}, "url", "URL"),
        ({"types": "nothing.*"}, "types", "No type of event matches"),
        ({"types": ""}, "types", "Length must be"),
        ({"regions": ["nowhere"]}, "regions", "There is no region"),
        ({"tags": "x" * 65}, "tags", "It has 65 characters"),
        ({"description": "x" * 201}, "description", "It has 201 characters"),
        ({"signature_scheme": "rot13"}, "signature_scheme", "Must be one of"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    api: Api, fields: dict[str, Any], field: str, says: str
) -> None:
    one = signed_in(api)
    page = one.submit("/webhooks/add", "/webhooks/add", {**FORM, "signature_scheme": "hmac-sha256", **fields})
    assert page.status_code == 422
    said = re.search(rf'<p class="mistake" id="{field}-mistake">(.*?)</p>', page.text, re.DOTALL)
    assert said, page.text
    assert says in said[1]
    assert f'href="#{field}"' in page.text
    assert "team=web" in page.text or "tags" in fields
    assert answer(api.client.get("/v1/webhooks"))["items"] == []


def test_changes_are_those_of_the_api_and_a_refused_one_changes_nothing(api: Api) -> None:
    one = signed_in(api)
    webhook_id, _secret = add(one)
    path = f"/webhooks/{webhook_id}/edit"
    assert "unshown" in one.page(path)
    refused = one.submit(path, path, {**FORM, "url": "https://93.184.216.35/", "regions": ["nowhere"]})
    assert refused.status_code == 422
    assert answer(api.client.get(f"/v1/webhooks/{webhook_id}"))["url"] == URL
    changed = one.submit(path, path, {**FORM, "url": "https://93.184.216.35/", "types": "*", "tags": ""})
    assert changed.status_code == 303
    document = answer(api.client.get(f"/v1/webhooks/{webhook_id}"))
    assert (document["url"], document["types"], document["tags"]) == ("https://93.184.216.35/", ["*"], {})


def test_rotation_shows_another_secret_and_takes_only_overlaps_in_range(api: Api) -> None:
    one = signed_in(api)
    webhook_id, secret = add(one)
    path = f"/webhooks/{webhook_id}/rotate"
    page = one.submit(path, path, {"overlap_seconds": "3600", "signature_scheme": "hmac-sha256"})
    assert found(r"(whsec_[\w+/=]+)", page.text) != secret
    other = one.submit(path, path, {"overlap_seconds": "0", "signature_scheme": "ed25519"})
    assert "whpk_" in other.text
    for text in ("9" * 9, "-1", "soon", ""):
        refused = one.submit(path, path, {"overlap_seconds": text, "signature_scheme": "ed25519"})
        assert (refused.status_code, "overlap_seconds-mistake" in refused.text) == (422, True)
    assert len(audited(api, "webhook.secret_rotated")) == 2


def test_an_endpoint_is_disabled_with_a_reason_and_enabled_again(api: Api) -> None:
    one = signed_in(api)
    webhook_id, _secret = add(one)
    path = f"/webhooks/{webhook_id}"
    assert one.submit(f"{path}/disable", f"{path}/disable", {"disabled_reason": "a\x07b"}).status_code == 422
    assert one.submit(f"{path}/disable", f"{path}/disable", {"disabled_reason": "Moving."}).status_code == 303
    page = one.page(path)
    assert "Moving." in page
    assert f"{path}/test" not in page
    assert "Moving." in one.page("/webhooks")
    assert one.submit(path, f"{path}/test").status_code == 409
    assert one.submit(path, f"{path}/enable").status_code == 303
    page = one.page(path)
    assert f"{path}/test" in page
    assert "Replay them" in page


def test_deletion_asks_first_and_destroys(api: Api) -> None:
    one = signed_in(api)
    webhook_id, _secret = add(one)
    path = f"/webhooks/{webhook_id}"
    assert "Nothing waits for it." in one.page(f"{path}/delete")
    one.submit(path, f"{path}/test")
    assert "1 delivery that waits is cancelled." in one.page(f"{path}/delete")
    assert one.submit(f"{path}/delete", f"{path}/delete").status_code == 303
    assert one.get(path).status_code == 404
    assert "deleted, its secret destroyed" in one.page("/webhooks")


def test_the_callback_secret_is_in_no_page_that_is_read_and_who_looks_is_written_down(api: Api) -> None:
    one = signed_in(api)
    with api.fleet.transaction() as session:
        secret = callback_secret(session, api.fleet.context.vault, api.fleet.caller.account_id)
    path = "/webhooks/callback-secret"
    assert secret not in one.page(path)
    assert audited(api, "webhook.callback_secret_shown") == []
    assert secret in one.submit(path, f"{path}/show").text
    (who,) = audited(api, "webhook.callback_secret_shown")
    assert who.startswith("per_")
    rotated = one.submit(path, f"{path}/rotate", {"overlap_seconds": "0"}).text
    assert found(r"(whsec_[\w+/=]+)", rotated) != secret
    assert one.submit(path, f"{path}/rotate", {"overlap_seconds": "x"}).status_code == 422


def test_a_stranger_sees_and_does_nothing(api: Api) -> None:
    one, eve = signed_in(api), stranger(api)
    webhook_id, _secret = add(one)
    assert webhook_id not in eve.page("/webhooks")
    path = f"/webhooks/{webhook_id}"
    for below in ("", "/edit", "/rotate", "/disable", "/delete", "/replays"):
        assert eve.get(f"{path}{below}").status_code == 404, below
    for verb in ("edit", "rotate", "disable", "enable", "delete", "test", "replays"):
        data = {**FORM, "overlap_seconds": "0", "signature_scheme": "ed25519"}
        assert eve.submit("/webhooks", f"{path}/{verb}", data).status_code == 404, verb
    assert answer(api.client.get(f"/v1/webhooks/{webhook_id}"))["enabled"]


def test_every_meaning_of_an_event_can_be_translated() -> None:
    assert set(MEANINGS) == set(MEANING.values())
