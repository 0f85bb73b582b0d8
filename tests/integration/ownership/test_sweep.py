"""The sweep: bounded, by index, harmless twice at once, and not put off by a clock that goes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.orm import Session

from shared.domain.listeners import FINAL_LISTENERS
from shared.domain.rollout import FINAL_DEPLOYMENTS, FINAL_JOBS
from shared.models import (
    Acquisition,
    Deployment,
    Job,
    Listener,
    Notice,
    Reminder,
    SourceCatalogue,
    WebhookDelivery,
    WebhookReplay,
    leases,
)
from shared.usecases import balancers
from shared.usecases.clock_jumps import pull_back
from shared.usecases.sweep import BATCH, MOST_BATCHES, sweep
from tests.support.fleet import Fleet
from tests.support.leased import REGION, due_row, fill, leased_models

FINAL: Final[dict[type[Any], str]] = {
    Job: min(FINAL_JOBS),
    Deployment: min(FINAL_DEPLOYMENTS),
    Listener: min(FINAL_LISTENERS),
    WebhookDelivery: "delivered",
    WebhookReplay: "finished",
    Reminder: "sent",
    Notice: "sent",
    Acquisition: "acquired",
    SourceCatalogue: "withdrawn",
}
MANY: Final = 200_000
LEASE: Final = timedelta(seconds=60)
every_kind = pytest.mark.parametrize("model", leased_models(), ids=lambda model: str(model.__tablename__))


@dataclass(slots=True)
class Examined:
    """What PostgreSQL did for one statement: scans of the table, and rows it looked at."""

    scans: list[str]
    rows: int = 0


@every_kind
def test_a_sweep_reads_what_is_due_by_index_however_much_is_final(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    fill(fleet, model, row_id, rows=MANY, final=FINAL[model])
    fill(fleet, model, row_id, rows=BATCH + 100, final=None)
    with fleet.transaction() as session:
        session.execute(text(f"ANALYZE {model.__tablename__}"))
    fleet.pass_time(timedelta(minutes=1))
    for statement, parameters in swept_statements(fleet, model):
        found = examined(fleet, statement, parameters)
        assert "Seq Scan" not in found.scans, (statement, found)
        assert found.rows <= 4 * BATCH, (statement, found)


@every_kind
def test_two_sweeps_at_once_wake_each_row_once(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    fill(fleet, model, row_id, rows=2 * BATCH - 1, final=None)
    fleet.pass_time(timedelta(minutes=1))

    def take(_number: int) -> list[str]:
        with fleet.transaction() as session:
            return leases.take_unowned(session, model, now=fleet.now, limit=100)

    with ThreadPoolExecutor(8) as pool:
        woken = Counter(each for ids in pool.map(take, range(40)) for each in ids)
    assert len(woken) == 2 * BATCH
    assert set(woken.values()) == {1}
    fleet.pass_time(leases.WAKE_AGAIN)
    assert len(take(0)) == 100


def test_a_full_batch_is_followed_by_the_next_at_once_up_to_a_bound(fleet: Fleet) -> None:
    row_id = due_row(fleet, Job)
    fill(fleet, Job, row_id, rows=BATCH * MOST_BATCHES + 41, final=None)
    fleet.pass_time(timedelta(minutes=1))
    fleet.room.waiting.clear()
    first = sweep(fleet.context, now=fleet.now)
    assert first >= BATCH * MOST_BATCHES
    assert len(set(fleet.room.waiting)) == first
    assert 41 <= sweep(fleet.context, now=fleet.now) < BATCH
    assert sweep(fleet.context, now=fleet.now) == 0


@every_kind
def test_after_the_clock_went_back_an_hour_the_next_sweep_makes_everything_due(fleet: Fleet, model: type[Any]) -> None:
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(timedelta(hours=1))
    row_id = due_row(fleet, model)
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(-timedelta(hours=1))
    with fleet.transaction() as session:
        assert leases.claim(session, model, row_id, now=fleet.now, lease=LEASE) is None
    sweep(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        assert leases.claim(session, model, row_id, now=fleet.now, lease=LEASE) is not None


@every_kind
def test_a_dead_owners_lease_ends_when_one_taken_now_would_though_the_clock_went_back(
    fleet: Fleet, model: type[Any]
) -> None:
    row_id = due_row(fleet, model)
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(timedelta(minutes=59))
    with fleet.transaction() as session:
        assert leases.claim(session, model, row_id, now=fleet.now, lease=LEASE) is not None
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(-timedelta(minutes=57))
    sweep(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        assert leases.claim(session, model, row_id, now=fleet.now, lease=LEASE) is None
    fleet.pass_time(LEASE)
    with fleet.transaction() as session:
        assert leases.claim(session, model, row_id, now=fleet.now, lease=LEASE) is not None


@every_kind
def test_a_clock_that_goes_forward_an_hour_and_back_leaves_nothing_waiting(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    sweep(fleet.context, now=fleet.now)
    began = fleet.now
    fleet.pass_time(timedelta(hours=1))
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(-timedelta(hours=1))
    sweep(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        row = session.get_one(model, row_id)
        assert row.next_wake_at <= began + leases.WAKE_AGAIN
        assert row.next_attempt_at <= began + timedelta(minutes=1)


def test_a_region_held_by_a_dead_worker_is_free_after_one_lease_though_the_clock_went_back(fleet: Fleet) -> None:
    held = balancers.writing(fleet.context, REGION, clock=lambda: fleet.now)
    held.__enter__()  # a worker that never leaves
    fleet.pass_time(-timedelta(hours=1))
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(fleet.context.settings.lease)
    with balancers.writing(fleet.context, REGION, clock=lambda: fleet.now) as fence:
        assert fence == 2


def test_a_far_retry_that_is_possible_is_left_where_it_is(fleet: Fleet) -> None:
    row_id = due_row(fleet, WebhookDelivery)
    planned = fleet.now + max(fleet.context.settings.webhook_retry_schedule)
    with fleet.transaction() as session:
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == row_id)
            .values(attempt=9, next_attempt_at=planned, next_wake_at=planned)
        )
    sweep(fleet.context, now=fleet.now)
    fleet.pass_time(-timedelta(hours=1))
    sweep(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        assert session.get_one(WebhookDelivery, row_id).next_attempt_at == planned


def swept_statements(fleet: Fleet, model: type[Any]) -> list[tuple[str, Any]]:
    """What a sweep says to the database about the model's table; undone."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if f"UPDATE {model.__tablename__}" in statement:
            said.append((statement, parameters))

    with undone(fleet) as session:
        event.listen(session.connection(), "before_cursor_execute", note)
        leases.take_unowned(session, model, now=fleet.now, limit=BATCH)
        pull_back(session, fleet.context.settings, now=fleet.now)
    assert len(said) == 2
    return said


def examined(fleet: Fleet, statement: str, parameters: Any) -> Examined:
    """Run it under ``EXPLAIN ANALYZE``, and undo it."""
    found = Examined(scans=[])
    with undone(fleet) as session:
        cursor = session.connection().connection.cursor()
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        answer = cursor.fetchone()
        assert answer is not None
        walk(answer[0][0]["Plan"], found)
    return found


@contextmanager
def undone(fleet: Fleet) -> Iterator[Session]:
    with fleet.transaction() as session:
        yield session
        session.rollback()


def walk(node: dict[str, Any], found: Examined) -> None:
    if "Scan" in node["Node Type"]:
        found.scans.append(node["Node Type"])
        seen = (
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        )
        found.rows += int(seen * node["Actual Loops"])
    for below in node.get("Plans", ()):
        walk(below, found)
