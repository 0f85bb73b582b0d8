"""Ten thousand certificates in one account: one that was really rolled out, multiplied inside the database."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

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

_COPY: Final = """
WITH old AS (SELECT to_jsonb(t)::text AS row, row_number() OVER () AS place, count(*) OVER () AS many
             FROM {table} t WHERE {which}),
     new AS (SELECT n, place, many,
                    replace(regexp_replace(row, :ours, '"\\1' || lpad(n::text, 6, '0') || '\\2"', 'g'),
                            :host, 'n' || n || '.' || :host)::jsonb AS row
             FROM old, generate_series(1, :count) n)
INSERT INTO {table}
SELECT (jsonb_populate_record(NULL::{table}, row || {overrides})).* FROM new
"""
_OVERRIDES: Final = {
    "certificates": "jsonb_build_object('not_after', CAST(:now AS timestamptz) + ((n % 420) - 15) * interval '1 day')",
    "events": "jsonb_build_object('sequence', :last + (n - 1) * many + place)",
}


def multiply(session: Session, certificate_id: str, host: str, *, count: int, now: object) -> dict[str, int]:
    """So many copies of a certificate of ``host`` with all that belongs to it; the rows of each table.

    Each has ids and names of its own; they expire one after the other from two weeks ago to over a year from ``now``.
    """
    last = session.execute(text("SELECT max(sequence) FROM events")).scalar_one()
    given = {"certificate": certificate_id, "host": host, "count": count, "now": now, "ours": _OURS, "last": last}
    rows = {}
    for table, which in _TABLES.items():
        statement = text(_COPY.format(table=table, which=which, overrides=_OVERRIDES.get(table, "'{}'::jsonb")))
        wanted = {name: value for name, value in given.items() if f":{name}" in statement.text}
        rows[table] = int(session.execute(statement, wanted).rowcount)  # type: ignore[attr-defined] # of an INSERT
    session.execute(text("UPDATE event_counters SET last_sequence = (SELECT max(sequence) FROM events)"))
    session.execute(text("ANALYZE"))
    return rows
