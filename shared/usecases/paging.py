"""Lists page by page: opaque cursors that are good for one account, one list and one set of filters only."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.errors import FieldError, Rejected

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page is asked for. ``binding`` names the account, the list and its filters."""

    limit: int
    cursor: str | None
    binding: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Items in order, and where the next page begins; ``None`` on the last."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """By ``key``, then by ``id``, both up or both down; without a key by ``id`` alone, which is by time of birth.

    ``write`` and ``read`` turn a key's value into text and back.
    """

    id: InstrumentedAttribute[str]
    descending: bool
    key: ColumnElement[Any] | None = None
    write: Callable[[Any], str] = field(default=str)
    read: Callable[[str], Any] = field(default=str)

    def columns(self) -> list[ColumnElement[Any]]:
        """What is sorted by."""
        identifier: Any = self.id
        return [identifier] if self.key is None else [self.key, identifier]


def read_page(session: Session, statement: Select[T], order: Order, page: PageRequest) -> Page[T]:
    """One page of the statement's rows.

    Raises:
        Rejected: the cursor is not one of this list (``invalid_cursor``).
    """
    columns = order.columns()
    if page.cursor is not None:
        position = tuple_(*_position(page, order))
        statement = statement.where(tuple_(*columns) < position if order.descending else tuple_(*columns) > position)
    ordered = statement.order_by(*(column.desc() if order.descending else column.asc() for column in columns))
    rows = session.execute(ordered.add_columns(*columns).limit(page.limit + 1)).all()
    shown = rows[: page.limit]
    has_more = len(rows) > page.limit
    return Page(
        items=[row[0] for row in shown],
        next_cursor=_cursor(page, order, list(shown[-1])[1:]) if has_more else None,
    )


def _cursor(page: PageRequest, order: Order, position: list[Any]) -> str:
    keys = [order.write(value) for value in position[:-1]]
    document = json.dumps([_digest(page.binding), *keys, position[-1]], separators=(",", ":"))
    return urlsafe_b64encode(document.encode()).rstrip(b"=").decode()


def _position(page: PageRequest, order: Order) -> list[Any]:
    try:
        digest, *keys, identifier = _opened(page.cursor or "")
        if digest != _digest(page.binding) or len(keys) != (order.key is not None):
            raise _invalid_cursor()
        return [*(order.read(key) for key in keys), identifier]
    except ValueError as error:
        raise _invalid_cursor() from error


def _opened(cursor: str) -> list[str]:
    """The texts in a cursor; ValueError for anything that we did not write."""
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    parts = json.loads(urlsafe_b64decode(padded))
    if not isinstance(parts, list) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError("not a cursor")
    for part in parts:
        part.encode()  # a lone surrogate is not text; UnicodeEncodeError is a ValueError
    return parts


def _digest(binding: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(binding).encode()).hexdigest()[:16]


def _invalid_cursor() -> Rejected:
    error = FieldError(
        field="cursor",
        code="invalid_cursor",
        message="It is not a cursor of this list with these filters.",
        hint="Take next_cursor from the page before, keep the filters, or leave it out to begin again.",
    )
    return Rejected("The cursor does not fit.", code="invalid_cursor", hint=error.hint, errors=(error,))
