"""The haproxy driver at a real HAProxy: its traps, meddling by hand, restarts, lost answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.worker.drivers.haproxy import HaproxyDriver
from services.worker.probe import TlsProber
from shared.domain.certificates import CertificateType, Material
from shared.domain.served import Client
from shared.errors import (
    Busy,
    Corrupt,
    DriverError,
    InUse,
    InvalidMaterial,
    OutcomeUnknown,
    Replan,
    Unreachable,
    Unsupported,
)
from shared.usecases.driver import AnomalyKind, Listener, ObjectName, Ref
from tests.contract.driver_kit import ca_material, listener_of, owner, server_material
from tests.contract.kit_material import leaf_of, stage_ca, stage_server
from tests.support import pki
from tests.support.haproxy import HaproxyProcess, running_haproxy
from tests.support.haproxy_relay import Relay, relaying

HOST = "shop.example"

pytestmark = pytest.mark.integration


@pytest.fixture
def haproxy(place: Path) -> Iterator[HaproxyProcess]:
    with running_haproxy(place) as running:
        yield running


@pytest.fixture
def driver(haproxy: HaproxyProcess) -> HaproxyDriver:
    return HaproxyDriver.for_region(haproxy.region())


@pytest.fixture
def relay(haproxy: HaproxyProcess, place: Path) -> Iterator[Relay]:
    with relaying(place, haproxy.socket) as running:
        yield running


def through(relay: Relay, haproxy: HaproxyProcess, **changes: Any) -> HaproxyDriver:
    settings = {**haproxy.region().settings, "socket": f"unix:{relay.address}", **changes}
    return HaproxyDriver.for_region(haproxy.region(settings=settings))


def seen(haproxy: HaproxyProcess, host: str = HOST) -> str:
    chain = TlsProber().handshake(haproxy.address, host=host, client=Client.ANONYMOUS).chain
    return chain[0] if chain else ""


def bound(driver: HaproxyDriver, serial: int = 1, **changes: Any) -> Listener:
    listener = listener_of(stage_server(driver, serial), **changes)
    driver.bind(listener)
    return listener


def found(driver: HaproxyDriver) -> list[tuple[AnomalyKind, str]]:
    return [(anomaly.kind, anomaly.subject) for anomaly in driver.snapshot().anomalies]


def path_of(ref: Ref) -> str:
    return ref.remote_id


def pair(serial: int) -> str:
    material = server_material(serial=serial)
    return f"{material.certificate_pem}{material.private_key_pem}"


def swap_by_hand(haproxy: HaproxyProcess, path: str, serial: int) -> None:
    haproxy.command(f"set ssl cert {path} <<\n{pair(serial)}")
    assert "Success!" in haproxy.command(f"commit ssl cert {path}")


def lose_track(haproxy: HaproxyProcess, ca: Ref) -> None:
    """What an administrator does who updates a CA file that is in use."""
    haproxy.command(f"set ssl ca-file {path_of(ca)} <<\n{ca_material('By hand').certificate_pem}")
    assert "Success!" in haproxy.command(f"commit ssl ca-file {path_of(ca)}")


class TestOnlyOurOwnTransactions:
    def test_one_that_somebody_left_open_is_named_and_then_ended(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        old = bound(driver)
        haproxy.command(f"set ssl cert {path_of(old.server)} <<\n{pair(9)}")
        assert found(driver) == [(AnomalyKind.UNEXPECTED, path_of(old.server))]
        new = bound(driver, 2)
        assert seen(haproxy) == leaf_of(2)
        driver.bind(replace(old, hosts=("other.example",), listener_id="lsn_two"))
        assert seen(haproxy, "other.example") == leaf_of(1)
        assert haproxy.held() == {path_of(old.server), path_of(new.server)}
        assert found(driver) == []

    def test_content_that_got_into_somebody_elses_is_taken_back_and_tried_again_later(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, relay: Relay
    ) -> None:
        """HAProxy 2.6 puts the content of any ``set ssl cert`` into whatever transaction is open."""
        old = bound(driver)

        def meddle(command: str) -> None:
            if command.startswith("set ssl cert"):
                haproxy.command(f"set ssl cert {path_of(old.server)} <<\n{pair(9)}")

        relay.meddle = meddle
        with pytest.raises(OutcomeUnknown, match="Somebody else is changing certificates"):
            stage_server(through(relay, haproxy), 2)
        assert not any(path.startswith("*") for path in haproxy.held())
        haproxy.command(f"commit ssl cert {path_of(old.server)}")
        assert seen(haproxy) == leaf_of(1)
        new = stage_server(driver, 2)
        driver.bind(listener_of(new))
        assert (seen(haproxy), found(driver)) == (leaf_of(2), [])

    def test_a_ca_file_that_somebody_else_is_changing_is_left_to_him_and_tried_again(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, relay: Relay
    ) -> None:
        other = stage_ca(driver, "Other")

        def meddle(command: str) -> None:
            if command.startswith("set ssl ca-file"):
                haproxy.command(f"set ssl ca-file {path_of(other)} <<\n{ca_material('By hand').certificate_pem}")

        relay.meddle = meddle
        with pytest.raises(OutcomeUnknown, match="Somebody else is changing certificates"):
            stage_ca(through(relay, haproxy), "New")
        stage_ca(driver, "New")
        assert found(driver) == []


class TestACaInUse:
    def test_one_that_was_changed_by_hand_is_named_and_never_committed(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        ca = stage_ca(driver)
        listener = bound(driver, ca=ca)
        lose_track(haproxy, ca)
        names = {(AnomalyKind.ALTERED, ca.name.label), (AnomalyKind.ALTERED, listener.server.name.label)}
        assert set(found(driver)) == names
        for verb, changed in (
            (driver.bind, listener),
            (driver.bind, replace(listener, ca=None)),
            (driver.unbind, listener),
        ):
            with pytest.raises(Corrupt) as alarm:
                verb(changed)
            assert "Reload" in alarm.value.hint
        with pytest.raises(InUse):
            driver.retire(listener.server)

    def test_a_restart_puts_it_right(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        ca = stage_ca(driver)
        listener = bound(driver, ca=ca)
        lose_track(haproxy, ca)
        haproxy.restart()
        assert found(driver) == []
        assert driver.bind(replace(listener, ca=None)) is True
        assert driver.retire(ca) is True

    def test_an_unused_one_that_was_changed_by_hand_is_put_right(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        ca = stage_ca(driver)
        lose_track(haproxy, ca)
        assert found(driver) == [(AnomalyKind.ALTERED, ca.name.label)]
        staged = driver.stage(ca_material(), owner=owner(certificate_id=ca.name.certificate_id))
        assert (staged.ref, staged.created, found(driver)) == (ca, True, [])


class TestSize:
    @pytest.fixture
    def small(self, place: Path) -> Iterator[HaproxyProcess]:
        with running_haproxy(place, bufsize=16384) as running:
            yield running

    def test_what_fits_is_taken_and_one_more_certificate_is_refused_with_the_remedy(
        self, small: HaproxyProcess
    ) -> None:
        driver = HaproxyDriver.for_region(small.region())
        most, one = driver.capabilities.max_pem_bytes, len(ca_material().certificate_pem)
        assert most is not None
        fitting = (most - 200) // one
        assert driver.stage(ca_material(certificates=fitting), owner=owner()).created
        with pytest.raises(InvalidMaterial) as refused:
            driver.stage(ca_material(certificates=fitting + 2), owner=owner())
        assert "tune.bufsize" in refused.value.hint

    def test_a_listener_with_too_many_names_is_refused_before_it_is_written(self, small: HaproxyProcess) -> None:
        driver = HaproxyDriver.for_region(small.region())
        listener = bound(driver)
        before = small.crt_list.read_text()
        hosts = tuple(f"{'x' * 60}.{'y' * 60}.{'z' * 60}.n{number:03}.example" for number in range(90))
        with pytest.raises(InvalidMaterial) as refused:
            driver.bind(replace(listener, hosts=hosts))
        assert "tune.bufsize" in refused.value.hint
        assert (small.crt_list.read_text(), seen(small), found(driver)) == (before, leaf_of(1), [])

    @pytest.mark.parametrize("slack", [0, 1])
    def test_a_buffer_smaller_than_configured_is_noticed_before_it_kills_haproxy(
        self, small: HaproxyProcess, slack: int
    ) -> None:
        """A command of exactly ``tune.bufsize`` bytes kills HAProxy 2.6.12 (``slack`` 0)."""
        driver = HaproxyDriver.for_region(small.region(settings={**small.region().settings, "bufsize": 65536}))
        material = ca_material(certificates=(16384 - slack) // len(ca_material().certificate_pem) + 1)
        before = driver.snapshot()
        with pytest.raises(Unsupported, match=r"tune\.bufsize is 16384"):
            driver.stage(material, owner=owner())
        assert driver.snapshot() == before
        assert "Name: HAProxy" in small.command("show info")


class TestInjection:
    @pytest.mark.parametrize(
        "tail", ["\nset maxconn global 7\n", "\n\nset maxconn global 7\n", ";set maxconn global 7"]
    )
    def test_no_byte_of_a_certificate_becomes_a_command(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, tail: str
    ) -> None:
        before = haproxy.command("show info").count("Maxconn: 7\n")
        for material in (
            replace(server_material(), certificate_pem=server_material().certificate_pem + tail),
            replace(server_material(), private_key_pem=f"{server_material().private_key_pem}{tail}"),
            replace(ca_material(), certificate_pem=tail + ca_material().certificate_pem),
        ):
            with pytest.raises(InvalidMaterial):
                driver.stage(material, owner=owner())
        assert haproxy.command("show info").count("Maxconn: 7\n") == before == 0
        assert (haproxy.held(), found(driver)) == (set(), [])

    @pytest.mark.parametrize(
        "changes",
        [
            {"hosts": ("a.example;set maxconn global 7",)},
            {"hosts": ("a.example\n\nset maxconn global 7",)},
            {"hosts": ("a.example !b.example",)},
            {"hosts": ("!a.example",)},
            {"hosts": ()},
            {"listener_id": "lsn\nx"},
        ],
    )
    def test_no_host_name_or_id_becomes_a_command_or_a_line(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, changes: dict[str, Any]
    ) -> None:
        listener = bound(driver)
        before = haproxy.crt_list.read_text()
        with pytest.raises(InvalidMaterial):
            driver.bind(replace(listener, **changes))
        assert (haproxy.crt_list.read_text(), len(haproxy.served())) == (before, 1)
        assert "Maxconn: 7\n" not in haproxy.command("show info")


class TestWhatHaproxyRefuses:
    def test_it_leaves_nothing_behind(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        listener = bound(driver)
        weak = pki.server(HOST, key="rsa-1024")
        material = Material(
            type=CertificateType.SERVER,
            certificate_pem=weak.pem,
            private_key_pem=weak.key_pem,
            fingerprint_sha256=weak.fingerprint_sha256,
        )
        with pytest.raises(InvalidMaterial, match="unable to load SSL certificate"):
            driver.stage(material, owner=owner(certificate_id="weak"))
        assert haproxy.held() == {path_of(listener.server)}
        assert (len(driver.snapshot().objects), seen(haproxy), found(driver)) == (1, leaf_of(1), [])

    def test_a_key_of_another_certificate_leaves_nothing_behind(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        mixed = replace(server_material(), private_key_pem=pki.server(HOST, key="ec-p256", number=5).key_pem)
        with pytest.raises(InvalidMaterial):
            driver.stage(mixed, owner=owner())
        assert (haproxy.held(), driver.snapshot().objects, found(driver)) == (set(), (), [])
        assert list((haproxy.directory / "objects").glob("*/*")) == []


class TestRestart:
    def test_everything_is_served_again_and_what_was_staged_can_be_bound(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        one = bound(driver, ca=stage_ca(driver))
        two = bound(driver, 2, listener_id="lsn_two", hosts=("*.two.example", "two.example"))
        staged = stage_server(driver, 3)
        before = driver.snapshot()
        haproxy.restart()
        assert driver.snapshot() == before
        assert (seen(haproxy), seen(haproxy, "x.two.example")) == (leaf_of(1), leaf_of(2))
        assert not driver.stage(server_material(serial=3), owner=owner(certificate_id="cert_3")).created
        assert driver.bind(replace(two, server=staged))
        assert seen(haproxy, "two.example") == leaf_of(3)
        assert set(driver.snapshot().listeners) == {one, replace(two, server=staged)}

    def test_a_staged_object_can_be_bound_and_retired_without_being_staged_again(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        one, two = stage_server(driver, 1), stage_server(driver, 2)
        haproxy.restart()
        assert driver.bind(listener_of(one))
        assert driver.retire(two)
        assert ([held.ref for held in driver.snapshot().objects], found(driver)) == ([one], [])

    def test_one_that_started_with_older_files_is_named_and_healed_by_the_next_bind(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        bound(driver, 1, hosts=("gone.example", HOST))
        older = haproxy.crt_list.read_text()
        new = bound(driver, 2)
        newer = haproxy.crt_list.read_text()
        haproxy.crt_list.write_text(older)
        haproxy.restart()
        haproxy.crt_list.write_text(newer)
        assert {kind for kind, _ in found(driver)} == {AnomalyKind.MISSING, AnomalyKind.UNEXPECTED}
        assert driver.snapshot().listeners == ()
        assert driver.bind(new) is True
        assert (seen(haproxy), seen(haproxy, "gone.example"), found(driver)) == (leaf_of(2), "", [])

    def test_without_haproxy_nothing_is_changed_and_it_is_said(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        listener = bound(driver)
        before = haproxy.crt_list.read_text()
        haproxy.stop()
        for call in (
            driver.snapshot,
            lambda: stage_server(driver, 2),
            lambda: driver.bind(replace(listener, hosts=("b.example",))),
            lambda: driver.unbind(listener),
            lambda: driver.retire(listener.server),
        ):
            with pytest.raises(Unreachable):
                call()
        assert haproxy.crt_list.read_text() == before
        haproxy.start()
        assert (driver.snapshot().listeners, found(driver)) == ((listener,), [])


class TestByHand:
    def test_a_swapped_certificate_is_named_and_put_right_by_staging_it_again(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        listener = bound(driver)
        swap_by_hand(haproxy, path_of(listener.server), 9)
        assert seen(haproxy) == leaf_of(9)
        assert found(driver) == [(AnomalyKind.ALTERED, listener.server.name.label)]
        assert driver.snapshot().objects[0].fingerprint_sha256 is None
        staged = driver.stage(server_material(), owner=owner(certificate_id="cert_1"))
        assert (staged.ref, staged.created) == (listener.server, True)
        assert (seen(haproxy), found(driver)) == (leaf_of(1), [])

    def test_a_swapped_certificate_is_put_right_by_binding_it_again(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        listener = bound(driver)
        swap_by_hand(haproxy, path_of(listener.server), 9)
        assert driver.bind(listener) is True
        assert (seen(haproxy), found(driver), driver.bind(listener)) == (leaf_of(1), [], False)

    def test_a_chain_that_was_cut_off_is_named_and_put_right(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        issued = pki.server_with_chain(HOST, key="ec-p256")
        material = Material(
            type=CertificateType.SERVER,
            certificate_pem=issued.chain_pem,
            private_key_pem=issued.key_pem,
            fingerprint_sha256=issued.fingerprint_sha256,
        )
        staged = driver.stage(material, owner=owner())
        haproxy.command(f"set ssl cert {path_of(staged.ref)} <<\n{issued.pem}{issued.key_pem}")
        haproxy.command(f"commit ssl cert {path_of(staged.ref)}")
        assert found(driver) == [(AnomalyKind.ALTERED, staged.ref.name.label)]
        assert driver.stage(material, owner=owner()).created
        assert found(driver) == []

    def test_a_deleted_line_is_named_and_put_right(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        listener = bound(driver)
        haproxy.command(f"del ssl crt-list {haproxy.crt_list} {path_of(listener.server)}")
        assert found(driver) == [(AnomalyKind.MISSING, "lsn_one")]
        assert driver.bind(listener) is True
        assert (seen(haproxy), found(driver)) == (leaf_of(1), [])

    def test_a_line_with_our_certificate_is_named_keeps_it_in_use_and_goes_when_its_host_is_bound(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        ref = stage_server(driver)
        haproxy.command(f"add ssl crt-list {haproxy.crt_list} <<\n{path_of(ref)} by-hand.example\n")
        assert found(driver) == [(AnomalyKind.UNEXPECTED, ref.name.label)]
        with pytest.raises(InUse):
            driver.retire(ref)
        bound(driver, 2, hosts=("by-hand.example",))
        assert (seen(haproxy, "by-hand.example"), found(driver)) == (leaf_of(2), [])
        assert driver.retire(ref)

    def test_an_operators_own_line_is_named_kept_and_its_host_is_his(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        own = haproxy.place / "own.pem"
        own.write_text(pair(7))
        with haproxy.crt_list.open("a") as file:
            file.write(f"{own} own.example\n")
        haproxy.restart()
        assert found(driver) == [(AnomalyKind.UNEXPECTED, str(own))]
        with pytest.raises(InUse, match=r"own\.example"):
            bound(driver, hosts=("own.example",))
        listener = bound(driver)
        haproxy.restart()
        assert (seen(haproxy, "own.example"), seen(haproxy)) == (leaf_of(7), leaf_of(1))
        assert driver.snapshot().listeners == (listener,)

    def test_a_file_that_was_altered_is_named_and_not_bound(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess
    ) -> None:
        ref = stage_server(driver)
        file = Path(path_of(ref))
        file.write_text(pair(9))
        assert found(driver) == [(AnomalyKind.ALTERED, ref.name.label)]
        with pytest.raises(Replan):
            driver.bind(listener_of(ref))
        stage_server(driver)
        assert (file.read_text(), found(driver), haproxy.held()) == (pair(1), [], {path_of(ref)})

    def test_a_file_that_is_gone_open_to_others_or_nobodys_is_named(self, driver: HaproxyDriver) -> None:
        one, two = stage_server(driver, 1), stage_server(driver, 2)
        Path(path_of(one)).unlink()
        Path(path_of(two)).chmod(0o644)
        stranger = Path(path_of(two)).with_name("stranger.txt")
        stranger.touch()
        assert set(found(driver)) == {
            (AnomalyKind.MISSING, one.name.label),
            (AnomalyKind.ACCESS, two.name.label),
            (AnomalyKind.UNEXPECTED, str(stranger)),
        }
        stranger.unlink()
        stage_server(driver, 1)
        stage_server(driver, 2)
        assert found(driver) == []

    def test_a_haproxy_with_another_crt_list_is_told_what_to_put_on_its_bind_line(
        self, haproxy: HaproxyProcess
    ) -> None:
        settings = {**haproxy.region().settings, "crt_list": str(haproxy.directory / "another")}
        with pytest.raises(Unsupported) as refused:
            HaproxyDriver.for_region(haproxy.region(settings=settings)).snapshot()
        assert "strict-sni" in refused.value.hint


class TestFiles:
    def test_keys_are_readable_by_the_owner_alone(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        bound(driver)
        modes = {path.stat().st_mode & 0o777 for path in haproxy.directory.glob("**/*.pem")}
        assert modes == {0o600}

    def test_the_bootstrap_certificate_stays_first(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        driver.unbind(bound(driver))
        bound(driver)
        assert haproxy.crt_list.read_text().split("\n")[0] == f"{haproxy.directory / 'bootstrap.pem'} !*"

    def test_a_retired_key_is_nowhere_any_more(self, driver: HaproxyDriver, haproxy: HaproxyProcess) -> None:
        listener = bound(driver)
        driver.unbind(listener)
        driver.retire(listener.server)
        key = str(server_material().private_key_pem).split("\n")[1]
        assert not any(key in path.read_text() for path in haproxy.directory.rglob("*") if path.is_file())
        assert haproxy.held() == set()


class TestLostAnswers:
    CHANGES = ("new", "set", "commit", "add", "del")

    @pytest.mark.parametrize("verb", ["stage", "bind", "unbind", "retire"])
    def test_whichever_answer_is_lost_it_is_said_and_the_repeated_call_finishes(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, relay: Relay, verb: str
    ) -> None:
        """A lost answer to the first reads promises that nothing was changed; a later one says that it is not known."""
        lossy = through(relay, haproxy)
        old, new = bound(driver), stage_server(driver, 2)
        for lost in range(100):
            self._prepare(driver, old, verb)
            before = driver.snapshot()
            relay.commands.clear()
            relay.loses = lambda _command: len(relay.commands) == lost + 1  # noqa: B023 - used in this round only
            try:
                self._do(lossy, old, new, verb=verb)
            except (OutcomeUnknown, Unreachable) as error:
                said = error
            else:
                assert lost > 3
                break
            if isinstance(said, Unreachable):
                assert driver.snapshot() == before
                assert not any(command.startswith(self.CHANGES) for command in relay.commands)
            if verb == "bind":
                assert seen(haproxy) in {leaf_of(1), leaf_of(2)}
            relay.loses = lambda _command: False
            self._do(lossy, old, new, verb=verb)
            assert found(driver) == []
            assert not any(path.startswith("*") for path in haproxy.held())

    def _prepare(self, driver: HaproxyDriver, old: Listener, verb: str) -> None:
        if verb == "stage":
            driver.retire(stage_server(driver, 3))
        elif verb == "retire":
            stage_server(driver, 3)
        else:
            driver.bind(old)

    def _do(self, driver: HaproxyDriver, old: Listener, new: Ref, *, verb: str) -> object:
        if verb == "stage":
            return stage_server(driver, 3)
        if verb == "retire":
            return driver.retire(replace(new, name=stage_name()))
        return driver.bind(replace(old, server=new)) if verb == "bind" else driver.unbind(old)

    def test_a_haproxy_that_dies_in_the_middle_is_found_as_the_files_say(
        self, driver: HaproxyDriver, haproxy: HaproxyProcess, relay: Relay
    ) -> None:
        listener = bound(driver)
        new = stage_server(driver, 2)

        def meddle(command: str) -> None:
            if command.startswith("add") and HOST in haproxy.crt_list.read_text():
                haproxy.stop()

        relay.meddle = meddle
        with pytest.raises(DriverError):
            through(relay, haproxy).bind(replace(listener, server=new))
        haproxy.start()
        assert found(driver) == []
        assert seen(haproxy) in {leaf_of(1), leaf_of(2)}
        driver.bind(replace(listener, server=new))
        assert (seen(haproxy), found(driver)) == (leaf_of(2), [])


def stage_name() -> ObjectName:
    return ObjectName.of(server_material(serial=3), owner(certificate_id="cert_3"))


def test_a_writer_who_waits_too_long_is_busy(driver: HaproxyDriver, haproxy: HaproxyProcess, relay: Relay) -> None:
    listener = bound(driver)
    impatient = HaproxyDriver.for_region(haproxy.region(settings={**haproxy.region().settings, "lock_timeout": 0.05}))
    refused: list[DriverError] = []

    def meddle(command: str) -> None:
        if command.startswith("add") and not refused:
            with pytest.raises(Busy) as told:
                impatient.unbind(listener)
            refused.append(told.value)

    relay.meddle = meddle
    through(relay, haproxy).bind(replace(listener, hosts=("b.example",)))
    assert len(refused) == 1
