"""Which texts are host names, and which certificates' names cover them."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.listeners import is_host, uncovered_hosts

pytestmark = pytest.mark.unit

LABEL: Final = "a" * 63
LONGEST: Final = ".".join([LABEL, LABEL, LABEL, "b" * 61])


@pytest.mark.parametrize(
    "text",
    [
        "a.b",
        "shop.example.com",
        "1.example.com",
        "a1-b2.example.com",
        "xn--bcher-kva.example.com",
        "shop.xn--p1ai",
        "_acme.example.com",
        "my_shop.example.com",
        "*.example.com",
        "*.a.b.example.com",
        "8.8.8.8.example",
        f"{LABEL}.example.com",
        LONGEST,
        f"*.{LONGEST[2:]}",
    ],
)
def test_a_name_that_a_client_may_ask_for_is_a_host(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "*",
        "localhost",
        "*.com",
        "*.*.example.com",
        "www.*.example.com",
        "w*.example.com",
        "*example.com",
        "shop.example.com.",
        ".example.com",
        "shop..example.com",
        "Shop.example.com",
        "bücher.example.com",
        "shop.example.рф",
        "ban\u212a.example.com",
        "-shop.example.com",
        "shop-.example.com",
        "shop.example.-com",
        "shop.example.c_m",
        "shop_.example.com",
        "127.0.0.1",
        "1.2.3.4.5",
        "shop.example.123",
        "::1",
        "[::1]",
        "2001:db8::1",
        "shop.example.com:443",
        "https://shop.example.com",
        "shop.example.com/",
        "shop example.com",
        " shop.example.com",
        "shop.example.com\n",
        "shop.example.com\0",
        "shop.example.com\r\nX: y",
        "a.b;set maxconn global 7",
        "../certs/a.b",
        "\u0661.\u0662.\u0663.\u0664",
        f"{LABEL}a.example.com",
        f"{LONGEST}a",
        f"*.{LONGEST}",
        "a." * 200 + "b",
    ],
)
def test_what_no_client_can_ask_for_is_no_host(text: str) -> None:
    assert not is_host(text)


@given(st.text())
def test_a_host_is_short_ascii_without_anything_that_ends_a_line_or_a_word(text: str) -> None:
    if is_host(text):
        assert text.isascii()
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.*")
        assert text == text.strip(".").lower()


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("shop.example.com", ["shop.example.com"]),
        ("shop.example.com", ["Shop.Example.COM"]),
        ("shop.example.com", ["*.example.com"]),
        ("shop.example.com", ["*.EXAMPLE.com"]),
        ("_acme.example.com", ["*.example.com"]),
        ("xn--bcher-kva.example.com", ["*.example.com"]),
        ("xn--bcher-kva.example.com", ["xn--bcher-kva.example.com"]),
        ("*.example.com", ["*.example.com"]),
        ("a.b.example.com", ["x", "*.example.com", "*.b.example.com"]),
        (LONGEST, [LONGEST]),
    ],
)
def test_a_certificate_covers_its_names_and_one_label_below_its_wildcards(host: str, names: list[str]) -> None:
    assert uncovered_hosts([host], names) == []


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("shop.example.com", []),
        ("shop.example.com", ["example.com", "www.example.com", "shop.example.co", "xshop.example.com"]),
        ("example.com", ["*.example.com"]),
        ("a.b.example.com", ["*.example.com"]),
        ("a.b.example.com", ["*.*.example.com", "a.*.example.com"]),
        ("shop.example.com", ["s*.example.com", "*p.example.com", "*hop.example.com", "*"]),
        ("example.com", ["*.com"]),
        ("*.example.com", ["www.example.com", "example.com", "*.b.example.com"]),
        ("*.b.example.com", ["*.example.com"]),
        ("bank.example.com", ["ban\u212a.example.com"]),
        ("bücher.example.com".encode("idna").decode(), ["bücher.example.com"]),
        ("shop.example.com", ["shop.example.com."]),
        ("shop.example.com", ["*.example.com."]),
        ("shop.example.com", ["shop.example.com\\x00.evil.example", " shop.example.com", "", ".", "*."]),
        ("shop.example.com", ["127.0.0.1", "2001:db8::1"]),
    ],
)
def test_a_certificate_covers_nothing_else(host: str, names: list[str]) -> None:
    assert uncovered_hosts([host], names) == [host]


def test_the_uncovered_keep_their_order() -> None:
    hosts = ["c.example.com", "a.example.com", "b.example.com"]
    assert uncovered_hosts(hosts, ["a.example.com"]) == ["c.example.com", "b.example.com"]
