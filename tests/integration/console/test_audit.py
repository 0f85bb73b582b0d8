"""The audit: who did what in words, filters, paging; and whose it is."""

from __future__ import annotations

import re
from pathlib import Path

from services.api.console.pages.audit import DEEDS, NOUNS
from shared.usecases import audit
from tests.support.api import Api, answer
from tests.support.console import EMAIL, signed_in, stranger

_NOUNS = "certificate|deployment|listener|job|webhook|reminders|calendar_feed|account|person|token"
_NOTED = re.compile(rf'"((?:{_NOUNS})\.[a-z_]+)"')


def test_a_deed_says_who_in_names_and_what_in_words(api: Api) -> None:
    certificate = api.deployed()
    one = signed_in(api)
    path = f"/certificates/{certificate['id']}"
    one.submit(path, f"{path}/download")
    page = one.page("/audit")
    assert "downloaded a certificate with its key" in page
    assert f">{EMAIL}</a>" in page
    assert ">test</a>" in page, "the token's name"
    assert f'href="{path}"' in page


def test_filters_by_noun_deed_actor_and_target(api: Api) -> None:
    first, second = api.deployed(name="first"), api.deployed(name="second")
    one = signed_in(api)
    one.submit("/certificates", f"/certificates/{first['id']}/download")
    assert one.page("/audit?action=certificate").count("<tr><td") == 3
    assert one.page("/audit?action=certificate.downloaded").count("<tr><td") == 1
    assert one.page(f"/audit?target={second['id']}").count("<tr><td") == 1
    assert one.page(f"/audit?actor={api.fleet.caller.token_id}&action=certificate.downloaded").count("<tr><td") == 0
    assert "Nobody did anything of the kind." in one.page("/audit?action=cert")
    assert one.get(f"/audit?target={'x' * 500}").status_code == 200


def test_the_api_filters_as_the_page_does(api: Api) -> None:
    certificate = api.deployed()
    deeds = answer(api.client.get(f"/v1/audit?action=certificate&target={certificate['id']}"))["items"]
    assert [deed["action"] for deed in deeds] == ["certificate.submitted"]
    assert answer(api.client.get("/v1/audit?action=webhook"))["items"] == []
    assert api.client.get("/v1/audit?action=").status_code == 422


def test_every_deed_that_is_noted_has_words() -> None:
    sources = Path(audit.__file__).parent.glob("*.py")
    noted = {found for path in sources for found in _NOTED.findall(path.read_text(encoding="utf-8"))}
    assert noted == set(DEEDS)
    assert {deed.partition(".")[0] for deed in DEEDS} == set(NOUNS)


def test_an_empty_audit_says_what_will_be_here(api: Api) -> None:
    assert "Nothing has been done yet" in signed_in(api).page("/audit")


def test_a_stranger_sees_no_deed_and_no_name_of_another_account(api: Api) -> None:
    api.deployed()
    assert "Nothing has been done yet" in stranger(api).page("/audit")
