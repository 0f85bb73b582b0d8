"""Mutual TLS at a real Envoy: who is refused, also with a session that another host name or an earlier CA gave."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.worker.drivers.envoy import EnvoyDriver
from shared.domain.certificates import CertificateType, Material
from shared.usecases.driver import Driver, Ref
from tests.contract.driver_kit import listener_of, owner
from tests.contract.kit_material import stage_server
from tests.support import pki
from tests.support.envoy import EnvoyProcess, running_envoy

OPEN, CLOSED = "open.example", "closed.example"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came of one visit: the HTTP status, 0 for a refusal; the session to resume."""

    status: int
    session: ssl.SSLSession | None
    was_resumed: bool = False


@pytest.fixture
def envoy(place: Path) -> Iterator[EnvoyProcess]:
    with running_envoy(place) as running:
        yield running


@pytest.fixture
def friends() -> pki.Issued:
    return pki.authority("Friends CA", key="ec-p256")


@pytest.fixture
def driver(envoy: EnvoyProcess, friends: pki.Issued) -> Driver:
    """A one-way listener and a mutual one, side by side, with one server certificate."""
    built = EnvoyDriver.for_region(envoy.region())
    server = stage_server(built)
    built.bind(listener_of(server, listener_id="lsn_open", hosts=(OPEN,)))
    built.bind(listener_of(server, listener_id="lsn_closed", hosts=(CLOSED,), ca=staged_ca(built, friends)))
    return built


def visitor(issuer: pki.Issued) -> pki.Issued:
    """A client certificate that is good now: Envoy looks at the real clock."""
    return pki.client(issuer=issuer, key="ec-p256", not_after=pki.NOW + 3650 * pki.DAY)


def staged_ca(driver: Driver, authority: pki.Issued) -> Ref:
    content = Material(
        type=CertificateType.CA, certificate_pem=authority.pem, fingerprint_sha256=authority.fingerprint_sha256
    )
    return driver.stage(content, owner=owner(certificate_id=f"ca_{authority.fingerprint_sha256[:8]}")).ref


def client_context(tmp_path: Path, version: ssl.TLSVersion, issued: pki.Issued | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if issued is not None:
        pair = tmp_path / "client.pem"
        pair.write_text(issued.chain_pem + issued.key_pem)
        context.load_cert_chain(pair)
    return context


def visit(
    envoy: EnvoyProcess, context: ssl.SSLContext, host: str, *, session: ssl.SSLSession | None = None, ask: str = ""
) -> Visit:
    try:
        with (
            socket.create_connection(("127.0.0.1", envoy.port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=host, session=session) as connection,
        ):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {ask or host}\r\nConnection: close\r\n\r\n".encode())
            head = connection.recv(4096)
            status = int(head.split()[1]) if head.startswith(b"HTTP/") else 0
            return Visit(status=status, session=connection.session, was_resumed=bool(connection.session_reused))
    except (ssl.SSLError, ConnectionError):
        return Visit(status=0, session=None)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
class TestMutual:
    @pytest.mark.usefixtures("driver")
    def test_a_friend_is_let_in_an_anonymous_and_a_foreign_client_are_not(
        self, envoy: EnvoyProcess, friends: pki.Issued, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        strangers = pki.authority("Strangers CA", key="ec-p256")
        friend = visitor(friends)
        stranger = visitor(strangers)
        assert visit(envoy, client_context(tmp_path, version, friend), CLOSED).status == 200
        assert visit(envoy, client_context(tmp_path, version, None), CLOSED).status == 0
        assert visit(envoy, client_context(tmp_path, version, stranger), CLOSED).status == 0

    @pytest.mark.usefixtures("driver")
    def test_a_session_of_the_open_host_does_not_open_the_closed_one(
        self, envoy: EnvoyProcess, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        context = client_context(tmp_path, version, None)
        first = visit(envoy, context, OPEN)
        assert first.status == 200
        assert visit(envoy, context, OPEN, session=first.session).was_resumed, "nothing to steal: no session is resumed"
        assert visit(envoy, context, CLOSED, session=first.session).status == 0
        assert visit(envoy, context, OPEN, ask=CLOSED).status == 421

    def test_a_client_of_a_removed_ca_is_refused_also_with_its_old_session(
        self, driver: Driver, envoy: EnvoyProcess, friends: pki.Issued, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        context = client_context(tmp_path, version, visitor(friends))
        before = visit(envoy, context, CLOSED)
        others = staged_ca(driver, pki.authority("New friends CA", key="ec-p256"))
        server = stage_server(driver)
        assert driver.bind(listener_of(server, listener_id="lsn_closed", hosts=(CLOSED,), ca=others))
        assert before.status == 200
        assert visit(envoy, context, CLOSED).status == 0
        assert visit(envoy, context, CLOSED, session=before.session).status == 0
