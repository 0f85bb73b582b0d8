"""The scan for what expires among 10,000, 100,000 and 1,000,000 certificates, 1,000 of which are due.

The others are as in life: nineteen of twenty end within the next 398 days, evenly, and their people were told of all
that they have crossed; one of twenty has ended, and that was told; one of five was replaced. Each scan is a process of
its own. Time depends on what else the machine does; the pages that PostgreSQL touches do not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest

from shared.domain.reminders import DAY
from shared.models import Certificate
from tests.support import pki
from tests.support.fleet import build_fleet, new_caller
from tests.support.mail_worker import Orders
from tests.support.reminders import add_certificate
from tests.support.servers import Servers

SIZES: Final = (10_000, 100_000, 1_000_000)
DUE: Final = 1_000
ACCOUNTS: Final = 50
ROUNDS: Final = 3
NOW: Final = pki.NOW

THRESHOLDS: Final = (60, 30, 15, 7, 3, 1, 0, -1)
JUST_CROSSED: Final = 7

OTHERS: Final = """
    CREATE TEMPORARY TABLE others AS
    SELECT n, 'crt_' || lpad(n::text, 26, '0') AS id, account.id AS account_id,
        CASE WHEN n % 20 = 0 THEN now_ - n % 700 * interval '1 day' - n % 1439 * interval '1 minute'
             ELSE now_ + n % 397 * interval '1 day' + n % 1439 * interval '1 minute' END AS not_after,
        CASE WHEN n % 5 = 1 AND n < {count} THEN 'crt_' || lpad((n + 1)::text, 26, '0') END AS replaced_by_id,
        NULL::timestamptz AS next_notice_at
    FROM generate_series(1, {count}) AS n, (SELECT '{now}'::timestamptz AS now_) AS clock,
        LATERAL (SELECT id FROM accounts ORDER BY id OFFSET n % {accounts} LIMIT 1) AS account
"""
NEXT: Final = """
    UPDATE others SET next_notice_at = (
        SELECT min(not_after - (threshold + 1) * interval '1 day') FROM unnest(ARRAY{thresholds}) AS threshold
        WHERE not_after - (threshold + 1) * interval '1 day' >= '{now}'
    )
"""
JUST_DUE: Final = """
    CREATE TEMPORARY TABLE due AS
    SELECT n, 'crt_due' || lpad(n::text, 23, '0') AS id, account_id,
        '{now}'::timestamptz + interval '8 days' - n * interval '1 second' AS not_after,
        '{now}'::timestamptz - n * interval '1 second' AS next_notice_at,
        NULL::text AS replaced_by_id
    FROM others WHERE n <= {count}
"""
TOLD: Final = """
    INSERT INTO reminders (id, account_id, certificate_id, not_after, threshold, recipient, state, attempt, fence,
        message_id, created_at, sent_at)
    SELECT 'rem_' || n || '_' || threshold, account_id, id, not_after, threshold, 'ops@example.com', 'sent', 1, 1,
        '<reminder-' || n || '@example.net>', '{now}'::timestamptz - interval '1 day',
        '{now}'::timestamptz - interval '1 day'
    FROM {rows}, unnest(ARRAY{thresholds}) AS threshold
    WHERE not_after < '{now}'::timestamptz + (threshold + 1) * interval '1 day'
"""
COPY: Final = """
    INSERT INTO certificates ({columns}) SELECT {values}
    FROM {rows} AS rows, certificates AS template WHERE template.id = %s ORDER BY n
"""
BARE: Final = """
    SELECT id, account_id, contacts, not_after FROM certificates
    WHERE state = 'valid' AND NOT reminders_muted AND next_notice_at < %s ORDER BY next_notice_at, id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one size: what the scan of 1,000 due took, the scan after it that finds nothing, and the bare query."""

    size: int
    due: list[dict[str, float]]
    idle: list[dict[str, float]]
    bare: float

    def line(self) -> str:
        seconds, idle = _median(self.due, "seconds"), _median(self.idle, "seconds")
        return (
            f"  {self.size:>9,}  {_side(self.due)}   {_side(self.idle)}   {self.bare * 1000:7.2f} ms"
            f" {seconds / self.bare:7.0f} {idle / self.bare:6.1f}"
        )


@pytest.mark.timeout(1800)
def test_the_scan_among_ever_more_certificates(servers: Servers, tmp_path: Path) -> None:
    print(f"\nOne scan, {DUE:,} due, in a process of its own; medians of {ROUNDS}; peak resident memory")
    print(f"  certificates {'1,000 due':>28} {'nothing due':>38} {'bare query':>21} {'ratios':>12}")
    first, *_, last = [_measure(servers, tmp_path / str(size), size) for size in SIZES]
    _print_growth("1,000 due", first.due, last.due)
    _print_growth("nothing due", first.idle, last.idle)


def _print_growth(what: str, first: list[dict[str, float]], last: list[dict[str, float]]) -> None:
    times, cpu, pages = (_median(last, name) / _median(first, name) for name in ("seconds", "cpu_seconds", "pages"))
    more = _median(last, "mib") - _median(first, "mib")
    print(
        f"  {what}, a hundred times the certificates: {times:.2f} times the time, {cpu:.2f} times the CPU of the scan,"
    )
    print(f"    {pages:.2f} times the pages, {more:+.1f} MiB")


def _measure(servers: Servers, place: Path, size: int) -> Figures:
    place.mkdir()
    url = servers.create_database(f"bench_{size}")
    _fill(url, place, size)
    orders = Orders(database_url=url, kek_file=str(place / "keks.json"), smtp_url="", began=time.time())
    due, idle = [], []
    for _ in range(ROUNDS):
        _make_due(url)
        due.append(_scan(orders))
        idle.append(_scan(orders))
    assert [(each["events"], each["reminders"]) for each in due] == [(DUE, DUE)] * ROUNDS
    assert [each["events"] for each in idle] == [0] * ROUNDS
    _make_due(url)
    figures = Figures(size=size, due=due, idle=idle, bare=_bare(url))
    print(figures.line(), flush=True)
    with psycopg.connect(servers.cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE bench_{size} WITH (FORCE)")
    return figures


def _fill(url: str, place: Path, size: int) -> None:
    """The others with what they were told, and the 1,000 that have just crossed a threshold."""
    fleet = build_fleet(url, place)
    for number in range(ACCOUNTS - 1):
        new_caller(fleet.context, f"account-{number}", now=NOW)
    names = ["www.example.com", "example.com", "api.example.com"]
    template = add_certificate(fleet, left=400 * DAY, names=names, subject="CN=www.example.com", state="deleted")
    fleet.context.database.close()
    with psycopg.connect(url) as connection:
        connection.execute(OTHERS.format(count=size - DUE, now=NOW.isoformat(), accounts=ACCOUNTS))
        connection.execute(NEXT.format(now=NOW.isoformat(), thresholds=list(THRESHOLDS)))
        _copy(connection, template, rows="others")
        connection.execute(TOLD.format(rows="others", now=NOW.isoformat(), thresholds=list(THRESHOLDS)))
        connection.execute(JUST_DUE.format(count=DUE, now=NOW.isoformat()))
        _copy(connection, template, rows="due")
        farther = [threshold for threshold in THRESHOLDS if threshold > JUST_CROSSED]
        connection.execute(TOLD.format(rows="due", now=NOW.isoformat(), thresholds=farther).replace("'rem_'", "'due_'"))
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("certificates", "reminders", "events"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")  # it touches pages, too
            connection.execute(f"VACUUM ANALYZE {table}")
        connection.execute("CHECKPOINT")


def _copy(connection: psycopg.Connection, template: str, *, rows: str) -> None:
    """A certificate like the template for each of the rows."""
    given = {"id": "rows.id", "account_id": "rows.account_id", "not_after": "rows.not_after", "state": "'valid'"}
    given["not_before"] = "rows.not_after - interval '398 days'"
    given["ends_first_at"] = given["ends_last_at"] = "rows.not_after"
    given |= {name: f"rows.{name}" for name in ("next_notice_at", "replaced_by_id")}
    columns = [column.name for column in Certificate.__table__.columns]
    values = ", ".join(given.get(name, f"template.{name}") for name in columns)
    connection.execute(
        COPY.format(columns=", ".join(columns), values=values, rows=rows),
        [template],
    )


def _make_due(url: str) -> None:
    """Forget that the last scan told the 1,000."""
    with psycopg.connect(url) as connection:
        told = "DELETE FROM reminders WHERE certificate_id LIKE 'crt_due%%' AND threshold = %s"
        connection.execute(told, [JUST_CROSSED])
        connection.execute(
            "UPDATE certificates SET next_notice_at = not_after - interval '8 days' WHERE id LIKE 'crt_due%'"
        )


def _scan(orders: Orders) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.one_scan", json.dumps(asdict(orders)), NOW.isoformat()]
    root = Path(__file__).parents[2]
    before = _pages(orders.database_url)
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report | {"pages": _pages(orders.database_url) - before}


def _pages(url: str) -> int:
    """How many pages PostgreSQL has touched in this database, found in its memory or not."""
    statement = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def _side(rows: list[dict[str, float]]) -> str:
    milliseconds, cpu = _median(rows, "seconds") * 1000, _median(rows, "cpu_seconds") * 1000
    return (
        f"{milliseconds:6.0f} ms {cpu:5.0f} ms CPU {_median(rows, 'pages'):7,.0f} pages {_median(rows, 'mib'):6.1f} MiB"
    )


def _bare(url: str) -> float:
    """Seconds of the query that reads the same 1,000 by an index, and of nothing else; median of 5."""
    with psycopg.connect(url) as connection:
        taken = [_timed(connection) for _ in range(6)][1:]
    return statistics.median(taken)


def _timed(connection: psycopg.Connection) -> float:
    began = time.perf_counter()
    rows = connection.execute(BARE, [NOW]).fetchall()
    taken = time.perf_counter() - began
    assert len(rows) == DUE
    return taken


def _median(rows: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rows)
