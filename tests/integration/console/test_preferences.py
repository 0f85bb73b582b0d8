"""Language, and light or dark: the browser's until somebody chooses, and back to where one was."""

from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.console import browser, signed_in


def test_the_language_is_the_browsers_until_one_is_chosen(api: Api) -> None:
    one = browser(api)
    chinese = one.get("/sign-in", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"})
    assert '<html lang="zh-Hans">' in chinese.text
    assert "登录" in chinese.text
    assert one.http.post("/language", data={"language": "en", "next": "/sign-in"}).status_code == 303
    english = one.get("/sign-in", headers={"Accept-Language": "zh-CN"})
    assert '<html lang="en">' in english.text


def test_light_or_dark_is_the_devices_until_one_is_chosen_and_again_after(api: Api) -> None:
    one = signed_in(api)
    assert '<meta name="color-scheme" content="light dark">' in one.page("/certificates")
    for chosen, said in (("dark", '<html lang="en" data-theme="dark">'), ("", '<html lang="en">')):
        assert one.http.post("/theme", data={"theme": chosen, "next": "/sessions"}).status_code == 303
        assert said in one.page("/certificates")


def test_a_choice_leads_back_to_the_page_with_its_search(api: Api) -> None:
    one = signed_in(api)
    assert 'name="next" value="/certificates?q=shop"' in one.page("/certificates?q=shop")
    answer = one.http.post("/theme", data={"theme": "dark", "next": "/certificates?q=shop"})
    assert answer.headers["Location"] == "/certificates?q=shop"


@pytest.mark.parametrize(("address", "field"), [("/theme", "theme"), ("/language", "language")])
def test_what_cannot_be_chosen_is_not_kept(api: Api, address: str, field: str) -> None:
    answer = browser(api).http.post(address, data={field: "<script>", "next": "https://evil.example/"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Set-Cookie" not in answer.headers
