"""The prober sees what real TLS servers show, whom they ask for, and how they answer or refuse."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from services.worker.probe import TlsProber
from shared.crypto.certificates import read_certificate
from shared.crypto.pem import Block
from shared.domain.rollout import ServedState
from shared.domain.served import Client, Expected, Handshake, judge
from tests.support import pki
from tests.support.tls import OK, TlsServer, listening, relaying, with_a_wrong_signature

HOST: Final = "shop.example.com"
VERSIONS: Final = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

pytestmark = pytest.mark.integration


def knock(server: TlsServer, *, host: str = HOST, client: Client = Client.ANONYMOUS, sni: bool = True) -> Handshake:
    with listening(server.serve) as address:
        return TlsProber().handshake(address, host=host, client=client, sni=sni)


def serving(issued: pki.Issued | None = None, **others: pki.Issued) -> dict[str, pki.Issued]:
    return {"": issued or pki.server(HOST), **others}


def chain_of(issued: pki.Issued) -> tuple[str, ...]:
    return tuple(one.fingerprint(hashes.SHA256()).hex() for one in (issued.certificate, *issued.above))


def subject_of(issued: pki.Issued) -> str:
    """As the product stores it when the certificate is uploaded."""
    der = issued.certificate.public_bytes(Encoding.DER)
    certificate, _ = read_certificate(Block(label="CERTIFICATE", der=der, line=1))
    assert certificate is not None
    return certificate.facts.subject


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", list(Client))
def test_the_whole_chain_and_the_answer_are_seen(version: int, client: Client) -> None:
    issued = pki.server_with_chain(HOST)
    server = TlsServer(certificates=serving(issued), lowest=version, highest=version)
    seen = knock(server, client=client)
    assert (seen.chain, seen.subject, seen.status) == (chain_of(issued), f"CN={HOST}", 200)
    assert (seen.client_ca_names, seen.error, seen.alert, seen.timed_out) == ((), None, None, False)
    assert judge(Expected(chain=chain_of(issued)), [seen]).state is ServedState.MATCH


def test_the_request_names_the_host_and_who_asks_and_wants_no_second() -> None:
    server = TlsServer(certificates=serving())
    knock(server)
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "HEAD / HTTP/1.1"
    assert {f"Host: {HOST}", "Connection: close"} <= set(lines)
    assert any(line.startswith("User-Agent: certfleet") for line in lines)
    assert lines[-2:] == ["", ""]


def test_the_name_stands_in_the_handshake_or_in_the_request_alone() -> None:
    default, named = pki.server("default.example.com"), pki.server(HOST)
    server = TlsServer(certificates={"": default, HOST: named})
    assert knock(server).chain == chain_of(named)
    assert knock(server, sni=False).chain == chain_of(default)
    assert server.names == [HOST.encode(), None]
    assert all(f"Host: {HOST}\r\n".encode() in request for request in server.requests)


def test_a_name_is_reached() -> None:
    with listening(TlsServer(certificates=serving()).serve) as address:
        named = f"localhost:{address.rpartition(':')[2]}"
        assert TlsProber().handshake(named, host=HOST, client=Client.ANONYMOUS).status == 200


def test_an_ipv6_address_is_reached() -> None:
    if not _has_ipv6():
        pytest.skip("left out: this machine has no ::1")
    with listening(TlsServer(certificates=serving()).serve, family=socket.AF_INET6) as address:
        assert TlsProber().handshake(address, host=HOST, client=Client.ANONYMOUS).status == 200


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("version", "client", "alert"),
    [
        (SSL.TLS1_2_VERSION, Client.ANONYMOUS, "handshake_failure"),
        (SSL.TLS1_2_VERSION, Client.FOREIGN, "unknown_ca"),
        (SSL.TLS1_3_VERSION, Client.ANONYMOUS, "certificate_required"),
        (SSL.TLS1_3_VERSION, Client.FOREIGN, "unknown_ca"),
    ],
)
def test_a_mutual_listener_shows_itself_before_it_refuses(version: int, client: Client, alert: str) -> None:
    issued, authorities = pki.server_with_chain(HOST), (pki.authority("Clients 1"), pki.authority("Clients 2"))
    server = TlsServer(certificates=serving(issued), client_ca=authorities, lowest=version, highest=version)
    seen = knock(server, client=client)
    assert (seen.chain, seen.status, seen.alert) == (chain_of(issued), None, alert)
    assert seen.error == f"the server closed the connection (alert {alert})"
    assert set(seen.client_ca_names) == {"CN=Clients 1", "CN=Clients 2"}
    names = tuple(subject_of(one) for one in authorities)
    assert judge(Expected(chain=chain_of(issued), client_ca_names=names), [seen]).state is ServedState.MATCH


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_refused_without_being_asked_by_name_is_no_match_for_one_way(version: int) -> None:
    issued, authorities = pki.server(HOST), (pki.authority(),)
    server = TlsServer(
        certificates=serving(issued), client_ca=authorities, names_its_cas=False, lowest=version, highest=version
    )
    seen = knock(server)
    assert seen.client_ca_names == ()
    assert judge(Expected(chain=chain_of(issued)), [seen]).state is ServedState.MISMATCH


def _name(*values: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


@pytest.mark.parametrize(
    "name",
    [
        _name((NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Ätzwerk, GmbH"), (NameOID.COMMON_NAME, "A+B")),
        _name((NameOID.COMMON_NAME, ' #"<>\\;= ')),
        _name((NameOID.COMMON_NAME, "line\nbreak\x1b[31m\u202e")),
        _name((NameOID.COMMON_NAME, "顧客"), (NameOID.USER_ID, "7")),
        _name(*[(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 64)] * 20),
    ],
)
def test_a_ca_is_called_as_the_product_calls_it(name: x509.Name) -> None:
    authority = pki.authority(subject=name)
    seen = knock(TlsServer(certificates=serving(), client_ca=(authority,)))
    assert seen.client_ca_names == (subject_of(authority),)


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, *VERSIONS])
def test_weak_certificates_and_old_versions_are_seen_as_they_are(version: int) -> None:
    issued = pki.server(HOST, key="rsa-1024", signature="sha1")
    seen = knock(TlsServer(certificates=serving(issued), lowest=version, highest=version))
    assert (seen.chain, seen.status) == (chain_of(issued), 200)


@pytest.mark.parametrize("key", ["rsa-4096", "ec-p256", "ec-p384", "ec-p521", "ed25519"])
def test_every_kind_of_key_is_seen(key: str) -> None:
    issued = pki.server(HOST, key=key)
    assert knock(TlsServer(certificates=serving(issued))).chain == chain_of(issued)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(version: ssl.TLSVersion, tmp_path: Path) -> None:
    issued = pki.server(HOST)
    pair = tmp_path / "pair.pem"
    pair.write_text(issued.pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(pair)
    resumed = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(8192)
            resumed.append(secured.session_reused)
            secured.sendall(OK)

    prober = TlsProber()
    with listening(serve) as address:
        seen = [prober.handshake(address, host=HOST, client=Client.ANONYMOUS) for _ in range(3)]
    assert [one.status for one in seen] == [200, 200, 200]
    assert resumed == [False, False, False]


def test_the_foreign_client_is_one_certificate_per_process_whose_key_stays() -> None:
    server = TlsServer(certificates=serving(), client_ca=(pki.authority(),), trusts_everybody=True)
    for _ in range(2):
        knock(server, client=Client.FOREIGN)
    knock(server, client=Client.ANONYMOUS)
    first, second, none = server.clients
    assert first == second
    assert none is None
    assert first is not None
    assert "probe" in first.subject.rfc4514_string()


def test_a_certificate_whose_key_the_server_does_not_hold_was_not_shown() -> None:
    server = TlsServer(certificates=serving(), client_ca=(pki.authority(),), highest=SSL.TLS1_2_VERSION)
    with listening(server.serve) as address, listening(relaying(address, with_a_wrong_signature)) as between:
        seen = TlsProber().handshake(between, host=HOST, client=Client.ANONYMOUS)
    assert (seen.reached, seen.chain, seen.client_ca_names, seen.status) == (True, (), (), None)
    assert "bad signature" in (seen.error or "")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), 400),
        ((b"HTTP/1.0 204\r\n\r\n",), 204),
        ((b"HTTP/1.1 421 Misdirected Request\n\n",), 421),
        ((b"H", b"TTP/1.1 ", b"50", b"3 Away\r", b"\n"), 503),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK,), 200),
        ((b"HTTP/1.1 101 Switching Protocols\r\n\r\n",), 101),
        ((b"HTTP/1.1 200 \xff\xfe\r\nX: " + b"y" * 100_000,), 200),
    ],
)
def test_the_final_status_is_read_however_it_comes(answer: tuple[bytes, ...], status: int) -> None:
    seen = knock(TlsServer(certificates=serving(), answer=answer))
    assert (seen.status, seen.error) == (status, None)


@pytest.mark.parametrize(
    "answer",
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n",),
        (b"HTTP/2 200\r\n\r\n",),
        (b"HTTP/1.1 20 OK\r\n\r\n",),
        (b"HTTP/1.1 2000 OK\r\n\r\n",),
        (b"HTTP/1.1 099 Low\r\n\r\n",),
        (b"HTTP/1.1  200 OK\r\n\r\n",),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\nnonsense\n",),
        (b"HTTP/1.1 200 " + b"x" * 20_000,),
    ],
)
def test_what_is_not_http_is_called_so(answer: tuple[bytes, ...]) -> None:
    seen = knock(TlsServer(certificates=serving(), answer=answer))
    assert (seen.status, seen.error) == (None, "what the server answered is not HTTP/1")
    assert seen.chain


@pytest.mark.parametrize("answer", [(), (b"HTTP/1.1 2",), (b"HTTP/1.1 100 Continue\r\n",)])
def test_an_answer_that_breaks_off_is_none(answer: tuple[bytes, ...]) -> None:
    seen = knock(TlsServer(certificates=serving(), answer=answer))
    assert (seen.status, seen.error) == (None, "the server closed the connection without an answer")


def test_knocks_from_many_threads_do_not_mix() -> None:
    certificates = {f"h{number}.example.com": pki.server(f"h{number}.example.com") for number in range(8)}
    prober = TlsProber()
    with listening(TlsServer(certificates={"": pki.server(HOST), **certificates}).serve) as address:
        hosts = list(certificates)
        with ThreadPoolExecutor(8) as threads:
            seen = list(
                threads.map(lambda host: prober.handshake(address, host=host, client=Client.FOREIGN), hosts * 5)
            )
    assert [one.chain for one in seen] == [chain_of(certificates[one.host]) for one in seen]
    assert {one.host for one in seen} == set(hosts)
