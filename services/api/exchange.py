"""What every request and answer goes through: a request id, one log line, headers that keep answers private."""

from __future__ import annotations

import re
import time
from typing import Final

import structlog
from apiflask import APIFlask
from flask import Response, g, request

from shared.domain.identifiers import new_id

log = structlog.get_logger(__name__)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def register(app: APIFlask) -> None:
    """Wrap every exchange of the application."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
    g.began = time.monotonic()
    structlog.contextvars.clear_contextvars()
    route = request.url_rule.rule if request.url_rule else "unknown"
    structlog.contextvars.bind_contextvars(request_id=g.request_id, method=request.method, route=route)


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
    elapsed = round((time.monotonic() - g.began) * 1000, 1)
    log.info("request_answered", status=response.status_code, duration_ms=elapsed)
    return response
