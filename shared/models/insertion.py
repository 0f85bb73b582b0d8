"""Insert rows of several tables in one round trip, without the bookkeeping of a session's unit of work.

A transaction that only adds (a submission, a batch of events) spends most of its time on one statement a table and on
tracking objects that nobody changes again. Here the rows travel as JSON, and one statement stores them all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, inspect, text
from sqlalchemy.orm import Session

from shared.models.base import Base


def insert(session: Session, *rows: Base) -> None:
    """Store the rows now. Foreign keys may point from one to another, in any order.

    The rows are not tracked: later changes to these objects are not written. A column that is unset gets its model's
    default, or null. What the session holds back is written first.

    Raises:
        sqlalchemy.exc.IntegrityError: as any insert does; the transaction is over then.
    """
    if not rows:
        return
    session.flush()
    session.execute(_statement(models_of(rows)), documents(rows))


def models_of(rows: Sequence[Base]) -> tuple[type[Base], ...]:
    """The models of the rows, each once, by table: what a statement depends on."""
    return tuple(sorted({type(row) for row in rows}, key=lambda model: model.__tablename__))


def inserts(models: Sequence[type[Base]]) -> list[str]:
    """One ``name AS (INSERT …)`` a table, for a statement's ``WITH``; its binds are named as in :func:`documents`."""
    return [_insert_into(model) for model in models]


def documents(rows: Sequence[Base]) -> dict[str, str]:
    """The values of the binds: a JSON list of rows for each table, ``{rows_<table>: [{column: value}]}``."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        values = {name: _value(getattr(row, key), default) for name, key, default in _columns(type(row))}
        tables.setdefault(_bind(type(row)), []).append(values)
    return {name: json.dumps(values, default=_plain) for name, values in tables.items()}


@lru_cache(maxsize=64)
def _statement(models: tuple[type[Base], ...]) -> TextClause:
    return text(f"WITH {', '.join(inserts(models))} SELECT 1")


def _insert_into(model: type[Base]) -> str:
    table = model.__tablename__
    columns = ", ".join(f'"{name}"' for name, _, _ in _columns(model))
    return (
        f"new_{table} AS (INSERT INTO {table} ({columns}) SELECT {columns} "  # noqa: S608 - names of our own models
        f"FROM json_populate_recordset(NULL::{table}, CAST(:{_bind(model)} AS json)))"
    )


def _bind(model: type[Base]) -> str:
    return f"rows_{model.__tablename__}"


@lru_cache(maxsize=64)
def _columns(model: type[Base]) -> tuple[tuple[str, str, Any], ...]:
    """Each column's name, its attribute, and the default of its model."""
    mapper = inspect(model)
    return tuple(
        (column.name, mapper.get_property_by_column(column).key, column.default)
        for column in mapper.local_table.columns
    )


def _value(value: Any, default: Any) -> Any:
    if value is not None or default is None:
        return value
    return default.arg if default.is_scalar else default.arg(None)


def _plain(value: object) -> str:
    """How PostgreSQL reads a moment (ISO 8601) and bytes (``bytea``'s hex format) from text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"no column holds a {type(value).__name__}")
