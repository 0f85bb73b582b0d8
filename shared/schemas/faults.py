"""Faults of a request's shape: one code, message and remedy each; marshmallow's own words get stable codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import ValidationError
from marshmallow.exceptions import SCHEMA

from shared.errors import FieldError

MAX_NAME: Final = 64
"""The longest name that a field may have: a tag's."""
SHOWN: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a validator says about one value; the field's path is added when errors are collected."""

    code: str
    message: str
    hint: str = ""


def refuse(code: str, message: str, *, hint: str = "", field: str | None = None) -> ValidationError:
    """The exception with which a validator refuses a value, or a schema one of its fields."""
    faults: Any = [Fault(code=code, message=message, hint=hint)]
    return ValidationError(faults) if field is None else ValidationError({field: faults})


def field_errors(messages: Any, path: tuple[str, ...] = ()) -> tuple[FieldError, ...]:
    """Flatten what marshmallow collected; paths are dotted (``regions.0``), empty for the body as a whole."""
    return tuple(_flatten(messages, path))


def shown_name(name: str) -> str:
    """A field's name as errors show it. What is no name may be a key in the wrong place: its beginning is enough."""
    return name if len(name) <= MAX_NAME and name.isprintable() else f"{ascii(name[:SHOWN])[1:-1]}…"


def _flatten(messages: Any, path: tuple[str, ...]) -> Iterator[FieldError]:
    if isinstance(messages, dict):
        for key, below in messages.items():
            yield from _flatten(below, path if key == SCHEMA else (*path, shown_name(str(key))))
    elif isinstance(messages, (list, tuple)):
        for below in messages:
            yield from _flatten(below, path)
    else:
        fault = messages if isinstance(messages, Fault) else _translated(str(messages))
        yield FieldError(field=".".join(path), code=fault.code, message=fault.message, hint=fault.hint)


_TRANSLATIONS: Final = (
    ("Missing data for required field", "missing_field", "This field is required.", "Add the field."),
    ("Unknown field", "unknown_field", "There is no such field.", "Remove it, or check its spelling against /docs."),
    (
        "Field may not be null",
        "null_not_allowed",
        "The field may not be null.",
        "Give a value, or leave the field out.",
    ),
    ("Not a valid", "wrong_type", "", "See /docs for the type of this field."),
    ("Invalid input type", "wrong_type", "", "See /docs for the type of this field."),
    ("Invalid type", "wrong_type", "", "See /docs for the type of this field."),
    ("Must be one of", "not_one_of", "", "Choose one of the values named."),
    ("Longer than", "wrong_length", "", "Shorten it."),
    ("Shorter than", "wrong_length", "", "Make it longer."),
    ("Length must be", "wrong_length", "", "Keep to the length named."),
    ("Must be greater", "out_of_range", "", "Keep to the range named."),
    ("Must be less", "out_of_range", "", "Keep to the range named."),
)
"""How marshmallow's messages begin, the code that stands for them, our words if any, and the remedy."""


def _translated(text: str) -> Fault:
    for beginning, code, message, hint in _TRANSLATIONS:
        if text.startswith(beginning):
            return Fault(code=code, message=message or text, hint=hint)
    return Fault(code="invalid_value", message=text, hint="See /docs for what this field takes.")
