"""Nothing that a server does holds the prober, raises out of it, or passes for what it is not."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from services.worker.probe import TlsProber
from shared.domain.served import Client, Handshake
from tests.support import pki
from tests.support.tls import (
    Handler,
    TlsServer,
    closing_at_once,
    dripping,
    listening,
    pouring,
    relaying,
    resetting,
    sending,
    silent,
)

HOST: Final = "shop.example.com"
PATIENCE: Final = timedelta(seconds=0.5)
GRACE: Final = timedelta(seconds=1.5)
"""For a busy machine; what holds the prober would hold it for ever."""

UNRECOGNIZED_NAME: Final = bytes.fromhex("15 0303 0002 02 70")
"""A fatal alert as a TLS record (RFC 8446 §5.1, §6)."""
RECORD_OF_16K: Final = bytes.fromhex("16 0303 4000")
BEGINNING_OF_A_HELLO: Final = bytes.fromhex("16 0303 0100 02 0000fc 0303")
WARNING: Final = bytes.fromhex("15 0303 0002 01 5a")

pytestmark = pytest.mark.integration


def knock(handler: Handler, *, client: Client = Client.ANONYMOUS, patience: timedelta = PATIENCE) -> Handshake:
    """One knock, which must have ended in time."""
    with listening(handler) as address:
        started = time.monotonic()
        seen = TlsProber(patience=patience).handshake(address, host=HOST, client=client)
        assert time.monotonic() - started < (patience + GRACE).total_seconds()
    return seen


def tls(**overrides: Any) -> TlsServer:
    return TlsServer(**{"certificates": {"": pki.server(HOST)}, **overrides})


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (closing_at_once, "the server closed the connection during the handshake"),
        (resetting, "the connection broke (Connection reset by peer)"),
        (sending(UNRECOGNIZED_NAME), "the server closed the connection (alert unrecognized_name)"),
        (sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "what the server sent during the handshake is not TLS"),
        (sending(b"SSH-2.0-OpenSSH_9.2\r\n"), "what the server sent during the handshake is not TLS"),
        (sending(bytes(4096)), "what the server sent during the handshake is not TLS"),
        (sending(RECORD_OF_16K), "the server closed the connection during the handshake"),
        (pouring(WARNING), "what the server sent during the handshake is not TLS"),
        (pouring(b"\x00" * 65536), "what the server sent during the handshake is not TLS"),
    ],
)
def test_a_server_that_does_not_shake_hands_is_told_in_one_sentence(handler: Handler, error: str) -> None:
    seen = knock(handler, patience=timedelta(seconds=5))
    assert (seen.error or "").startswith(error)
    assert (seen.reached, seen.chain, seen.status, seen.timed_out) == (True, (), None, False)


@pytest.mark.parametrize("handler", [silent, dripping(RECORD_OF_16K), dripping(BEGINNING_OF_A_HELLO)])
def test_a_server_that_is_slow_is_left_when_the_time_is_up(handler: Handler) -> None:
    seen = knock(handler)
    assert (seen.reached, seen.timed_out, seen.error) == (True, True, "the server did not answer in time")


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_handshake_that_stops_half_way_shows_no_certificate(version: int) -> None:
    with listening(tls(lowest=version, highest=version).serve) as address:
        for stop in range(4):
            seen = knock(relaying(address, _stopping_after(stop)), patience=timedelta(seconds=5))
            assert (seen.chain, seen.error) == ((), "the server closed the connection during the handshake")


def _stopping_after(records: int) -> Callable[[bytes], bytes]:
    count = itertools.count()
    return lambda record: record if next(count) < records else b""


@pytest.mark.parametrize(
    "answer",
    [
        itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
        itertools.chain([b"HTTP/1.1 103 Early Hints\r\n"], itertools.repeat(b"Link: <x>\r\n" * 100)),
        itertools.chain([b"HTTP/1.1 100 Continue\r\n"], itertools.repeat(b"x" * 1000)),
    ],
)
def test_an_answer_without_an_end_is_none(answer: itertools.repeat[bytes]) -> None:
    seen = knock(tls(answer=answer).serve, patience=timedelta(seconds=5))
    assert (seen.status, seen.error) == (None, "the server's answer does not come to an end")
    assert seen.chain


def test_a_flood_of_headers_does_not_hide_the_status() -> None:
    answer = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X-Flood: yes\r\n" * 1000))
    assert knock(tls(answer=answer).serve).status == 200


def test_an_answer_that_drips_is_left_when_the_time_is_up() -> None:
    def drip() -> bytes:
        time.sleep(0.02)  # what is tested is a server that takes its time
        return b"HTTP"

    seen = knock(tls(answer=iter(drip, None)).serve)
    assert seen.status is None
    assert seen.chain


def test_a_server_that_hangs_after_the_handshake_has_shown_its_certificate() -> None:
    stop = threading.Event()
    seen = knock(tls(answer=(b"" for _ in range(1) if not stop.wait(5))).serve)
    stop.set()
    assert (bool(seen.chain), seen.status, seen.timed_out) == (True, None, True)


def test_a_long_chain_is_seen_and_an_endless_one_is_told() -> None:
    issuer = pki.authority("Test Root CA", key="ec-p256")
    leaf = pki.server(HOST, key="ec-p256", issuer=issuer)
    above = leaf.above or (issuer.certificate,)
    long = knock(tls(certificates={"": replace(leaf, above=above * 100)}).serve, patience=timedelta(seconds=5))
    assert (len(long.chain), long.status) == (101, 200)
    endless = knock(tls(certificates={"": replace(leaf, above=above * 400)}).serve, patience=timedelta(seconds=5))
    assert (endless.chain, endless.status) == ((), None)
    assert "excessive message size" in (endless.error or "")


def test_thousands_of_ca_names_are_seen_or_told() -> None:
    authorities = tuple(pki.authority(f"Clients {number}", key="ec-p256", number=1) for number in range(300))
    seen = knock(tls(client_ca=authorities).serve, patience=timedelta(seconds=5))
    assert (len(seen.client_ca_names), seen.alert) == (300, "certificate_required")


def test_names_are_looked_up_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(30))
    started = time.monotonic()
    seen = TlsProber(patience=PATIENCE).handshake("lb.example:443", host=HOST, client=Client.ANONYMOUS)
    asked.set()
    assert time.monotonic() - started < (PATIENCE + GRACE).total_seconds()
    assert (seen.reached, seen.timed_out) == (False, True)


def test_nobody_at_the_address_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    seen = TlsProber().handshake(address, host=HOST, client=Client.ANONYMOUS)
    assert (seen.reached, seen.error) == (False, "the connection failed (Connection refused)")


def test_a_server_that_never_accepts_is_left_when_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(place)
        seen = TlsProber(patience=PATIENCE).handshake(f"127.0.0.1:{place[1]}", host=HOST, client=Client.ANONYMOUS)
        for one in waiting:
            one.close()
    assert (seen.timed_out, seen.chain, seen.status) == (True, (), None)


_FUZZ: Final = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@_FUZZ
@given(st.lists(st.binary(max_size=600), max_size=5))
def test_bytes_that_mean_nothing_never_raise(pieces: list[bytes]) -> None:
    seen = knock(sending(*pieces), patience=timedelta(seconds=5))
    assert (seen.reached, seen.chain, seen.status, bool(seen.error)) == (True, (), None, True)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("seed", range(40))
def test_an_altered_byte_never_raises_and_never_answers_for_another_certificate(version: int, seed: int) -> None:
    server = tls(lowest=version, highest=version, client_ca=(pki.authority(),) if seed % 2 else ())
    chance = random.Random(seed)  # noqa: S311 - which byte, not a secret
    alter = _altering(chance.randrange(3000), 1 << chance.randrange(8))
    with listening(server.serve) as address:
        seen = knock(relaying(address, alter), client=Client.FOREIGN)
    assert seen.reached
    if seen.status is not None or version == SSL.TLS1_3_VERSION:
        # in TLS 1.2 the server signs its certificate only at the end (RFC 5246 §7.4.9), past the client's refusal
        assert seen.chain in ((), (server.certificates[""].fingerprint_sha256,))
    assert seen.chain or seen.status is None


def _altering(place: int, bit: int) -> Callable[[bytes], bytes]:
    """Change one bit of the byte at this place of the stream."""
    passed = 0

    def alter(record: bytes) -> bytes:
        nonlocal passed
        here = place - passed
        passed += len(record)
        if not 0 <= here < len(record):
            return record
        return record[:here] + bytes([record[here] ^ bit]) + record[here + 1 :]

    return alter
