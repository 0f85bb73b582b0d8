"""What a driver owes its listeners, as the balancer says and as clients see; part of ``DriverContract``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import pytest

from shared.domain.listeners import MOST_HOSTS, is_host
from shared.domain.served import Client
from shared.errors import DriverError, InUse, Replan, Unsupported
from shared.usecases.driver import Driver, Listener, ObjectName, Ref, Snapshot
from shared.usecases.proof import Prober
from tests.contract.kit_fencing import SEEN, Change, NewDriver, expect_done, expect_refused_when_older
from tests.contract.kit_material import (
    absent_ref,
    ca_material,
    key_lines,
    leaf_of,
    listener_of,
    server_material,
    stage_ca,
    stage_server,
)

CONCURRENT: Final = 8
REBINDS: Final = 20

PATIENCE: Final = timedelta(seconds=10)
"""A balancer may acknowledge before its last thread serves the new; longer than this is never."""

BINDINGS: Final[dict[str, Change]] = {
    "bind": lambda driver, listener, unused: driver.bind(listener_of(unused, hosts=listener.hosts)),
    "unbind": lambda driver, listener, _unused: driver.unbind(listener),
}

NOTHING: Final = ""
"""What a client saw who got no certificate."""


def leaf_seen(prober: Prober, address: str, listener: Listener) -> str:
    """For ``handshake``: the leaf that a client without a certificate gets for the listener's first host."""
    host = listener.hosts[0].replace("*", "kit", 1)
    shaken = prober.handshake(address, host=host, client=Client.ANONYMOUS)
    return shaken.chain[0] if shaken.chain else NOTHING


class ListenerObligations:
    """Every sentence about ``bind``, ``unbind`` and bound objects; skipped without ``capabilities.listeners``."""

    def handshake(self, listener: Listener) -> str | None:
        """Override: SHA-256 (lower-case hex) of the leaf that a client really gets for the listener's first host.

        ``""``: the client got no certificate. ``None``: this driver's balancer has no door to knock at (the default).
        Called from several threads. :func:`leaf_seen` does it with any ``Prober``.
        """
        del listener
        return None

    @pytest.fixture
    def driver(self, new_driver: NewDriver) -> Driver:
        """An empty balancer that serves listeners."""
        driver = new_driver()
        if not driver.capabilities.listeners:
            pytest.skip("this driver serves no listeners")
        return driver

    @pytest.fixture
    def mutual_driver(self, driver: Driver) -> Driver:
        """An empty balancer that asks clients for certificates."""
        if not driver.capabilities.mutual_auth:
            pytest.skip("this driver asks no client for a certificate")
        return driver

    # what the balancer says

    def test_a_bound_listener_is_in_the_snapshot_as_it_was_bound(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        assert driver.bind(listener) is True
        assert driver.snapshot().listeners == (listener,)
        assert driver.snapshot().anomalies == ()

    def test_binding_twice_changes_nothing_and_says_so(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        driver.bind(listener)
        before = driver.snapshot()
        assert driver.bind(listener) is False
        assert driver.snapshot() == before

    def test_several_hosts_and_a_wildcard_are_one_listener(self, driver: Driver) -> None:
        hosts = ("*.shop.example", "shop.example", "xn--bcher-kva.example")
        listener = listener_of(stage_server(driver), hosts=hosts)
        assert driver.bind(listener)
        assert driver.snapshot().listeners == (listener,)
        self._expect(listener, leaf_of())

    def test_the_largest_listener_is_taken(self, driver: Driver) -> None:
        tail = ".".join("x" * 60 for _ in range(3)) + ".example"
        hosts = tuple(f"{'y' * (253 - len(tail) - 4)}{number:03}.{tail}" for number in range(MOST_HOSTS))
        assert all(is_host(host) and len(host) == 253 for host in hosts)
        listener = listener_of(stage_server(driver), hosts=hosts)
        assert driver.bind(listener)
        assert driver.snapshot().listeners == (listener,)
        assert driver.unbind(listener)

    def test_a_listener_with_a_ca_is_shown_with_it_or_refused(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver), ca=stage_ca(driver))
        if not driver.capabilities.mutual_auth:
            assert self._refusal(driver, Unsupported, listener)
            return
        assert driver.bind(listener)
        assert driver.snapshot().listeners == (listener,)

    @pytest.mark.parametrize("first", ["one_way", "mutual"])
    @pytest.mark.parametrize("then", ["server", "hosts", "fewer_hosts", "authentication", "ca"])
    def test_rebinding_shows_only_the_new(self, mutual_driver: Driver, first: str, then: str) -> None:
        driver = mutual_driver
        ca = stage_ca(driver)
        old = listener_of(stage_server(driver), hosts=("a.example", "b.example"), ca=ca if first == "mutual" else None)
        driver.bind(old)
        changes = {
            "server": lambda: replace(old, server=stage_server(driver, 2)),
            "hosts": lambda: replace(old, hosts=("b.example", "c.example")),
            "fewer_hosts": lambda: replace(old, hosts=("b.example",)),
            "authentication": lambda: replace(old, ca=None if old.ca else ca),
            "ca": lambda: replace(old, ca=stage_ca(driver, "Other CA")),
        }
        new = changes[then]()
        assert driver.bind(new) is True
        assert driver.snapshot().listeners == (new,)
        assert driver.bind(new) is False

    def test_rebinding_without_mutual_authentication_shows_only_the_new(self, driver: Driver) -> None:
        old = listener_of(stage_server(driver, 1))
        new = listener_of(stage_server(driver, 2), hosts=("other.example",))
        assert [driver.bind(old), driver.bind(new)] == [True, True]
        assert driver.snapshot().listeners == (new,)

    def test_going_back_to_the_old_works(self, driver: Driver) -> None:
        one, two = (listener_of(stage_server(driver, serial)) for serial in (1, 2))
        assert [driver.bind(listener) for listener in (one, two, one)] == [True, True, True]
        assert driver.snapshot().listeners == (one,)
        self._expect(one, leaf_of(1))

    def test_unbinding_leaves_the_objects_staged_and_can_be_repeated(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        driver.bind(listener)
        assert [driver.unbind(listener), driver.unbind(listener)] == [True, False]
        assert driver.snapshot().listeners == ()
        assert [held.ref for held in driver.snapshot().objects] == [listener.server]

    def test_an_unbound_listener_can_be_bound_again(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        assert [driver.bind(listener), driver.unbind(listener), driver.bind(listener)] == [True, True, True]
        assert driver.snapshot().listeners == (listener,)

    def test_unbinding_decides_by_account_and_listener_id_only(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        driver.bind(listener)
        before = driver.snapshot()
        assert driver.unbind(replace(listener, listener_id="lsn_other")) is False
        assert driver.unbind(replace(listener, account_id="acct_two")) is False
        assert driver.snapshot() == before
        assert driver.unbind(replace(listener, hosts=("other.example",), server=absent_ref())) is True

    def test_each_change_of_listeners_is_another_version(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        versions = [driver.snapshot().version]
        for verb in (driver.bind, driver.unbind):
            verb(listener)
            versions.append(driver.snapshot().version)
        assert len(set(versions)) == 3

    # what is refused, and leaves everything as it was

    def test_a_bound_server_certificate_cannot_be_retired_until_it_is_replaced(self, driver: Driver) -> None:
        old = listener_of(stage_server(driver, 1))
        driver.bind(old)
        _expect_unchanged(driver, InUse, lambda: driver.retire(old.server))
        driver.bind(replace(old, server=stage_server(driver, 2)))
        assert driver.retire(old.server) is True
        assert driver.snapshot().find(old.server.name) is None

    def test_a_bound_ca_cannot_be_retired_until_it_is_replaced(self, mutual_driver: Driver) -> None:
        driver = mutual_driver
        ca = stage_ca(driver)
        listener = listener_of(stage_server(driver), ca=ca)
        driver.bind(listener)
        _expect_unchanged(driver, InUse, lambda: driver.retire(ca))
        driver.bind(replace(listener, ca=None))
        assert driver.retire(ca) is True

    def test_what_two_listeners_share_is_in_use_until_the_last_lets_go(self, driver: Driver) -> None:
        one = listener_of(stage_server(driver))
        two = replace(one, listener_id="lsn_two", hosts=("two.example",))
        driver.bind(one)
        driver.bind(two)
        driver.unbind(one)
        _expect_unchanged(driver, InUse, lambda: driver.retire(one.server))
        driver.unbind(two)
        assert driver.retire(one.server) is True

    def test_a_host_belongs_to_one_listener_whoever_owns_it(self, driver: Driver) -> None:
        driver.bind(listener_of(stage_server(driver)))
        hosts = ("aaa.example", "shop.example")
        for account in ("acct_one", "acct_two"):
            second = listener_of(stage_server(driver, account_id=account), listener_id="lsn_two", hosts=hosts)
            assert self._refusal(driver, InUse, second)
            self._expect(replace(second, hosts=("shop.example",)), leaf_of())

    def test_a_listener_cannot_grow_over_anothers_host(self, driver: Driver) -> None:
        one = listener_of(stage_server(driver))
        two = replace(one, listener_id="lsn_two", hosts=("two.example",))
        driver.bind(one)
        driver.bind(two)
        assert self._refusal(driver, InUse, replace(two, hosts=("shop.example", "two.example")))

    def test_a_host_that_was_let_go_can_be_taken(self, driver: Driver) -> None:
        one = listener_of(stage_server(driver), hosts=("shop.example", "www.example"))
        two = replace(one, listener_id="lsn_two", hosts=("www.example",))
        three = replace(one, listener_id="lsn_three", hosts=("shop.example",))
        driver.bind(one)
        driver.bind(replace(one, hosts=("shop.example",)))
        assert driver.bind(two)
        driver.unbind(one)
        assert driver.bind(three)
        assert set(driver.snapshot().listeners) == {two, three}

    @pytest.mark.parametrize("is_bound", [False, True])
    def test_what_is_not_staged_cannot_be_bound(self, driver: Driver, *, is_bound: bool) -> None:
        listener = listener_of(stage_server(driver))
        if is_bound:
            driver.bind(listener)
        assert self._refusal(driver, Replan, replace(listener, server=absent_ref()))
        if driver.capabilities.mutual_auth:
            assert self._refusal(driver, Replan, replace(listener, ca=absent_ref(ca_material())))

    def test_what_was_retired_cannot_be_bound(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        driver.retire(listener.server)
        assert self._refusal(driver, Replan, listener)

    def test_another_accounts_object_cannot_be_bound(self, driver: Driver) -> None:
        mine = stage_server(driver, account_id="acct_one")
        forged = Ref(name=replace(mine.name, account_id="acct_two"), remote_id=mine.remote_id)
        for server in (mine, forged):
            assert self._refusal(driver, Replan, listener_of(server, account_id="acct_two"))

    def test_a_refused_listener_names_no_key(self, driver: Driver) -> None:
        driver.bind(listener_of(stage_server(driver)))
        refused = self._refusal(driver, InUse, listener_of(stage_server(driver, 2), listener_id="lsn_two"))
        assert not any(line in f"{refused!r} {refused.hint}" for line in key_lines(server_material(serial=2)))

    # several at once

    def test_two_listeners_know_nothing_of_each_other(self, driver: Driver) -> None:
        one = listener_of(stage_server(driver, 1), hosts=("one.example",))
        two = listener_of(stage_server(driver, 2), listener_id="lsn_two", hosts=("two.example",))
        driver.bind(one)
        driver.bind(two)
        assert set(driver.snapshot().listeners) == {one, two}
        changed = replace(one, server=stage_server(driver, 3))
        driver.bind(changed)
        assert set(driver.snapshot().listeners) == {changed, two}
        self._expect(two, leaf_of(2))
        driver.unbind(changed)
        assert driver.snapshot().listeners == (two,)
        self._expect(two, leaf_of(2))

    def test_a_name_below_a_wildcard_may_be_another_listener_and_answers_for_itself(self, driver: Driver) -> None:
        wild = listener_of(stage_server(driver, 1), hosts=("*.shop.example",))
        named = listener_of(stage_server(driver, 2), listener_id="lsn_two", hosts=("www.shop.example",))
        assert [driver.bind(wild), driver.bind(named)] == [True, True]
        self._expect(wild, leaf_of(1))
        self._expect(named, leaf_of(2))

    def test_the_same_listener_id_of_two_accounts_is_two_listeners(self, driver: Driver) -> None:
        one = listener_of(stage_server(driver, account_id="acct_one"), hosts=("one.example",))
        two = listener_of(stage_server(driver, account_id="acct_two"), hosts=("two.example",))
        assert [driver.bind(one), driver.bind(two)] == [True, True]
        assert driver.snapshot().of_account("acct_one").listeners == (one,)
        assert driver.snapshot().of_account("acct_two").listeners == (two,)
        assert driver.unbind(one)
        assert driver.snapshot().listeners == (two,)

    def test_concurrent_binders_lose_nothing(self, driver: Driver, new_driver: NewDriver) -> None:
        server = stage_server(driver)
        listeners = [
            listener_of(server, listener_id=f"lsn_{number}", hosts=(f"host{number}.example",))
            for number in range(CONCURRENT)
        ]
        with ThreadPoolExecutor(CONCURRENT) as threads:
            assert all(threads.map(lambda one: new_driver().bind(one), listeners))
        assert set(driver.snapshot().listeners) == set(listeners)
        with ThreadPoolExecutor(CONCURRENT) as threads:
            assert all(threads.map(lambda one: new_driver().unbind(one), listeners))
        assert driver.snapshot().listeners == ()

    def test_of_concurrent_binders_of_one_host_exactly_one_gets_it(self, driver: Driver, new_driver: NewDriver) -> None:
        server = stage_server(driver)
        listeners = [listener_of(server, listener_id=f"lsn_{number}") for number in range(CONCURRENT)]

        def is_bound(listener: Listener) -> bool:
            try:
                return new_driver().bind(listener)
            except InUse:
                return False

        with ThreadPoolExecutor(CONCURRENT) as threads:
            assert list(threads.map(is_bound, listeners)).count(True) == 1
        assert len(driver.snapshot().listeners) == 1

    def test_another_instance_sees_and_changes_the_firsts_listeners(
        self, driver: Driver, new_driver: NewDriver
    ) -> None:
        listener = listener_of(stage_server(driver))
        driver.bind(listener)
        assert new_driver().snapshot() == driver.snapshot()
        assert new_driver().bind(listener) is False
        assert new_driver().unbind(listener) is True
        assert driver.snapshot().listeners == ()

    def test_a_listener_survives_storage_as_text(self, mutual_driver: Driver, new_driver: NewDriver) -> None:
        listener = listener_of(stage_server(mutual_driver), ca=stage_ca(mutual_driver))
        mutual_driver.bind(listener)
        assert listener.ca is not None
        again = replace(listener, server=_stored(listener.server), ca=_stored(listener.ca))
        assert new_driver().bind(again) is False
        assert new_driver().unbind(again) is True

    def test_no_key_shows_in_any_answer_about_listeners(self, driver: Driver) -> None:
        listener = listener_of(stage_server(driver))
        shown = repr((driver, driver.bind(listener), driver.snapshot(), driver.unbind(listener)))
        assert not key_lines(server_material()) & set(shown.replace("\\n", "\n").split("\n"))
        assert "PRIVATE KEY" not in shown

    # who may change them

    @pytest.mark.parametrize("change", BINDINGS)
    def test_an_older_writers_binding_changes_nothing(self, driver: Driver, new_driver: NewDriver, change: str) -> None:
        del driver
        expect_refused_when_older(new_driver, BINDINGS[change])

    @pytest.mark.parametrize("fence", [SEEN, SEEN + 1, None])
    @pytest.mark.parametrize("change", BINDINGS)
    def test_bindings_of_the_same_a_newer_and_an_unfenced_writer_go_on(
        self, driver: Driver, new_driver: NewDriver, change: str, fence: int | None
    ) -> None:
        del driver
        expect_done(new_driver, BINDINGS[change], fence=fence)

    # what clients see

    def test_clients_see_what_was_bound_rebound_and_unbound(self, driver: Driver) -> None:
        listener = self._knockable(driver)
        self._expect(listener, leaf_of(1))
        driver.bind(replace(listener, server=stage_server(driver, 2)))
        self._expect(listener, leaf_of(2))
        driver.unbind(listener)
        self._expect(listener, NOTHING)

    def test_clients_see_a_staged_object_nowhere(self, driver: Driver) -> None:
        listener = self._knockable(driver)
        stage_server(driver, 2)
        driver.unbind(listener)
        self._expect(listener, NOTHING)
        driver.bind(listener)
        self._expect(listener, leaf_of(1))

    def test_clients_of_a_changed_host_set_see_the_new_hosts_and_not_the_old(self, driver: Driver) -> None:
        listener = self._knockable(driver, hosts=("a.example", "b.example"))
        changed = replace(listener, hosts=("b.example", "c.example"))
        driver.bind(changed)
        for host, leaf in {"a.example": NOTHING, "b.example": leaf_of(1), "c.example": leaf_of(1)}.items():
            self._expect(replace(changed, hosts=(host,)), leaf)

    def test_a_refused_change_leaves_clients_with_what_they_had(self, driver: Driver) -> None:
        listener = self._knockable(driver)
        assert self._refusal(driver, Replan, replace(listener, server=absent_ref()))
        self._expect(listener, leaf_of(1))

    def test_no_handshake_fails_or_shows_anything_else_while_a_listener_is_rebound(self, driver: Driver) -> None:
        listener = self._knockable(driver)
        bystander = listener_of(stage_server(driver, 9), listener_id="lsn_bystander", hosts=("bystander.example",))
        driver.bind(bystander)
        self._expect(bystander, leaf_of(9))
        servers = {serial: stage_server(driver, serial) for serial in (1, 2)}
        with _knocking(self, listener) as seen, _knocking(self, bystander) as seen_beside:
            for number in range(REBINDS):
                serial = 2 - number % 2
                assert driver.bind(replace(listener, server=servers[serial]))
                self._expect(listener, leaf_of(serial))
                seen.wait_for_more()
                seen_beside.wait_for_more()
        assert set(seen.leaves) == {leaf_of(1), leaf_of(2)}
        assert set(seen_beside.leaves) == {leaf_of(9)}

    def test_no_handshake_fails_while_hosts_and_authentication_change(self, mutual_driver: Driver) -> None:
        driver = mutual_driver
        listener = self._knockable(driver)
        ca = stage_ca(driver)
        more = replace(listener, hosts=(*listener.hosts, "tail.example"))
        with _knocking(self, listener) as seen:
            for changed in (more, replace(more, ca=ca), replace(listener, ca=ca), listener) * 3:
                assert driver.bind(changed)
                seen.wait_for_more()
        assert set(seen.leaves) == {leaf_of(1)}

    # how the above is said

    def _knockable(self, driver: Driver, **changes: tuple[str, ...]) -> Listener:
        listener = listener_of(stage_server(driver, 1), **changes)
        driver.bind(listener)
        if self.handshake(listener) is None:
            pytest.skip("nobody can knock at this driver's balancer")
        self._expect(listener, leaf_of(1))
        return listener

    def _expect(self, listener: Listener, leaf: str) -> None:
        """A client gets this leaf, at the latest after a moment; nothing is asked where nobody can knock."""
        until = time.monotonic() + PATIENCE.total_seconds()
        while (seen := self.handshake(listener)) not in (leaf, None):
            assert time.monotonic() < until, f"clients of {listener.hosts[0]} see {seen or 'nothing'}, not {leaf}"

    def _refusal(self, driver: Driver, kind: type[DriverError], listener: Listener) -> DriverError:
        return _expect_unchanged(driver, kind, lambda: driver.bind(listener))


def _expect_unchanged(driver: Driver, kind: type[DriverError], call: Callable[[], object]) -> DriverError:
    before: Snapshot = driver.snapshot()
    with pytest.raises(kind, match=r"\w+ \w+ \w+") as refused:
        call()
    assert driver.snapshot() == before
    return refused.value


def _stored(ref: Ref) -> Ref:
    return Ref(name=ObjectName.parse(ref.name.label, account_id=ref.name.account_id), remote_id=ref.remote_id)


@dataclass(slots=True, kw_only=True)
class _Knocker:
    """A client that comes again and again, and what it saw."""

    knock: Callable[[], str | None]
    leaves: list[str | None] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _came: threading.Condition = field(default_factory=threading.Condition)

    def go_on(self) -> None:
        while not self._is_over.is_set():
            seen = self.knock()
            with self._came:
                self.leaves.append(seen)
                self._came.notify_all()

    def wait_for_more(self) -> None:
        """Two more handshakes were made, so at least one began after now."""
        with self._came:
            enough = len(self.leaves) + 2
            assert self._came.wait_for(lambda: len(self.leaves) >= enough, PATIENCE.total_seconds())

    def stop(self) -> None:
        self._is_over.set()


@contextmanager
def _knocking(test: ListenerObligations, listener: Listener) -> Iterator[_Knocker]:
    """A knocker at work; whatever it raises is raised at the end."""
    knocker = _Knocker(knock=lambda: test.handshake(listener))
    with ThreadPoolExecutor(1) as threads:
        at_work = threads.submit(knocker.go_on)
        try:
            yield knocker
        finally:
            knocker.stop()
        at_work.result()
