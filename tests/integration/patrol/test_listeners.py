"""The patrol of listeners: drift is seen within one period, named, told once, and never taken from a stale look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import event, select, text, update

from shared.domain.listeners import ListenerState
from shared.models import Balancer, Certificate, Listener, PeriodicRun
from shared.usecases import balancers, patrol, proofs
from shared.usecases.material import material_of
from shared.usecases.patrol import BATCH, SOON, look_at_listener
from shared.wakeups import Task
from tests.support.fleet import Fleet
from tests.support.listeners import add_listener, listener_of
from tests.support.memory_balancers import balancer, memory_region
from tests.support.patrols import (
    PERIOD,
    REPAIRED,
    TOLD,
    CountingProber,
    after_a_period,
    bound,
    deployment_of,
    foreign_material,
    patrol_now,
    told,
    work_patrols,
)

HOST = "shop.example.com"


def test_a_certificate_swapped_by_hand_is_named_within_one_period_and_told_once(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    stranger = foreign_material(HOST)
    balancer(TOLD).show_by_hand(HOST, stranger)

    after_a_period(fleet)
    after_a_period(fleet)

    drift = deployment_of(fleet, certificate_id).drift
    assert drift is not None
    assert drift["code"] == "served_mismatch"
    assert stranger.fingerprint_sha256 in drift["message"]
    assert HOST in drift["message"]
    row = listener_of(fleet, listener_id)
    assert (row.served, row.served_fingerprint_sha256) == ("mismatch", stranger.fingerprint_sha256)
    assert deployment_of(fleet, certificate_id).served == "mismatch"
    assert told(fleet) == [("drifted", "served_mismatch")]


def test_what_is_as_deployed_again_recovers_and_is_told_once(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    balancer(TOLD).unreachable = True
    after_a_period(fleet)
    balancer(TOLD).unreachable = False
    after_a_period(fleet)
    after_a_period(fleet)

    row = deployment_of(fleet, certificate_id)
    assert (row.served, row.drift, row.served_checked_at) == ("match", None, fleet.now)
    assert listener_of(fleet, listener_id).served_checked_at == fleet.now
    assert told(fleet) == [("drifted", "unreachable"), ("recovered", None)]


def test_one_of_two_listeners_is_enough_to_drift_and_both_must_match_to_recover(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    add_listener(fleet, TOLD, ["api.example.com"], server=certificate_id)
    fleet.run()
    balancer(TOLD).show_by_hand(HOST, foreign_material(HOST))
    after_a_period(fleet)
    assert told(fleet) == [("drifted", "served_mismatch")]
    balancer(TOLD).unreachable = True
    after_a_period(fleet)
    balancer(TOLD).unreachable = False
    after_a_period(fleet)

    assert told(fleet)[-1] == ("drifted", "served_mismatch")
    assert deployment_of(fleet, certificate_id).served == "mismatch"


def test_unreachable_is_said_only_when_a_second_round_finds_the_same(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    prober = CountingProber()
    fleet.prober = prober
    balancer(TOLD).unreachable = True

    def comes_back() -> None:
        balancer(TOLD).unreachable = len(prober.knocked) < 2

    prober.between = comes_back
    after_a_period(fleet)
    assert told(fleet) == [("drifted", "unreachable")]
    prober.knocked.clear()
    after_a_period(fleet)
    assert len(prober.knocked) == 4
    assert deployment_of(fleet, certificate_id).served == "unreachable"


def test_a_connection_that_fails_once_is_no_drift(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    balancer(TOLD).unreachable = True
    heals = CountingProber()

    def second_round() -> None:
        heals.between = heal

    def heal() -> None:
        balancer(TOLD).unreachable = False

    heals.between = second_round
    fleet.prober = heals
    after_a_period(fleet)

    assert deployment_of(fleet, certificate_id).served == "match"
    assert told(fleet) == []


def test_a_new_mismatch_is_believed_at_the_second_look_only(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    with fleet.transaction() as session:
        deployed = material_of(fleet.context, session, session.get_one(Certificate, certificate_id))
    balancer(TOLD).show_by_hand(HOST, foreign_material(HOST))
    settles = CountingProber()
    settles.between = lambda: balancer(TOLD).show_by_hand(HOST, deployed)
    fleet.prober = settles
    after_a_period(fleet)

    assert len(settles.knocked) == 4
    assert listener_of(fleet, listener_id).served == "match"
    assert deployment_of(fleet, certificate_id).drift is None
    assert told(fleet) == []


def test_a_known_mismatch_is_looked_at_once(fleet: Fleet) -> None:
    bound(fleet, HOST)
    balancer(TOLD).show_by_hand(HOST, foreign_material(HOST))
    prober = CountingProber()
    fleet.prober = prober
    after_a_period(fleet)
    new = len(prober.knocked)
    after_a_period(fleet)
    assert (new, len(prober.knocked) - new) == (4, 2)


def test_a_balancer_that_answers_nobody_is_given_up_after_two_knocks_a_round(fleet: Fleet) -> None:
    certificate_id, _ = bound(fleet, HOST)
    hosts = [f"{name}.example.com" for name in "abcdefghij"]
    add_listener(fleet, TOLD, hosts, server=certificate_id)
    prober = CountingProber()
    fleet.prober = prober
    fleet.run()
    with fleet.transaction() as session:
        session.execute(update(Listener).where(Listener.name == HOST).values(next_probe_at=None))
    balancer(TOLD).unreachable = True
    prober.knocked.clear()

    after_a_period(fleet)

    assert len(prober.knocked) == 4


def test_a_region_without_an_address_is_not_checked_and_drifts_not(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    fleet.context.settings.regions[TOLD] = memory_region(TOLD, listener_address=None)

    after_a_period(fleet)

    assert listener_of(fleet, listener_id).served == "not_checked"
    assert listener_of(fleet, listener_id).served_checked_at is None
    assert deployment_of(fleet, certificate_id).served == "not_checked"
    assert told(fleet) == []


def test_two_beats_at_once_wake_each_listener_and_region_once(fleet: Fleet) -> None:
    listeners = [bound(fleet, f"{name}.example.com")[1] for name in ("a", "b", "c")]
    fleet.pass_time(PERIOD)
    with fleet.transaction() as held:
        locked = held.get_one(Listener, listeners[0], with_for_update=True).id
        patrol.tick(fleet.context, now=fleet.now)
        patrol.tick(fleet.context, now=fleet.now)
        woken = [each.id for each in fleet.room.waiting if each.task is Task.PATROL_LISTENER]
        assert sorted([*woken, locked]) == sorted(listeners)
    assert sorted(each.id for each in fleet.room.waiting if each.task is Task.PATROL_REGION) == [REPAIRED, TOLD]
    patrol.tick(fleet.context, now=fleet.now)
    assert [each.id for each in fleet.room.waiting].count(locked) == 1


def test_messages_that_piled_up_knock_once(fleet: Fleet) -> None:
    _, listener_id = bound(fleet, HOST)
    fleet.pass_time(PERIOD)
    prober = CountingProber()
    fleet.prober = prober
    for _ in range(3):
        look_at_listener(fleet.context, fleet.tools, listener_id)
    assert prober.knocked == [HOST, HOST]


def test_a_look_is_never_recorded_over_a_change_in_between(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    balancer(TOLD).show_by_hand(HOST, foreign_material(HOST))
    prober = CountingProber()
    fleet.prober = prober
    fleet.pass_time(PERIOD)

    def change() -> None:
        with fleet.transaction() as session:
            session.get_one(Listener, listener_id).revision += 1

    prober.between = change
    patrol_now(fleet)

    row = listener_of(fleet, listener_id)
    assert (row.served, row.next_probe_at) == ("match", fleet.now + SOON)
    assert told(fleet) == []
    assert deployment_of(fleet, certificate_id).drift is None


def test_what_is_seen_while_somebody_writes_to_the_balancer_is_no_drift(fleet: Fleet) -> None:
    _, listener_id = bound(fleet, HOST)
    balancer(TOLD).show_by_hand(HOST, foreign_material(HOST))
    prober = CountingProber()
    fleet.prober = prober
    fleet.pass_time(PERIOD)

    def somebody_writes() -> None:
        with balancers.writing(fleet.context, TOLD, clock=lambda: fleet.now) as fence:
            assert fence is not None

    prober.between = somebody_writes
    look_at_listener(fleet.context, fleet.tools, listener_id)
    assert listener_of(fleet, listener_id).served == "match"
    assert listener_of(fleet, listener_id).next_probe_at == fleet.now + SOON

    with balancers.writing(fleet.context, TOLD, clock=lambda: fleet.now):
        look_at_listener(fleet.context, fleet.tools, listener_id)
        assert listener_of(fleet, listener_id).served == "match"
    look_at_listener(fleet.context, fleet.tools, listener_id)
    assert listener_of(fleet, listener_id).served == "mismatch"


def test_a_listener_at_work_is_looked_at_soon(fleet: Fleet) -> None:
    _, listener_id = bound(fleet, HOST)
    prober = CountingProber()
    fleet.prober = prober
    fleet.pass_time(PERIOD)
    with fleet.transaction() as session:
        row = session.get_one(Listener, listener_id)
        row.state, row.next_attempt_at, row.next_wake_at = ListenerState.BINDING, fleet.now, fleet.now

    patrol_now(fleet)

    assert prober.knocked == []
    assert listener_of(fleet, listener_id).next_probe_at == fleet.now + SOON


def test_a_repaired_region_serves_what_was_deployed_again(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST, REPAIRED)
    wanted = balancer(REPAIRED).shown_to(HOST)
    balancer(REPAIRED).show_by_hand(HOST, foreign_material(HOST))

    after_a_period(fleet)
    fleet.run()

    assert balancer(REPAIRED).shown_to(HOST) == wanted
    assert listener_of(fleet, listener_id).state == ListenerState.BOUND
    assert deployment_of(fleet, certificate_id, REPAIRED).drift is None
    assert told(fleet) == [("drifted", "served_mismatch"), ("recovered", None)]


def test_a_region_that_is_only_told_is_left_as_it_is(fleet: Fleet) -> None:
    bound(fleet, HOST)
    stranger = foreign_material(HOST)
    balancer(TOLD).show_by_hand(HOST, stranger)
    after_a_period(fleet)
    fleet.run()
    assert balancer(TOLD).shown_to(HOST) == stranger.fingerprint_sha256


def test_an_operator_who_insists_is_not_fought_for_ever(fleet: Fleet) -> None:
    bound(fleet, HOST, REPAIRED)
    stranger = foreign_material(HOST)
    repairs = 0
    for _ in range(30):
        balancer(REPAIRED).show_by_hand(HOST, stranger)
        after_a_period(fleet)
        fleet.run()
        repairs += balancer(REPAIRED).shown_to(HOST) != stranger.fingerprint_sha256
    assert repairs == 3
    fleet.pass_time(timedelta(hours=1))
    after_a_period(fleet)
    fleet.run()
    assert balancer(REPAIRED).shown_to(HOST) != stranger.fingerprint_sha256


def test_a_ticks_work_is_bounded_however_many_listeners_there_are(fleet: Fleet) -> None:
    _, listener_id = bound(fleet, HOST)
    many(fleet, listener_id, 2000)
    fleet.pass_time(PERIOD)

    patrol.tick(fleet.context, now=fleet.now)
    first = [each.id for each in fleet.room.waiting if each.task is Task.PATROL_LISTENER]
    patrol.tick(fleet.context, now=fleet.now)
    patrol.tick(fleet.context, now=fleet.now)
    everybody = [each.id for each in fleet.room.waiting if each.task is Task.PATROL_LISTENER]

    assert len(first) == BATCH
    assert len(everybody) == len(set(everybody)) == 2001
    with fleet.transaction() as session:
        turns = session.execute(select(Listener.next_probe_at)).scalars().all()
    assert len(set(turns)) > 1900
    assert all(turn and 0.8 * PERIOD <= turn - fleet.now <= PERIOD for turn in turns)


def test_the_tick_and_the_roll_up_read_their_partial_indexes(fleet: Fleet) -> None:
    certificate_id, listener_id = bound(fleet, HOST)
    other_id, _ = bound(fleet, "other.example.com")
    many(fleet, listener_id, 5000)
    with fleet.transaction() as session:
        session.execute(text("UPDATE listeners SET next_probe_at = next_probe_at + interval '1 day'"))
        session.execute(text("ANALYZE listeners"))
    asked = statements_of(fleet, lambda: patrol.tick(fleet.context, now=fleet.now))
    (plan,) = [plan for statement, plan in asked if "next_probe_at <=" in statement]
    assert "ix_listeners_next_probe_at" in plan

    def add_up() -> None:
        with fleet.transaction() as session:
            proofs.refresh(session, other_id, TOLD, now=fleet.now)

    plans = [plan for statement, plan in statements_of(fleet, add_up) if "FROM listeners" in statement]
    assert len(plans) == 2
    assert all("ix_listeners_server_certificate_id" in plan for plan in plans)
    assert "ix_listeners_ca_certificate_id" in plans[0]
    assert certificate_id != other_id


def statements_of(fleet: Fleet, act: Callable[[], object]) -> list[tuple[str, str]]:
    """What ``act`` asks the database, each with the plan it would have."""
    asked: list[tuple[str, Any]] = []
    engine = fleet.context.database._engine  # noqa: SLF001 - noted where they leave

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with fleet.transaction() as session:
        connection = session.connection()
        return [
            (statement, "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()))
            for statement, parameters in asked
        ]


def test_after_the_clock_went_back_an_hour_everything_is_looked_at_with_the_next_tick(fleet: Fleet) -> None:
    fleet.pass_time(timedelta(hours=1))
    _, listener_id = bound(fleet, HOST)
    after_a_period(fleet)
    fleet.pass_time(-timedelta(hours=1))
    after_a_period(fleet)
    assert listener_of(fleet, listener_id).served_checked_at == fleet.now
    with fleet.transaction() as session:
        assert session.get_one(Balancer, TOLD).patrolled_at == fleet.now


def test_a_tick_is_noted_so_that_its_silence_shows(fleet: Fleet) -> None:
    patrol.tick(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        assert session.get_one(PeriodicRun, "patrol").last_run_at == fleet.now
        assert session.get_one(Balancer, TOLD).next_patrol_at == fleet.now + PERIOD
    assert sorted(work_patrols(fleet)) == [REPAIRED, TOLD]
    with fleet.transaction() as session:
        assert session.get_one(Balancer, TOLD).patrolled_at == fleet.now


def many(fleet: Fleet, listener_id: str, count: int) -> None:
    """Copies of a bound listener, due at the same moment."""
    columns = [column.name for column in Listener.__table__.columns if column.name != "id"]
    listed = ", ".join(columns)
    with fleet.transaction() as session:
        session.execute(
            text(
                f"INSERT INTO listeners (id, {listed}) SELECT id || '_' || n, {listed} "  # noqa: S608 - columns of ours
                "FROM listeners, generate_series(1, :count) AS n WHERE id = :id"
            ),
            {"count": count, "id": listener_id},
        )
