"""What all shapes share: strict bodies and queries, answers, instants, and the small rules about text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields
from marshmallow.validate import Range

from shared.domain.addresses import ADDRESS_HINT, INVALID_EMAIL, is_address
from shared.schemas.faults import Fault, refuse

MAX_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 50


class Body(Schema):
    """A JSON object in a request; unknown fields are refused."""

    class Meta:
        """How it is read."""

        unknown = RAISE


class Query(Schema):
    """The parameters of a URL; unknown ones are refused."""

    class Meta:
        """How it is read."""

        unknown = RAISE


class Answer(Schema):
    """A JSON object in an answer."""


class Nothing(Body):
    """A body without fields: it may be left out."""


class PageQuery(Query):
    """Where in a list to read."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=Range(1, MAX_LIMIT),
        metadata={"description": "The most items to answer."},
    )
    cursor = fields.String(
        load_default=None, metadata={"description": "`next_cursor` of the page before, with the same filters."}
    )


class Instant(fields.Field[Any]):
    """A point in time: RFC 3339, written in UTC with ``Z``; read with any offset, or as a date (its first moment).

    Stored documents hold instants as ISO strings; these are written the same way.
    """

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "date-time", **(metadata or {})}, **options)

    def _serialize(self, value: datetime | str | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002 - marshmallow's signature
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:  # noqa: ARG002 - marshmallow's signature
        moment = _read_instant(value)
        if moment is None:
            raise refuse(
                "invalid_time",
                "It is not a time with an offset, nor a date.",
                hint="Write it as in RFC 3339, such as 2030-01-31T00:00:00Z.",
            )
        return moment


def _read_instant(value: Any) -> datetime | None:
    text = value.replace(" ", "+") if isinstance(value, str) else ""  # a plus sign that was not escaped in a URL
    try:
        if len(text) == len("2030-01-31"):
            return datetime.combine(date.fromisoformat(text), time.min, UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def instant(description: str, **options: Any) -> Instant:
    """A time of an answer, null while there is none."""
    return Instant(allow_none=True, metadata={"description": description}, **options)


def text(description: str, **options: Any) -> fields.String:
    """A string of an answer."""
    return fields.String(metadata={"description": description}, **options)


def optional_text(description: str, **options: Any) -> fields.String:
    """A string of an answer, null while there is none."""
    return fields.String(allow_none=True, metadata={"description": description}, **options)


def printable(*, at_most: int, at_least: int = 1) -> Callable[[str], None]:
    """A validator: so many characters, none of them a control character or line break."""

    def check(value: str) -> None:
        if not at_least <= len(value) <= at_most:
            raise refuse(
                "wrong_length",
                f"It has {len(value)} characters; it takes {at_least} to {at_most}.",
                hint="Keep to the length named.",
            )
        if not value.isprintable() or (value and not value.strip()):
            raise refuse(
                "invalid_character",
                "It is blank, or holds a control or invisible character.",
                hint="Use letters, digits, punctuation and single spaces on one line.",
            )

    return check


def email(value: str) -> None:
    """A validator: one plain address, so that it can never become two headers or two recipients."""
    if not is_address(value):
        raise refuse(INVALID_EMAIL, "It is not an e-mail address.", hint=ADDRESS_HINT)


def unique(values: list[Any]) -> None:
    """A validator: nothing twice. Each repetition is named by its place."""
    seen: set[Any] = set()
    faults: Any = {}
    for position, value in enumerate(values):
        if value in seen:
            faults[position] = [Fault(code="duplicate_value", message="It is in the list twice.", hint="Remove one.")]
        seen.add(value)
    if faults:
        raise ValidationError(faults)
