"""From errors to answers, in one place: RFC 9457 problems with a stable code, and no detail that was not meant."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

import structlog
from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, g
from werkzeug.exceptions import HTTPException

from services.api.bodies import MAX_BYTES, Malformed
from shared.crypto.vault import CannotOpen
from shared.crypto.webhook_signature import SignatureRejected
from shared.errors import (
    CertfleetError,
    Conflict,
    Expired,
    FieldError,
    Forbidden,
    Misconfigured,
    NotFound,
    Rejected,
    Transient,
    Unauthenticated,
    Unprocessable,
)
from shared.schemas.faults import field_errors

log = structlog.get_logger(__name__)

PROBLEM: Final = "application/problem+json"
RETRY_AFTER: Final = "2"
"""Seconds. A database that restarts is away for about so long."""

STATUS: Final[Mapping[type[CertfleetError], HTTPStatus]] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    Rejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unprocessable: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Expired: HTTPStatus.GONE,
    Conflict: HTTPStatus.CONFLICT,
    Transient: HTTPStatus.SERVICE_UNAVAILABLE,
    Misconfigured: HTTPStatus.INTERNAL_SERVER_ERROR,
    CannotOpen: HTTPStatus.INTERNAL_SERVER_ERROR,
    SignatureRejected: HTTPStatus.INTERNAL_SERVER_ERROR,  # raised by receivers of webhooks; the API receives none
}
"""Every error but the drivers', which never reach a request."""

_EDGE: Final = {
    HTTPStatus.BAD_REQUEST: ("bad_request", "The request cannot be read.", "Check it against /docs."),
    HTTPStatus.NOT_FOUND: ("unknown_route", "There is nothing at this address.", "GET /openapi.json lists all."),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method_not_allowed",
        "This address does not take that method.",
        "The header Allow lists those that it takes.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "body_too_large",
        f"The body is larger than {MAX_BYTES} bytes.",
        "Send only the certificate and its intermediates.",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "unsupported_media_type",
        "The body is not declared as JSON.",
        "Send it as UTF-8 with Content-Type: application/json.",
    ),
}


def register(app: APIFlask) -> None:
    """Answer every error of the application with a problem."""
    app.register_error_handler(CertfleetError, _ours)
    app.register_error_handler(HTTPException, _edge)
    app.register_error_handler(Exception, _unexpected)
    app.register_error_handler(HTTPError, _shape)


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    hint: str = "",
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document; ``members`` are added to it."""
    structlog.contextvars.bind_contextvars(code=code)
    document = {
        "type": f"urn:certfleet:problem:{code}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
        "hint": hint,
        **(members or {}),
        "request_id": g.get("request_id", ""),
    }
    response = Response(json.dumps(document), status=status.value, mimetype=PROBLEM)
    response.headers.update(dict(headers or {}))
    return response


def status_of(error: CertfleetError) -> HTTPStatus:
    """The status of the nearest class in the map."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _ours(error: CertfleetError) -> Response:
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(error)
    return problem(
        status, error.code, error.message, hint=error.hint, members=_members(error), headers=_headers(error, status)
    )


def _members(error: CertfleetError) -> dict[str, Any]:
    if isinstance(error, Rejected) and error.errors:
        return {"errors": [_field_error(one) for one in error.errors]}
    if isinstance(error, Conflict) and error.context:
        return {"context": error.context}
    return {}


def _field_error(error: FieldError) -> dict[str, Any]:
    document = asdict(error)
    if error.line is None:
        del document["line"]
    return document


def _headers(error: CertfleetError, status: HTTPStatus) -> dict[str, str]:
    if isinstance(error, Conflict) and error.retry_after is not None:
        return {"Retry-After": str(math.ceil(error.retry_after.total_seconds()))}
    if status is HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="certfleet"'}
    return {"Retry-After": RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}


def _shape(error: HTTPError) -> Response:
    """What a schema refused: the framework hands over marshmallow's messages by location (json, query)."""
    messages = error.detail if isinstance(error.detail, dict) else {}
    errors = [one for below in messages.values() for one in field_errors(below)]
    return problem(
        HTTPStatus(error.status_code),
        "invalid_request",
        f"{len(errors)} field{'s' if len(errors) != 1 else ''} of the request cannot be taken.",
        hint="See errors for each field, its fault and its remedy.",
        members={"errors": [_field_error(one) for one in errors]},
    )


def _edge(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    default = (f"http_{status.value}", f"{status.phrase}.", "")
    code, detail, hint = _EDGE.get(status, default)
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return problem(status, code, detail, hint=hint, headers=headers)


def _unexpected(error: Exception) -> Response:
    log.error("request_failed_unexpectedly", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong on our side.",
        hint="Try again; if it stays, give the operator the request_id.",
    )
