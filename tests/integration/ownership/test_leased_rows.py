"""Whatever workers own, of every kind: always due, claimed by one, written by nobody whose fence is old."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.exc import IntegrityError

from shared.models import Deployment, leases
from shared.usecases import settlement
from shared.usecases.settlement import Delivered
from tests.support.fleet import Fleet
from tests.support.leased import due_row, leased_models

LEASE = timedelta(seconds=60)
every_kind = pytest.mark.parametrize("model", leased_models(), ids=lambda model: str(model.__tablename__))


@every_kind
def test_the_database_refuses_a_row_that_is_not_final_and_never_due(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    with pytest.raises(IntegrityError, match="always_due"), fleet.transaction() as session:
        session.execute(
            update(model).where(model.id == row_id).values(next_attempt_at=None, next_wake_at=None, lease_until=None)
        )


@every_kind
def test_the_database_refuses_a_row_that_is_due_and_that_no_sweep_would_find(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    with pytest.raises(IntegrityError, match="always_woken"), fleet.transaction() as session:
        session.execute(update(model).where(model.id == row_id).values(next_wake_at=None))


@every_kind
def test_the_migrated_tables_have_both_checks_and_the_sweeps_index(fleet: Fleet, model: type[Any]) -> None:
    table = model.__tablename__
    with fleet.transaction() as session:
        inspector = inspect(session.connection())
        checks = {check["name"] for check in inspector.get_check_constraints(table)}
        indexes = {index["name"] for index in inspector.get_indexes(table)}
    assert checks >= {f"ck_{table}_always_due", f"ck_{table}_always_woken"}
    assert f"ix_{table}_next_wake_at" in indexes


@every_kind
def test_of_many_claims_at_once_one_wins(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)

    def claim(_number: int) -> int | None:
        with fleet.transaction() as session:
            return leases.claim(session, model, row_id, now=fleet.now, lease=LEASE)

    with ThreadPoolExecutor(16) as pool:
        won = [fence for fence in pool.map(claim, range(64)) if fence is not None]
    assert len(won) == 1
    assert leases_of(fleet, model, row_id) == (won[0], fleet.now + LEASE)


@every_kind
def test_a_stale_owner_gets_no_row_to_write_to(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    with fleet.transaction() as session:
        stale = leases.claim(session, model, row_id, now=fleet.now, lease=LEASE)
    fleet.pass_time(LEASE)
    with fleet.transaction() as session:
        newest = leases.claim(session, model, row_id, now=fleet.now, lease=LEASE)
    assert stale is not None
    assert newest == stale + 1
    with fleet.transaction() as session:
        assert leases.owned(session, model, row_id, fence=stale) is None
        assert leases.owned(session, model, row_id, fence=newest) is not None
        if model is Deployment:
            late = Delivered(deployment_id=row_id, fence=stale, remote_id="late", evidence=None)
            assert settlement.succeed_all(session, [late], now=fleet.now) == []


def leases_of(fleet: Fleet, model: type[Any], row_id: str) -> tuple[int, object]:
    with fleet.transaction() as session:
        row = session.get_one(model, row_id)
        return row.fence, row.lease_until
