"""Ten thousand certificates in one account: one that was really rolled out, multiplied inside the database."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.support.fleet import Fleet

_TABLES: Final = {
    "certificates": "id = :certificate",
    "jobs": "certificate_id = :certificate",
    "deployments": "certificate_id = :certificate",
    "job_deployments": "job_id IN (SELECT id FROM jobs WHERE certificate_id = :certificate)",
    "listeners": "server_certificate_id = :certificate",
    "listener_hosts": "listener_id IN (SELECT id FROM listeners WHERE server_certificate_id = :certificate)",
    "job_listeners": "job_id IN (SELECT id FROM jobs WHERE certificate_id = :certificate)",
    "attempts": "job_id IN (SELECT id FROM jobs WHERE certificate_id = :certificate)",
    "events": "certificate_id = :certificate",
    "webhook_deliveries": "event_id IN (SELECT id FROM events WHERE certificate_id = :certificate)",
    "webhook_attempts": "delivery_id IN (SELECT d.id FROM webhook_deliveries d JOIN events e ON e.id = d.event_id"
    " WHERE e.certificate_id = :certificate)",
    "audit_entries": "target = :certificate",
}
"""Which rows belong to a certificate; in the order of their references."""

_OURS: Final = r'"((?!acc|whk|tok|per)[a-z]+_)[0-9a-z]{6}([0-9a-z]{20})"'
"""An id (shared/domain/identifiers.py), but for what all copies share. Its first six letters give way to the number."""

_BATCH: Final = 250
"""Copies in one transaction: well within what a request waits for the database."""

_COPY: Final = """
WITH old AS (SELECT to_jsonb(t)::text AS row, row_number() OVER () AS place, count(*) OVER () AS many
             FROM {table} t WHERE {which}),
     new AS (SELECT n, place, many,
                    replace(regexp_replace(row, :ours, '"\\1' || lpad(n::text, 6, '0') || '\\2"', 'g'),
                            :host, 'n' || n || '.' || :host)::jsonb AS row
             FROM old, generate_series(CAST(:first AS integer), CAST(:until AS integer)) n)
INSERT INTO {table}
SELECT (jsonb_populate_record(NULL::{table}, row || {overrides})).* FROM new
"""
_OVERRIDES: Final = {
    "certificates": "jsonb_build_object('not_after', CAST(:now AS timestamptz) + ((n % 420) - 15) * interval '1 day')",
    "events": "jsonb_build_object('sequence', :last + (n - :first) * many + place)",
}


def multiply(fleet: Fleet, certificate_id: str, host: str, *, count: int) -> dict[str, int]:
    """So many copies of a certificate of ``host`` with all that belongs to it; the rows of each table.

    Each has ids and names of its own; they expire one after the other from two weeks ago to over a year from now.
    """
    rows: Counter[str] = Counter()
    for first in range(1, count + 1, _BATCH):
        with fleet.transaction() as session:
            given = {
                "certificate": certificate_id,
                "host": host,
                "first": first,
                "until": min(first + _BATCH, count + 1) - 1,
                "now": fleet.now,
                "ours": _OURS,
                "last": session.execute(text("SELECT max(sequence) FROM events")).scalar_one(),
            }
            for table in _TABLES:
                rows[table] += _copy(session, table, given)
            session.execute(text("UPDATE event_counters SET last_sequence = (SELECT max(sequence) FROM events)"))
    with fleet.transaction() as session:
        session.execute(text("ANALYZE"))
    return dict(rows)


def _copy(session: Session, table: str, given: dict[str, Any]) -> int:
    overrides = _OVERRIDES.get(table, "'{}'::jsonb")
    statement = text(_COPY.format(table=table, which=_TABLES[table], overrides=overrides))
    wanted = {name: value for name, value in given.items() if f":{name}" in statement.text}
    return int(session.execute(statement, wanted).rowcount)  # type: ignore[attr-defined] # of an INSERT
