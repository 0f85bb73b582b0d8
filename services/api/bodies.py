"""Request bodies before any schema sees them: JSON as RFC 8259 has it, one object, text that can be stored."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Final, NoReturn

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from shared.errors import CertfleetError, FieldError, Rejected
from shared.schemas.faults import shown_name

MAX_BYTES: Final = 1 << 20

READ_BYTES: Final = MAX_BYTES + 1
"""How much the framework may read: a body without a length is cut there without a word, and is too long."""

MAX_DEPTH: Final = 32
"""Lists and objects inside each other; our own bodies have three. Far below where Python's stack ends."""

OPAQUE: Final = frozenset({"certificate", "private_key"})
"""Fields that are sealed or inspected as they are and never stored as text: any character may be in them."""


class UploadsInMemory(Request):
    """Files of a form stay in memory, whatever their size (it is bounded): a private key is never on a disk of ours."""

    def _get_file_stream(self, *_about: object, **_more: object) -> IO[bytes]:
        return io.BytesIO()


class Malformed(CertfleetError):
    """The body is not a JSON object."""

    code = "invalid_json"


def receive(request: Request) -> None:
    """Wait for the body, however slowly it comes, before anything is held for the request. Faults are ``check``'s."""
    with suppress(RequestEntityTooLarge):
        request.get_data(cache=True)


def check(request: Request) -> None:
    """Refuse what is not JSON, not an object, or holds text that the database cannot.

    Raises:
        Malformed: the bytes are not a JSON object.
        Rejected: naming every field with a NUL or half of a surrogate pair in it.
        RequestEntityTooLarge: it has more than ``MAX_BYTES``.
        UnsupportedMediaType: there is a body, and it does not say that it is JSON.
    """
    _check_parameters(request)
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    data = request.get_data(cache=True)
    if len(data) > MAX_BYTES:
        raise RequestEntityTooLarge
    if not data:
        return
    if request.mimetype != "application/json" or request.mimetype_params.get("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("The body must be JSON: send Content-Type: application/json.")
    document = parse(data)
    if not isinstance(document, dict):
        raise Malformed("The body is not a JSON object.", hint="Send an object: {…}.")
    _refuse_unstorable(_paths_of_unstorable(document, ()))


def parse(data: bytes) -> Any:
    """Parse strictly: UTF-8 without a byte order mark, no NaN, no key twice.

    Raises:
        Malformed: saying where.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (byte {error.start}).", hint="Send the JSON as UTF-8.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"The body is not JSON ({where}).", hint="Check quotes, commas and braces.") from error
    except (ValueError, RecursionError) as error:
        raise _too_large() from error


def _too_large() -> Malformed:
    return Malformed("The body holds a number or a nesting that is too large.", hint="Send plain JSON.")


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"The body holds {name}, which JSON does not have.", hint="Send null or a number.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Malformed("An object in the body has the same key twice.", code="duplicate_key", hint="Send each once.")
    return document


def _check_parameters(request: Request) -> None:
    items = [(name, value) for name, values in request.args.lists() for value in values]
    _refuse_unstorable((name,) for name, value in items if "\0" in name + value)
    repeated = [shown_name(name) for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise _rejected("repeated_parameter", "It is in the URL more than once.", "Send it once.", repeated)


def _paths_of_unstorable(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if len(path) > MAX_DEPTH:
        raise _too_large()
    if isinstance(value, str):
        if not is_storable(value):
            yield path
    elif isinstance(value, list):
        for position, below in enumerate(value):
            yield from _paths_of_unstorable(below, (*path, str(position)))
    elif isinstance(value, dict):
        for key, below in value.items():
            if not is_storable(key):
                yield path
            elif path or key not in OPAQUE or not isinstance(below, str):
                yield from _paths_of_unstorable(below, (*path, key))


def is_storable(text: str) -> bool:
    """Whether the database takes it: PostgreSQL's text has no NUL, UTF-8 no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _refuse_unstorable(paths: Iterator[tuple[str, ...]]) -> None:
    fields = [".".join(map(shown_name, path)) for path in paths]
    if fields:
        message = "It holds a NUL or half of a surrogate pair."
        raise _rejected("invalid_character", message, "Remove the character; it is not text.", fields)


def _rejected(code: str, message: str, hint: str, fields: list[str]) -> Rejected:
    errors = tuple(FieldError(field=name, code=code, message=message, hint=hint) for name in dict.fromkeys(fields))
    return Rejected("The request holds what cannot be read.", errors=errors)
