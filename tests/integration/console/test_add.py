"""Add a certificate: the form, the doctor, the submission, and a key that is in no answer."""

from __future__ import annotations

import io
from typing import Any

from cryptography.hazmat.primitives import serialization
from sqlalchemy import func, select

from shared.models import Certificate
from tests.support import pki
from tests.support.api import Api
from tests.support.console import Browser, signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.managed import list_anew
from tests.support.memory_sources import MemoryService, MemorySource

PAIR = pki.server_with_chain("shop.example.com", "www.shop.example.com")
FORM = {
    "source": "third_party",
    "type": "server",
    "certificate": PAIR.chain_pem,
    "private_key": PAIR.key_pem,
    "regions": list(REGIONS),
}


def check(one: Browser, **fields: Any) -> str:
    answer = one.submit("/certificates/add", "/certificates/check?part=1", {**FORM, **fields})
    assert answer.status_code == 200
    return answer.text


def has_key(text: str) -> bool:
    return any(line in text for line in PAIR.key_pem.splitlines()[1:-1])


def count(api: Api) -> int:
    with api.fleet.transaction() as session:
        return session.execute(select(func.count()).select_from(Certificate)).scalar_one()


def test_the_form_shows_what_is_left_in_each_region_and_samples(api: Api) -> None:
    page = signed_in(api).page("/certificates/add")
    for region in REGIONS:
        assert region in page
    assert "server: 100 of 100 left" in page
    assert page.count("View sample") == 3, "certificate, key, CA"
    assert "BEGIN CERTIFICATE" in page


def test_what_is_created_becomes_a_job_with_every_region(api: Api) -> None:
    one = signed_in(api)
    answer = one.submit("/certificates/add", "/certificates/add", FORM)
    assert answer.status_code == 303
    page = one.page(answer.headers["Location"])
    assert "data-stream" in page
    assert 'http-equiv="refresh"' in page
    api.fleet.run()
    page = one.page(answer.headers["Location"])
    assert page.count('<span class="badge good">deployed</span>') == 3
    assert "data-stream" not in page
    assert "http-equiv" not in page


def test_files_are_taken_as_pasted_text_is(api: Api) -> None:
    one = signed_in(api)
    files = {
        "certificate": "",
        "private_key": "",
        "certificate_file": (io.BytesIO(PAIR.chain_pem.encode()), "shop.pem"),
        "private_key_file": (io.BytesIO(PAIR.key_pem.encode()), "shop.key"),
    }
    answer = one.submit("/certificates/add", "/certificates/add", {**FORM, **files})
    assert answer.status_code == 303
    api.fleet.run()
    assert one.page(answer.headers["Location"]).count("deployed") == 3


def test_what_cannot_be_taken_is_said_and_shown_again_but_never_the_key(api: Api) -> None:
    one = signed_in(api)
    answer = one.submit("/certificates/add", "/certificates/add", {**FORM, "regions": [], "contacts": "nobody"})
    assert answer.status_code == 422
    assert "regions" in answer.text
    assert "nobody" in answer.text
    assert "BEGIN CERTIFICATE" in answer.text
    assert not has_key(answer.text)
    assert "paste it again" in answer.text
    assert count(api) == 0


def test_an_unknown_region_is_refused_on_the_page(api: Api) -> None:
    answer = signed_in(api).submit("/certificates/add", "/certificates/add", {**FORM, "regions": ["nowhere"]})
    assert answer.status_code == 422
    assert "nowhere" in answer.text


def test_the_doctor_says_what_is_wrong_by_line_with_the_remedy_and_stores_nothing(api: Api) -> None:
    one = signed_in(api)
    assert "Valid: nothing to remark." in check(one)
    mismatch = check(one, private_key="nonsense")
    assert "Not valid" in mismatch
    assert "badge bad" in mismatch
    broken = check(one, certificate=PAIR.chain_pem.replace("-----BEGIN", "text before\n-----BEGIN", 1))
    assert "line 1" in broken
    assert "fixed for you" in broken
    assert count(api) == 0


def test_the_doctor_shows_no_key_and_logs_none(api: Api) -> None:
    one = signed_in(api)
    for fields in ({}, {"type": "ca"}, {"certificate": PAIR.key_pem}, {"private_key": PAIR.key_pem * 2}):
        assert not has_key(check(one, **fields))
    assert not has_key(str(api.logs))


def test_the_doctor_takes_anything(api: Api) -> None:
    one = signed_in(api)
    for text in ("", "\0", "nonsense", "x" * 200_000, "\ud7ff"):
        check(one, certificate=text, private_key=text)
    der = {"certificate": "", "certificate_file": (io.BytesIO(bytes(range(256))), "shop.der")}
    assert "Not valid" in check(one, **der)


def test_without_a_script_the_doctor_answers_with_a_page(api: Api) -> None:
    answer = signed_in(api).submit("/certificates/add", "/certificates/check", FORM)
    assert "<html" in answer.text
    assert "Valid: nothing to remark." in answer.text


MANAGED = "/certificates/add?source=managed"


def service_of(api: Api, *names: str) -> MemoryService:
    """The account's certificate service, offering a certificate for each name, listed."""
    service = MemoryService(clock=lambda: api.fleet.now)
    api.fleet.sources["memory"] = MemorySource(service)
    for name in names:
        service.issue(name)
    list_anew(api.fleet)
    return service


def test_without_a_service_the_form_says_who_declares_one(api: Api) -> None:
    assert "No certificate service is declared for this account" in signed_in(api).page(MANAGED)


def test_what_a_service_offers_is_searched_and_paged(reachable: Api) -> None:
    service_of(reachable, *(f"host{number:02}.example.com" for number in range(21)))
    one = signed_in(reachable)
    first = one.page(MANAGED)
    assert first.count('name="managed_certificate_id"') == 20
    following = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert one.page(f"/certificates/add{following}").count('name="managed_certificate_id"') == 1
    assert one.page(f"{MANAGED}&q=HOST07").count('name="managed_certificate_id"') == 1
    assert "No service of this account offers such a certificate." in one.page(f"{MANAGED}&q=nothing")


def test_what_is_picked_is_fetched_and_deployed_and_shown_as_here(reachable: Api) -> None:
    service_of(reachable, "shop.example.com")
    one = signed_in(reachable)
    fields = {"source": "managed", "type": "server", "managed_certificate_id": "memory:m0001", "regions": list(REGIONS)}
    assert "Valid" in check(one, **fields)
    answer = one.submit(MANAGED, "/certificates/add", fields)
    assert answer.status_code == 303
    reachable.fleet.run()
    assert one.page(answer.headers["Location"]).count("deployed") == 3
    assert "here already" in one.page(MANAGED)


def test_none_picked_is_said_and_the_offers_are_shown_again(reachable: Api) -> None:
    service_of(reachable, "shop.example.com")
    fields = {"source": "managed", "type": "server", "regions": list(REGIONS)}
    answer = signed_in(reachable).submit(MANAGED, "/certificates/add", fields)
    assert answer.status_code == 422
    assert "managed_certificate_id" in answer.text
    assert "memory:m0001" in answer.text


def test_a_stranger_is_offered_nothing_of_it(reachable: Api) -> None:
    service_of(reachable, "shop.example.com")
    assert "shop.example.com</strong>" not in stranger(reachable).page(MANAGED)


def test_the_doctor_names_what_a_file_is_and_the_command_that_converts_it(api: Api) -> None:
    der = PAIR.certificate.public_bytes(serialization.Encoding.DER)
    fields = {"certificate": "", "certificate_file": (io.BytesIO(der), "shop.der")}
    assert "openssl x509 -inform der" in check(signed_in(api), **fields)
    turned = pki.to_pem(*PAIR.above, PAIR.certificate)
    assert "fixed for you" in check(signed_in(api, email="bob@example.com"), certificate=turned)
