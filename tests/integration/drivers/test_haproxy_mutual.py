"""Mutual TLS at a real HAProxy as documented: who is refused, also with a session that another host name gave."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.drivers.haproxy import HaproxyDriver
from shared.domain.certificates import CertificateType, Material
from shared.usecases.driver import Ref
from tests.contract.driver_kit import listener_of, owner
from tests.contract.kit_material import stage_server
from tests.support import pki
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.visits import client_context, visit

OPEN, CLOSED, OTHERS = "open.example", "closed.example", "others.example"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
FOR_LONG = pki.NOW + 3650 * pki.DAY

pytestmark = pytest.mark.integration


@pytest.fixture
def haproxy(place: Path) -> Iterator[HaproxyProcess]:
    with running_haproxy(place) as running:
        yield running


@pytest.fixture
def friends() -> pki.Issued:
    return pki.authority("Friends CA", key="ec-p256")


@pytest.fixture
def strangers() -> pki.Issued:
    return pki.authority("Strangers CA", key="ec-p256")


def bind_all(haproxy: HaproxyProcess, friends: pki.Issued, strangers: pki.Issued) -> HaproxyDriver:
    """A one-way listener and two mutual ones of different CAs, with one server certificate."""
    driver = HaproxyDriver.for_region(haproxy.region())
    server = stage_server(driver)
    driver.bind(listener_of(server, listener_id="lsn_open", hosts=(OPEN,)))
    driver.bind(listener_of(server, listener_id="lsn_closed", hosts=(CLOSED,), ca=staged_ca(driver, friends)))
    driver.bind(listener_of(server, listener_id="lsn_others", hosts=(OTHERS,), ca=staged_ca(driver, strangers)))
    return driver


@pytest.fixture
def driver(haproxy: HaproxyProcess, friends: pki.Issued, strangers: pki.Issued) -> HaproxyDriver:
    return bind_all(haproxy, friends, strangers)


def visitor(issuer: pki.Issued) -> pki.Issued:
    """A client certificate that is good now: HAProxy looks at the real clock."""
    return pki.client(issuer=issuer, key="ec-p256", not_after=FOR_LONG)


def staged_ca(driver: HaproxyDriver, authority: pki.Issued) -> Ref:
    content = Material(
        type=CertificateType.CA, certificate_pem=authority.pem, fingerprint_sha256=authority.fingerprint_sha256
    )
    return driver.stage(content, owner=owner(certificate_id=f"ca_{authority.fingerprint_sha256[:8]}")).ref


@pytest.mark.parametrize("version", VERSIONS, ids=str)
class TestMutual:
    @pytest.mark.usefixtures("driver")
    def test_a_friend_is_let_in_an_anonymous_and_a_foreign_client_are_not(
        self,
        haproxy: HaproxyProcess,
        friends: pki.Issued,
        strangers: pki.Issued,
        tmp_path: Path,
        version: ssl.TLSVersion,
    ) -> None:
        seen = [
            visit(haproxy.address, client_context(tmp_path, issued, version=version), CLOSED).status
            for issued in (visitor(friends), None, visitor(strangers))
        ]
        assert seen == [200, 0, 0]

    @pytest.mark.usefixtures("driver")
    def test_no_session_of_another_host_opens_a_mutual_one(
        self, haproxy: HaproxyProcess, strangers: pki.Issued, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        context = client_context(tmp_path, visitor(strangers), version=version)
        for host in (OPEN, OTHERS):
            first = visit(haproxy.address, context, host)
            assert first.status == 200
            again = visit(haproxy.address, context, CLOSED, session=first.session)
            assert (again.status, again.was_resumed) == (0, False)

    @pytest.mark.usefixtures("driver")
    def test_a_connection_to_the_open_host_gets_no_answer_of_the_closed_one(
        self, haproxy: HaproxyProcess, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        assert visit(haproxy.address, client_context(tmp_path, None, version=version), OPEN, ask=CLOSED).status == 421

    def test_a_client_of_a_removed_ca_is_refused_also_with_its_old_session(
        self,
        driver: HaproxyDriver,
        haproxy: HaproxyProcess,
        friends: pki.Issued,
        tmp_path: Path,
        version: ssl.TLSVersion,
    ) -> None:
        context = client_context(tmp_path, visitor(friends), version=version)
        before = visit(haproxy.address, context, CLOSED)
        others = staged_ca(driver, pki.authority("New friends CA", key="ec-p256"))
        assert driver.bind(listener_of(stage_server(driver), listener_id="lsn_closed", hosts=(CLOSED,), ca=others))
        assert before.status == 200
        assert visit(haproxy.address, context, CLOSED).status == 0
        assert visit(haproxy.address, context, CLOSED, session=before.session).status == 0


def test_without_the_lines_about_sessions_only_the_one_about_host_names_stands_before_the_closed_host(
    place: Path, friends: pki.Issued, strangers: pki.Issued, tmp_path: Path
) -> None:
    """Why they are documented; fixed after HAProxy 2.6: where this fails, they are no longer needed."""
    with running_haproxy(place, sessions="") as haproxy:
        bind_all(haproxy, friends, strangers)
        context = client_context(tmp_path, None, version=ssl.TLSVersion.TLSv1_2)
        first = visit(haproxy.address, context, OPEN)
        again = visit(haproxy.address, context, CLOSED, session=first.session)
        assert (again.status, again.was_resumed) == (421, True)
