"""The list of certificates: what it shows, how it is searched, sorted and paged, and whose they are."""

from __future__ import annotations

from html import unescape

from tests.support import pki
from tests.support.api import Api
from tests.support.console import signed_in, stranger


def upload(name: str) -> dict[str, object]:
    issued = pki.server_with_chain(name)
    return {"name": name, "certificate": issued.chain_pem, "private_key": issued.key_pem}


def test_a_row_says_what_it_covers_when_it_ends_and_what_each_region_does(api: Api) -> None:
    certificate = api.deployed()
    page = signed_in(api).page("/certificates")
    assert f'href="/certificates/{certificate["id"]}"' in page
    assert "shop.example.com, www.shop.example.com" in page
    assert "days left" in page
    for deployment in certificate["deployments"]:
        assert deployment["region"] in page
    assert page.count('<span class="badge good">deployed</span> <span class="badge quiet">not checked</span>') == 1


def test_an_account_without_certificates_is_told_what_to_do(api: Api) -> None:
    page = signed_in(api).page("/certificates")
    assert "Your first certificate" in page
    assert "<table" not in page


def test_search_finds_names_and_says_when_nothing_fits(api: Api) -> None:
    api.deployed()
    one = signed_in(api)
    assert "<table" in one.page("/certificates?q=WWW.shop")
    assert "Nothing matches" in one.page("/certificates?q=elsewhere")
    assert "Nothing matches" in one.page("/certificates?type=ca")
    assert "Nothing matches" in one.page("/certificates?region=nowhere")


def test_what_the_address_says_wrongly_is_left_out(api: Api) -> None:
    api.deployed()
    assert "<table" in signed_in(api).page("/certificates?type=x&state=y&sort=z&q=")


def test_a_cursor_of_elsewhere_and_a_nul_are_refused_and_explained(api: Api) -> None:
    one = signed_in(api)
    assert one.get("/certificates?cursor=nonsense").status_code == 422
    assert one.get("/certificates?q=%00").status_code == 404


def test_pages_show_every_certificate_once(api: Api) -> None:
    for number in range(52):
        api.submit(name=f"number {number:02}", certificate="x", private_key="y")
    one = signed_in(api)
    first = one.page("/certificates?sort=name")
    assert first.count('scope="row"') == 50
    link = next(part for part in first.split('"') if "cursor=" in part)
    second = one.page(f"/certificates{unescape(link)}")
    assert second.count('scope="row"') == 2
    assert "number 51" in second
    assert "First page" in second


def test_names_from_outside_are_text_and_never_markup(api: Api) -> None:
    api.submit(name="<script>alert(1)</script>", certificate="x", private_key="y")
    page = signed_in(api).page("/certificates")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_another_account_sees_nothing_of_it(api: Api) -> None:
    certificate = api.deployed()
    page = stranger(api).page("/certificates")
    assert certificate["id"] not in page
    assert "Your first certificate" in page
