"""Claims and sweeps pass over what somebody has locked, and leave what was asked for first to go first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import Deployment, Listener, leases
from shared.usecases.validation import validate_job
from tests.support.fleet import Fleet, server_upload
from tests.support.leased import REGION, due_row, leased_models

LEASE: Final = timedelta(seconds=60)
SECOND: Final = timedelta(seconds=1)


def add_deployment(fleet: Fleet, name: str) -> str:
    """One more that is due now in the region."""
    job_id, certificate_id = fleet.submit(server_upload(f"{name}.example.com", regions=[REGION]))
    validate_job(fleet.context, job_id, now=fleet.now)
    return fleet.deployments(certificate_id)[REGION].id


def claim(fleet: Fleet) -> list[str]:
    with impatient(fleet) as session:
        return [row.id for row in leases.claim_due(session, {REGION: 10}, now=fleet.now, lease=LEASE)[REGION]]


@contextmanager
def impatient(fleet: Fleet) -> Iterator[Session]:
    """Whoever would wait for a lock is told so instead."""
    with fleet.transaction() as session:
        session.execute(text("SET LOCAL lock_timeout = '1s'"))
        yield session


@contextmanager
def locked(fleet: Fleet, model: type[Any], row_id: str) -> Iterator[None]:
    """Somebody is at the row, in a transaction that has not ended."""
    with fleet.transaction() as session:
        session.execute(select(model.id).where(model.id == row_id).with_for_update(key_share=True))
        yield


def test_a_claim_takes_what_nobody_has_locked_and_waits_for_no_lock(fleet: Fleet) -> None:
    first, second = (add_deployment(fleet, name) for name in ("first", "second"))
    with locked(fleet, Deployment, first):
        assert claim(fleet) == [second]
    assert claim(fleet) == [first]


@pytest.mark.parametrize("model", leased_models(), ids=lambda model: str(model.__tablename__))
def test_a_sweep_passes_over_what_another_has_locked(fleet: Fleet, model: type[Any]) -> None:
    row_id = due_row(fleet, model)
    fleet.pass_time(timedelta(minutes=1))
    with locked(fleet, model, row_id), impatient(fleet) as session:
        assert row_id not in leases.take_unowned(session, model, now=fleet.now, limit=100)
    with impatient(fleet) as session:
        assert row_id in leases.take_unowned(session, model, now=fleet.now, limit=100)


def test_what_became_due_after_a_listener_is_not_claimed_before_it(fleet: Fleet) -> None:
    listener_id = due_row(fleet, Listener)
    asked_for = {}
    for name, after in (("before", -SECOND), ("later", 2 * SECOND)):
        fleet.pass_time(after)
        asked_for[name] = add_deployment(fleet, name)
    fleet.pass_time(SECOND)
    assert claim(fleet) == [asked_for["before"]]
    assert claim(fleet) == []
    with fleet.transaction() as session:
        assert leases.claim(session, Listener, listener_id, now=fleet.now, lease=LEASE)
    assert claim(fleet) == [asked_for["later"]]
