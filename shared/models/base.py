"""The declarative base, and the columns of rows that workers own for a while."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, Integer, MetaData, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every row. Times are aware UTC, documents ``jsonb``, lists of words ``text[]``, of numbers ``integer[]``."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: ARRAY(String),
        list[int]: ARRAY(Integer),
        dict[str, str]: JSONB,
    }


ALWAYS_WOKEN = "(next_attempt_at IS NULL) = (next_wake_at IS NULL)"
"""What is due at some time is found by the sweep. The database holds it, as it holds ``always_due`` of each table."""


class Leased:
    """A row that one worker at a time may work on.

    Every non-final row has a ``next_attempt_at`` (when it is due) and a ``next_wake_at`` (when the sweep shall wake a
    worker for it); final rows have neither. A claim raises ``fence``; a write with an old fence changes nothing.
    """

    next_attempt_at: Mapped[datetime | None]
    next_wake_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(default=0)
