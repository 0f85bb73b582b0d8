"""What handshakes prove: table by table, from the perfect one to the nobody-is-there."""

from __future__ import annotations

from typing import Any, Final

import pytest

from shared.domain.rollout import ServedState
from shared.domain.served import Client, Expected, Handshake, judge, worst

LEAF: Final = "a" * 64
ISSUER: Final = "b" * 64
OTHER: Final = "c" * 64
ONE_WAY: Final = Expected(chain=(LEAF, ISSUER))
MUTUAL: Final = Expected(chain=(LEAF, ISSUER), client_ca_names=("CN=Clients 1", "CN=Clients 2"))

pytestmark = pytest.mark.unit


def one_way(**overrides: Any) -> Handshake:
    """An anonymous client that was shown the right chain and got an answer."""
    fields: dict[str, Any] = {
        "host": "shop.example.com",
        "client": Client.ANONYMOUS,
        "reached": True,
        "chain": (LEAF, ISSUER),
        "subject": "CN=shop.example.com",
        "status": 200,
    }
    return Handshake(**{**fields, **overrides})


def refused(**overrides: Any) -> Handshake:
    """A client that was asked for the right certificates, and refused by an alert."""
    fields: dict[str, Any] = {
        "client_ca_names": ("CN=Clients 2", "CN=Clients 1"),
        "status": None,
        "alert": "certificate_required",
        "error": "the server closed the connection (alert certificate_required)",
    }
    return one_way(**{**fields, **overrides})


def both(**overrides: Any) -> list[Handshake]:
    return [refused(**overrides), refused(client=Client.FOREIGN, **overrides)]


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 421, 500, 503, None])
def test_a_one_way_listener_is_judged_by_its_chain_not_by_what_lies_behind_it(status: int | None) -> None:
    verdict = judge(ONE_WAY, [one_way(status=status, error=None if status else "what came is not HTTP/1")])
    assert (verdict.state, verdict.fingerprint_sha256, verdict.faults) == (ServedState.MATCH, LEAF, ())


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (
            {"chain": (OTHER,), "subject": "CN=old"},
            f"shop.example.com shows another certificate: CN=old, SHA-256 {OTHER}, not SHA-256 {LEAF}.",
        ),
        (
            {"chain": (LEAF,)},
            "shop.example.com shows the certificate with another chain: 0 above it, where 1 were deployed.",
        ),
        (
            {"chain": (LEAF, OTHER)},
            "shop.example.com shows the certificate with another chain: others above it.",
        ),
        (
            {"chain": (), "status": None, "error": "the server closed the connection (alert unrecognized_name)"},
            "shop.example.com: no handshake: the server closed the connection (alert unrecognized_name).",
        ),
        ({"client_ca_names": ("CN=Them",)}, "shop.example.com: clients are asked for certificates of CN=Them."),
        (
            {"status": None, "alert": "certificate_required", "error": "closed"},
            "shop.example.com: clients without a certificate are refused (alert certificate_required).",
        ),
    ],
)
def test_what_a_one_way_listener_should_not_do_is_named(seen: dict[str, Any], message: str) -> None:
    verdict = judge(ONE_WAY, [one_way(**seen)])
    assert (verdict.state, verdict.message) == (ServedState.MISMATCH, message)


@pytest.mark.parametrize(
    "end",
    [
        {},
        {"alert": None, "error": "the server closed the connection without an answer"},
        {"alert": None, "error": "the connection broke (Connection reset by peer)"},
        {"alert": None, "error": None, "status": 400},
        {"alert": None, "error": None, "status": 421},
    ],
)
def test_a_mutual_listener_matches_when_it_asks_for_its_ca_and_refuses_everyone_we_are(end: dict[str, Any]) -> None:
    assert judge(MUTUAL, both(**end)).state is ServedState.MATCH


@pytest.mark.parametrize("status", [200, 302, 403, 404, 500, 502])
@pytest.mark.parametrize("client", list(Client))
def test_whoever_gets_an_answer_of_a_mutual_listener_is_told_first(client: Client, status: int) -> None:
    seen = refused(client=client, status=status, error=None, client_ca_names=(), chain=(OTHER,))
    verdict = judge(MUTUAL, [seen])
    who = "no certificate" if client is Client.ANONYMOUS else "a foreign certificate"
    assert verdict.message == f"shop.example.com: a client with {who} got an answer (HTTP {status})."
    assert [fault.partition(": ")[0] for fault in verdict.faults] == [
        "shop.example.com",
        "shop.example.com shows another certificate",
        "shop.example.com",
    ]
    assert verdict.faults[2].endswith("are asked for certificates of nobody, not of CN=Clients 1; CN=Clients 2.")


def test_silence_is_no_refusal() -> None:
    verdict = judge(MUTUAL, both(timed_out=True, alert=None, error="the server did not answer in time"))
    assert verdict.state is ServedState.MISMATCH
    assert "waited in vain" in verdict.message


@pytest.mark.parametrize("names", [(), ("CN=Clients 1",), ("CN=Clients 1", "CN=Clients 2", "CN=Them")])
def test_a_mutual_listener_must_ask_for_exactly_its_cas(names: tuple[str, ...]) -> None:
    verdict = judge(MUTUAL, both(client_ca_names=names))
    assert verdict.state is ServedState.MISMATCH
    assert "CN=Clients 1; CN=Clients 2" in verdict.message


def test_a_ca_named_twice_is_one_and_one_without_a_name_is_one() -> None:
    expected = Expected(chain=(LEAF,), client_ca_names=("", "CN=A", "CN=A"))
    assert expected.is_mutual
    assert judge(expected, [refused(chain=(LEAF,), client_ca_names=("CN=A", ""))]).state is ServedState.MATCH


def test_without_sni_another_certificate_proves_nothing() -> None:
    astray = one_way(sni=False, chain=(OTHER,), subject="CN=default")
    assert judge(ONE_WAY, [one_way(), astray]).state is ServedState.MATCH
    closed = one_way(sni=False, chain=(), status=None, error="the server closed the connection")
    assert judge(MUTUAL, [*both(), closed]).state is ServedState.MATCH


def test_without_sni_a_mutual_listener_must_not_answer_either() -> None:
    verdict = judge(MUTUAL, [*both(), refused(sni=False, chain=(OTHER,), status=200, error=None)])
    assert verdict.faults == ("shop.example.com without SNI: a client with no certificate got an answer (HTTP 200).",)


@pytest.mark.parametrize("expected", [ONE_WAY, MUTUAL])
def test_nobody_there_is_unreachable_whatever_was_expected(expected: Expected) -> None:
    absent = one_way(reached=False, chain=(), status=None, error="the connection failed (Connection refused)")
    verdict = judge(expected, [absent, absent])
    assert verdict.state is ServedState.UNREACHABLE
    assert verdict.message == "No connection: the connection failed (Connection refused)."


@pytest.mark.parametrize("expected", [ONE_WAY, MUTUAL])
def test_a_handshake_that_never_came_to_a_certificate_in_time_is_unreachable_not_wrong(expected: Expected) -> None:
    late = one_way(chain=(), status=None, timed_out=True, error="the server did not answer in time")
    verdict = judge(expected, [late])
    assert verdict.state is ServedState.UNREACHABLE
    assert verdict.message == "No handshake with shop.example.com: the server did not answer in time."


def test_one_host_that_is_wrong_weighs_more_than_one_that_is_away() -> None:
    away = one_way(host="www.example.com", reached=False, chain=(), status=None, error="refused")
    wrong = one_way(chain=(OTHER,))
    assert judge(ONE_WAY, [away, one_way()]).state is ServedState.UNREACHABLE
    verdict = judge(ONE_WAY, [away, one_way(), wrong])
    assert (verdict.state, verdict.fingerprint_sha256) == (ServedState.MISMATCH, OTHER)


def test_the_same_fault_is_told_once() -> None:
    assert len(judge(ONE_WAY, [one_way(chain=(OTHER,))] * 2).faults) == 1


def test_no_handshake_is_no_proof() -> None:
    assert judge(ONE_WAY, []).state is ServedState.UNREACHABLE


def test_nothing_expected_is_met_by_nothing() -> None:
    assert judge(Expected(chain=()), [one_way()]).state is ServedState.MISMATCH


def test_a_message_stays_readable_however_much_a_server_asks_for() -> None:
    names = tuple(f"CN={'x' * 1000}{number}" for number in range(1000))
    verdict = judge(MUTUAL, [refused(client_ca_names=names, subject="CN=" + "y" * 1000, chain=(OTHER,))])
    assert "and 997 more" in verdict.faults[1]
    assert all(len(fault) < 600 for fault in verdict.faults)


@pytest.mark.parametrize(
    ("states", "together"),
    [
        ([], "not_checked"),
        (["match"], "match"),
        (["match", "not_checked"], "not_checked"),
        (["not_checked", "unreachable", "match"], "unreachable"),
        (["unreachable", "mismatch", "match"], "mismatch"),
    ],
)
def test_several_listeners_are_as_good_as_the_worst(states: list[str], together: str) -> None:
    assert worst(ServedState(state) for state in states) == together
