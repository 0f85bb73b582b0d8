"""From the form of the add and replace pages to the bodies that the API's schemas check."""

from __future__ import annotations

import re
from typing import Any, Final

from flask import request
from marshmallow import Schema, ValidationError

from shared.errors import Rejected
from shared.schemas.faults import field_errors

_SEPARATORS: Final = re.compile(r"[\s,;]+")


def certificate_body() -> dict[str, Any]:
    """The form's certificate as a body of ``POST /v1/certificates``; fields that were left empty are left out."""
    form = request.form
    is_managed = form.get("source") == "managed"
    fields = {
        "source": form.get("source", ""),
        "type": form.get("type", ""),
        "name": form.get("name", "").strip(),
        "certificate": "" if is_managed else pasted("certificate"),
        "private_key": "" if is_managed else pasted("private_key"),
        "managed_certificate_id": form.get("managed_certificate_id", "") if is_managed else "",
        "contacts": [part for part in _SEPARATORS.split(form.get("contacts", "")) if part],
    }
    return {name: value for name, value in fields.items() if value} | {"regions": form.getlist("regions")}


def pasted(field: str) -> str:
    """What was pasted, or else the file that was picked (``<field>_file``); an unreadable one as Latin-1.

    Its content is told apart by validation, which says what it is and how to convert it. Browsers send text with
    CRLF; that is undone, so that no repair is reported that nobody caused.
    """
    text = request.form.get(field, "")
    if text.strip():
        return text.replace("\r\n", "\n")
    file = request.files.get(f"{field}_file")
    data = file.read() if file else b""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def checked(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """The body as the API would take it.

    Raises:
        Rejected: naming every field, as the API's 422 does.
    """
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        raise Rejected("Some fields need another look.", errors=field_errors(error.messages)) from error
    return loaded
