"""Wake-ups follow a commit: whoever is woken finds the row, and nobody is woken for what was taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from shared.events.log import wake
from shared.models import Job
from shared.usecases.submission import submit_certificate
from shared.wakeups import Task, WakeUp
from tests.support.fleet import Fleet, server_upload

SOMETHING: Final = WakeUp(Task.REGION, "cn-hangzhou")


class Refused(Exception):
    """The deed comes to nothing."""


class Looking:
    """A publisher that looks at once, as a worker does, whether the rows that it names are there."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.seen: list[bool] = []

    def publish(self, wake_ups: Iterable[WakeUp]) -> None:
        with self.fleet.transaction() as session:
            for wake_up in wake_ups:
                found = session.execute(select(Job.id).where(Job.id == wake_up.id)).scalar_one_or_none()
                self.seen.append(found is not None)


def test_whoever_is_woken_finds_the_row(fleet: Fleet) -> None:
    looking = Looking(fleet)
    context = replace(fleet.context, publisher=looking)
    with context.transaction() as session:
        submit_certificate(context, session, fleet.caller, server_upload(), now=fleet.now)
        assert looking.seen == []
    assert looking.seen == [True]


def test_nobody_is_woken_for_what_came_to_nothing(fleet: Fleet) -> None:
    job_id, _ = fleet.submit(server_upload())
    fleet.room.waiting.clear()
    with pytest.raises(Refused):
        wake_and_refuse(fleet)
    with pytest.raises(IntegrityError):
        wake_and_break(fleet, job_id)
    assert list(fleet.room.waiting) == []


def wake_and_refuse(fleet: Fleet) -> None:
    with fleet.transaction() as session:
        wake(session, SOMETHING)
        raise Refused


def wake_and_break(fleet: Fleet, job_id: str) -> None:
    """The database refuses a job that is never due."""
    with fleet.transaction() as session:
        wake(session, SOMETHING)
        session.execute(update(Job).where(Job.id == job_id).values(next_attempt_at=None))
