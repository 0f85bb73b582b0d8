"""Insert rows of several tables in one round trip, without the bookkeeping of a session's unit of work.

A transaction that only adds (a submission, a batch of events) spends most of its time on one statement a table and on
tracking objects that nobody changes again. Here the rows travel as JSON, and one statement stores them all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import TextClause, inspect, text
from sqlalchemy.orm import Session

from shared.models.base import Base

Shape = tuple[tuple[type[Base], tuple[str, ...]], ...]
"""Which columns of which models a statement stores, by table: all that the statement's text depends on."""


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
    shape, values = described(rows)
    session.execute(_statement(shape), values)


def described(rows: Sequence[Base]) -> tuple[Shape, dict[str, str]]:
    """What :func:`inserts` needs to know of the rows, and the binds; columns that are null in all of them are left out.

    The binds are a JSON list of rows for each table: ``{rows_<table>: [{column: value}]}``.
    """
    documents: dict[type[Base], list[dict[str, Any]]] = {}
    for row in rows:
        documents.setdefault(type(row), []).append(_document(row))
    models = sorted(documents, key=lambda model: model.__tablename__)
    shape = tuple((model, tuple(dict.fromkeys(chain.from_iterable(documents[model])))) for model in models)
    return shape, {_bind(model): json.dumps(documents[model], default=_plain) for model in models}


def inserts(shape: Shape) -> list[str]:
    """One ``name AS (INSERT …)`` a table, for a statement's ``WITH``; its binds are those of :func:`described`."""
    return [_insert_into(model, columns) for model, columns in shape]


@lru_cache(maxsize=256)
def _statement(shape: Shape) -> TextClause:
    return text(f"WITH {', '.join(inserts(shape))} SELECT 1")


def _insert_into(model: type[Base], columns: Sequence[str]) -> str:
    table = model.__tablename__
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f"new_{table} AS (INSERT INTO {table} ({names}) SELECT {names} "  # noqa: S608 - names of our own models
        f"FROM json_populate_recordset(NULL::{table}, CAST(:{_bind(model)} AS json)))"
    )


def _bind(model: type[Base]) -> str:
    return f"rows_{model.__tablename__}"


def _document(row: Base) -> dict[str, Any]:
    """The values by column; from the object's own dictionary, because each attribute of a mapped one costs a call."""
    values = vars(row)
    found = {name: _value(values.get(key), default) for name, key, default in _columns(type(row))}
    return {name: value for name, value in found.items() if value is not None}


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
