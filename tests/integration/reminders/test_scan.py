"""The scan writes each notice once, whatever was missed and however many scans run."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from shared.domain.deadlines import Validity
from shared.domain.reminder_decisions import NOBODY
from shared.domain.reminders import DAY, EXPIRED
from shared.models import Certificate, PeriodicRun
from shared.usecases import answers, reminder_scan
from shared.usecases.reminder_scan import BATCH, ScanResult, scan
from shared.wakeups import Task
from tests.support.fleet import Fleet
from tests.support.reminder_rule import due_threshold
from tests.support.reminders import (
    OPS,
    add_certificate,
    change_account,
    change_certificate,
    expiry_events,
    ledger,
    notices,
    set_account_contacts,
)

SECOND = timedelta(seconds=1)


def scan_at(fleet: Fleet, after: timedelta = timedelta(0)) -> ScanResult:
    return scan(fleet.context, now=fleet.now + after)


def test_a_crossed_threshold_is_written_once_told_once_and_mailed_once(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=7 * DAY)

    assert scan_at(fleet) == ScanResult(events=1, reminders=1, by_threshold={7: 1})
    assert scan_at(fleet, 10 * SECOND) == ScanResult()

    (row,) = ledger(fleet)
    assert (row.certificate_id, row.threshold, row.recipient, row.state) == (certificate_id, 7, OPS, "pending")
    assert [(wake.task, wake.id) for wake in fleet.room.waiting if wake.task is Task.MAIL] == [(Task.MAIL, row.id)]


def test_a_certificate_that_cannot_be_judged_stops_no_other(fleet: Fleet) -> None:
    end = fleet.now + 7 * DAY
    bad = add_certificate(fleet, left=7 * DAY)
    good = {add_certificate(fleet, left=7 * DAY) for _ in range(3)}
    change_certificate(fleet, bad, chain=[{}, {"not_before": "nobody knows"}], ends_last_at=end + DAY)

    assert scan_at(fleet) == ScanResult(events=3, reminders=3, by_threshold={7: 3})
    assert {row.certificate_id for row in ledger(fleet)} == good
    assert scan_at(fleet, SECOND) == ScanResult()

    with fleet.transaction() as session:
        session.get_one(Certificate, bad).chain = []
    assert scan_at(fleet, timedelta(hours=1)) == ScanResult(events=1, reminders=1, by_threshold={7: 1})


def test_the_event_says_what_expires_when_and_how_many_are_told(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=7 * DAY + SECOND, contacts=[OPS, "boss@example.com"])

    scan_at(fleet)

    (fact,) = expiry_events(fleet)
    assert fact.type == "certificate.expiring"
    assert fact.certificate_id == certificate_id
    assert fact.data == {
        "certificate_id": certificate_id,
        "name": "Shop",
        "common_name": "www.example.com",
        "type": "server",
        "fingerprint_sha256": "ab" * 32,
        "not_after": (fleet.now + 7 * DAY + SECOND).isoformat().replace("+00:00", "Z"),
        "threshold": 7,
        "days_left": 7,
        "notified": 2,
    }


def test_over_the_whole_life_every_threshold_comes_once_in_order(fleet: Fleet) -> None:
    add_certificate(fleet, left=90 * DAY)

    for hour in range(0, 92 * 24, 12):
        scan_at(fleet, timedelta(hours=hour))

    assert [row.threshold for row in ledger(fleet)] == [60, 30, 15, 7, 3, 1, 0, EXPIRED]
    assert [fact.type for fact in expiry_events(fleet)] == ["certificate.expiring"] * 7 + ["certificate.expired"]


def test_after_a_missed_week_there_is_one_notice_of_the_nearest_threshold(fleet: Fleet) -> None:
    add_certificate(fleet, left=9 * DAY)
    scan_at(fleet)

    scan_at(fleet, 6 * DAY)
    scan_at(fleet, 6 * DAY + SECOND)

    assert [row.threshold for row in ledger(fleet)] == [15, 3]


def test_a_scanner_that_slept_for_a_year_still_says_expired(fleet: Fleet) -> None:
    add_certificate(fleet, left=90 * DAY)
    scan_at(fleet)

    scan_at(fleet, 455 * DAY)

    assert [row.threshold for row in ledger(fleet)] == [EXPIRED]


def test_two_scans_at_once_write_one_notice_each(fleet: Fleet) -> None:
    wanted = sorted((add_certificate(fleet, left=5 * DAY), 7, OPS) for _ in range(40))
    start = Barrier(2)

    def together(_: int) -> ScanResult:
        start.wait(10)
        return scan_at(fleet)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(together, range(2)))

    assert notices(fleet) == wanted
    assert len(expiry_events(fleet)) == 40
    assert sum(result.reminders for result in results) == 40


def test_more_than_a_batch_is_written_completely(fleet: Fleet) -> None:
    people = [f"person-{number}@example.com" for number in range(40)]
    count = BATCH // 40 + 2
    for _ in range(count):
        add_certificate(fleet, left=5 * DAY, contacts=people)

    result = scan_at(fleet)

    assert (result.events, result.reminders) == (count, count * 40)
    assert len(fleet.room.waiting) == 40


@pytest.mark.parametrize("change", [{"reminders_muted": True}, {"state": "deleted"}, {"state": "rejected"}])
def test_no_notice_of_what_is_muted_or_gone(fleet: Fleet, change: dict[str, Any]) -> None:
    add_certificate(fleet, left=5 * DAY, **change)

    assert scan_at(fleet) == ScanResult()
    assert expiry_events(fleet) == []


def test_what_is_unmuted_is_told_where_it_stands(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=5 * DAY, reminders_muted=True)
    scan_at(fleet)
    with fleet.transaction() as session:
        answers.resume(session, fleet.caller, certificate_id, now=fleet.now)

    assert scan_at(fleet, 3 * DAY).by_threshold == {3: 1}


def test_the_accounts_contacts_are_told_where_the_certificate_has_none(fleet: Fleet) -> None:
    set_account_contacts(fleet, "team@example.com", "boss@example.com")
    own = add_certificate(fleet, left=5 * DAY)
    shared = add_certificate(fleet, left=5 * DAY, contacts=[])

    scan_at(fleet)

    assert notices(fleet) == sorted([(own, 7, OPS), (shared, 7, "boss@example.com"), (shared, 7, "team@example.com")])


def test_without_contacts_there_is_one_event_and_no_mail(fleet: Fleet) -> None:
    add_certificate(fleet, left=5 * DAY, contacts=[])

    assert scan_at(fleet) == ScanResult(events=1, without_recipient=1, by_threshold={7: 1})
    assert scan_at(fleet, 10 * SECOND) == ScanResult()

    assert ledger(fleet) == []
    assert [(row.recipient, row.state) for row in ledger(fleet, with_nobody=True)] == [(NOBODY, "recorded")]
    (fact,) = expiry_events(fleet)
    assert fact.data["notified"] == 0


def test_a_contact_added_later_is_told_where_it_stands_without_a_second_event(fleet: Fleet) -> None:
    certificate_id = add_certificate(fleet, left=5 * DAY, contacts=[])
    scan_at(fleet)
    change_certificate(fleet, certificate_id, contacts=["new@example.com"])

    assert scan_at(fleet, 10 * SECOND) == ScanResult(reminders=1)
    assert notices(fleet) == [(certificate_id, 7, "new@example.com")]
    assert len(expiry_events(fleet)) == 1


def test_the_same_contact_twice_gets_one_notice(fleet: Fleet) -> None:
    add_certificate(fleet, left=5 * DAY, contacts=[OPS, OPS])

    assert scan_at(fleet).reminders == 1


def test_a_scan_notes_when_it_ran_and_what_it_found(fleet: Fleet) -> None:
    add_certificate(fleet, left=5 * DAY)
    scan_at(fleet)

    with fleet.transaction() as session:
        run = session.get_one(PeriodicRun, "reminders")
        assert (run.last_run_at, run.last_count) == (fleet.now, 1)


def test_thresholds_are_the_certificates_else_the_accounts_else_the_usual_ones(fleet: Fleet) -> None:
    usual = add_certificate(fleet, left=50 * DAY)
    scan_at(fleet)
    change_account(fleet, reminder_thresholds=[55, 10])
    own = add_certificate(fleet, left=50 * DAY, reminder_thresholds=[90])
    only_expired = add_certificate(fleet, left=timedelta(0), reminder_thresholds=[])

    scan_at(fleet, SECOND)

    assert notices(fleet) == sorted([(usual, 60, OPS), (usual, 55, OPS), (own, 90, OPS), (only_expired, EXPIRED, OPS)])


def test_a_change_of_the_account_reaches_every_certificate_however_many_scans_it_takes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminder_scan, "RECHECK", 3)
    for _ in range(7):
        add_certificate(fleet, left=50 * DAY, contacts=[])
    scan_at(fleet)
    set_account_contacts(fleet, OPS)

    assert scan_at(fleet, SECOND) == ScanResult(reminders=7)


def test_the_scan_and_the_rule_agree(fleet: Fleet) -> None:
    chosen = random.Random(7)  # noqa: S311 - test data
    expected = []
    for _ in range(300):
        left = timedelta(seconds=chosen.randrange(-20 * 86_400, 70 * 86_400))
        life = timedelta(days=chosen.choice([1, 3, 6, 10, 20, 47, 64, 90, 200, 398]))
        certificate_id = add_certificate(fleet, left=left, life=life)
        validity = Validity(not_before=fleet.now + left - life, not_after=fleet.now + left)
        threshold = due_threshold(validity, (), fleet.now)
        expected += [] if threshold is None else [(certificate_id, threshold, OPS)]

    scan_at(fleet)

    assert notices(fleet) == sorted(expected)
    assert {threshold for _, threshold, _ in expected} == {60, 30, 15, 7, 3, 1, 0, EXPIRED}


def test_the_scan_reads_a_range_of_one_index_and_nothing_of_what_is_not_due(fleet: Fleet) -> None:
    add_many(fleet, template=add_certificate(fleet, left=5 * DAY), count=8000)
    plans: list[str] = []

    def explain(*seen: Any) -> None:
        connection, _, statement, parameters, *_ = seen
        if "FOR NO KEY UPDATE OF certificates SKIP LOCKED" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN ANALYZE {statement}", parameters).fetchall()
            plans.append("\n".join(row[0] for row in rows))

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        result = scan_at(fleet)
    finally:
        event.remove(Engine, "before_cursor_execute", explain)

    assert result.reminders == 1
    assert len(plans) == 2
    for plan, rows in zip(plans, (1, 0), strict=True):
        assert re.search(
            rf"Index Scan using ix_certificates_next_notice on certificates .*actual .*rows={rows}[. ]", plan
        ), plan
        assert "Rows Removed" not in plan, plan
        assert "Seq Scan on certificates" not in plan, plan


def add_many(fleet: Fleet, *, template: str, count: int) -> None:
    """Copies that end from 100 days after the template on, an hour apart, and have been looked at."""
    with fleet.transaction() as session:
        columns = [column.name for column in Certificate.__table__.columns]
        values = ["'crt_' || n" if name == "id" else name for name in columns]
        values[columns.index("not_after")] = "not_after + interval '100 days' + n * interval '1 hour'"
        values[columns.index("next_notice_at")] = "not_after + interval '39 days' + n * interval '1 hour'"
        session.execute(
            text(
                f"INSERT INTO certificates ({', '.join(columns)}) "  # noqa: S608 - the model's own column names
                f"SELECT {', '.join(values)} FROM certificates, generate_series(1, {count}) AS n WHERE id = :id"
            ),
            {"id": template},
        )
    with fleet.transaction() as session:
        session.execute(text("ANALYZE certificates"))
