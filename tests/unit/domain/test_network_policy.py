"""Where webhooks may go: no hostile URL passes, good ones do, and the operator's networks are the only exceptions."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.settings import Network
from shared.domain.network_policy import check_address, check_url, parse_url
from shared.errors import Rejected
from tests.support.hostile_urls import LITERALS, NAMES

LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


def check_all(url: str, addresses: tuple[str, ...], allowed: tuple[Network, ...] = ()) -> None:
    """Check as the API and then the sender do."""
    check_url(url, allowed)
    for address in addresses:
        check_address(address, allowed, scheme=parse_url(url).scheme)


def test_the_table_of_hostile_urls_has_more_than_sixty_distinct_entries() -> None:
    assert len(set(LITERALS)) == len(LITERALS) > 60


@pytest.mark.parametrize("url", LITERALS)
def test_a_hostile_url_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check_url(url, (), field="callback_url")
    (error,) = refusal.value.errors
    assert error.field == "callback_url"
    assert error.code in {"invalid_url", "https_required", "address_not_allowed"}
    assert error.message
    assert error.hint


@pytest.mark.parametrize(("url", "addresses"), NAMES.items())
def test_a_name_that_leads_astray_is_refused(url: str, addresses: tuple[str, ...]) -> None:
    with pytest.raises(Rejected):
        check_all(url, addresses)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://example.com", ("93.184.215.14",)),
        ("HTTPS://EXAMPLE.COM/Hook?a=b&c=d", ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")),
        ("https://example.com:8443/hook", ("93.184.215.14",)),
        ("https://hooks.xn--bcher-kva.example/a%20b", ("93.184.215.14",)),
        ("https://a_b.example.com/", ("93.184.215.14",)),
        ("https://example.com?q=1@2", ("93.184.215.14",)),
        ("https://93.184.215.14/", ()),
        ("https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8443/", ()),
        ("https://[::ffff:93.184.215.14]/", ()),
        ("https://[64:ff9b::93.184.215.14]/", ()),
        ("https://100.63.255.255/", ()),
        ("https://100.128.0.0/", ()),
        ("https://172.32.0.1/", ()),
    ],
)
def test_a_public_https_url_passes(url: str, addresses: tuple[str, ...]) -> None:
    check_all(url, addresses)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://127.0.0.1:9000/hook", ()),
        ("http://[::1]:9000/hook", ()),
        ("http://localhost:9000/hook", ("127.0.0.1", "::1")),
        ("https://[::ffff:127.0.0.1]/", ()),
    ],
)
def test_the_operators_networks_may_be_reached_also_in_clear(url: str, addresses: tuple[str, ...]) -> None:
    check_all(url, addresses, LOOPBACK)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://10.0.0.1/", ()),
        ("https://0.0.0.0/", ()),
        ("https://169.254.169.254/", ()),
        ("http://93.184.215.14/", ()),
        ("http://example.com/", ("93.184.215.14",)),
        ("http://localhost/", ("127.0.0.1", "10.0.0.1")),
        ("https://127.1/", ()),
    ],
)
def test_an_allowed_network_opens_nothing_else(url: str, addresses: tuple[str, ...]) -> None:
    with pytest.raises(Rejected):
        check_all(url, addresses, LOOPBACK)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "https_required"),
        ("https://10.0.0.1/", "address_not_allowed"),
        ("https://localhost/", "address_not_allowed"),
        ("nonsense", "invalid_url"),
    ],
)
def test_the_code_says_why(url: str, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check_url(url, ())
    assert refusal.value.code == code


def test_a_url_is_taken_apart_once() -> None:
    target = parse_url("HTTPS://Hooks.Example.COM:8443?x=/@1")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "hooks.example.com", 8443, "/?x=/@1")
    assert target.address is None


def test_an_ipv6_literal_is_taken_without_its_brackets() -> None:
    target = parse_url("http://[::1]/")
    assert (target.host, target.port, str(target.address)) == ("::1", 80, "::1")


@given(st.text())
def test_no_text_raises_anything_but_rejected(text: str) -> None:
    for url in (text, f"https://{text}/"):
        with suppress(Rejected):
            check_url(url, ())


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_form(address: ipaddress.IPv4Address) -> None:
    forms = (str(address), f"::ffff:{address}", f"64:ff9b::{address}")
    answers = set()
    for form in forms:
        try:
            check_address(form, (), scheme="https")
            answers.add("passed")
        except Rejected:
            answers.add("refused")
    assert len(answers) == 1


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_never_passes(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_loopback:
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is None and not str(address).startswith("64:ff9b::"):
            with pytest.raises(Rejected):
                check_address(str(address), (), scheme="https")
