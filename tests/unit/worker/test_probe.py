"""Addresses as the regions file has them, and what is asked for without a connection."""

from __future__ import annotations

import pytest

from services.worker.probe import TlsProber, parse_address
from shared.domain.listeners import is_host
from shared.domain.served import Client, Handshake
from shared.usecases.proof import knock

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:443", ("127.0.0.1", 443)),
        ("lb.example.com:8443", ("lb.example.com", 8443)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_is_host_and_port(address: str, place: tuple[str, int]) -> None:
    assert parse_address(address) == place


@pytest.mark.parametrize(
    "address",
    [
        *("", ":", ":443", "host", "host:", "host:0", "host:65536", "host:-1", "host:+1", "host: 1", "host:1e3"),
        *(
            "::1:443",
            "[::1]",
            "[::1]:",
            "[]:443",
            "[host]:443",
            "host:443\n",
            "ho\nst:443",
            "host:٤٤٣",
            "host:" + "9" * 5000,
        ),
    ],
)
def test_whatever_else_is_no_address_and_the_answer_says_so(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(address)
    seen = TlsProber().handshake(address, host="a.example", client=Client.ANONYMOUS)
    assert not seen.reached
    assert "is not an address" in (seen.error or "")


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a\0b", "ü.example", "a/b", "a" * 256])
def test_a_name_that_would_break_a_request_is_never_sent(host: str) -> None:
    seen = TlsProber().handshake("127.0.0.1:1", host=host, client=Client.ANONYMOUS)
    assert (seen.reached, seen.error and "no server can be asked" in seen.error) == (False, True)


class _Recorder:
    """A prober that knocks at nothing, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Handshake] = []

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        del address
        self.asked.append(Handshake(host=host, client=client, sni=sni, reached=False))
        return self.asked[-1]


@pytest.mark.parametrize("length", [13, 239, 240, 243, 244, 245, 252, 253])
def test_a_wildcard_is_tried_with_a_name_that_is_not_too_long(length: int) -> None:
    below = ("b." * 126 + "example.com")[2 - length :].replace(".", "c", 1)
    recorder = _Recorder()
    knock(recorder, "127.0.0.1:1", [f"*.{below}"], is_mutual=False)
    tried = recorder.asked[0].host
    assert is_host(tried)
    assert tried.partition(".")[2] == below
