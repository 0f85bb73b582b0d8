"""Certificates from before ``ends_first_at`` and ``next_notice_at``: the migration says what the rule says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from shared.domain.deadlines import Validity
from shared.domain.reminders import DAY
from shared.models import Certificate
from shared.models.certificates import LOOK_NOW
from shared.usecases.reminder_subjects import deadlines_of
from tests.support.fleet import Fleet
from tests.support.reminders import add_certificate, change_certificate

REVISION = Path(__file__).parents[3] / "deploy" / "migrations" / "versions" / "0015_when_a_notice_is_due.py"


def migration() -> Any:
    spec = util.spec_from_file_location("revision", REVISION)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chain(fleet: Fleet, *lefts: timedelta) -> list[dict[str, Any]]:
    return [
        {
            "subject": f"CN={number}",
            "fingerprint_sha256": f"{number:064x}",
            "not_before": (fleet.now - 900 * DAY).isoformat(),
            "not_after": (fleet.now + left).isoformat(),
        }
        for number, left in enumerate(lefts)
    ]


@pytest.mark.parametrize("kind", ["server", "ca"])
@pytest.mark.parametrize("lefts", [(), (90,), (90, 90), (90, 7), (90, 400), (90, 400, 7), (90, -5, 400)])
def test_first_and_last_end_are_those_of_the_rule(fleet: Fleet, kind: str, lefts: tuple[int, ...]) -> None:
    links = chain(fleet, *(days * DAY for days in lefts))
    certificate_id = add_certificate(fleet, left=90 * DAY, type=kind, chain=links)
    change_certificate(fleet, certificate_id, ends_first_at=None, ends_last_at=None)

    with fleet.transaction() as session:
        session.execute(text(migration().ENDS))

    with fleet.transaction() as session:
        row = session.get_one(Certificate, certificate_id)
        validity = Validity(not_before=fleet.now - 308 * DAY, not_after=fleet.now + 90 * DAY)
        ends = deadlines_of(kind, validity, links)
        assert (row.ends_first_at, row.ends_last_at) == (ends[0].at, ends[-1].at)


@pytest.mark.parametrize(("ago", "next_look"), [(29 * DAY, LOOK_NOW), (31 * DAY, None)])
def test_only_what_ended_lately_is_looked_at_again(fleet: Fleet, ago: timedelta, next_look: datetime | None) -> None:
    fleet.now = datetime.now(UTC)
    certificate_id = add_certificate(fleet, left=-ago)

    with fleet.transaction() as session:
        session.execute(text(migration().HISTORY))

    with fleet.transaction() as session:
        assert session.get_one(Certificate, certificate_id).next_notice_at == next_look
