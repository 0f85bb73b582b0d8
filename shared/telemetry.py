"""Structured logs: a static event name and allow-listed fields, never objects, PEM, keys or bodies."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final

import structlog

FIELDS: Final = frozenset(
    {
        "event", "level", "timestamp", "exception",
        "account_id", "token_id", "person_id", "request_id", "job_id", "deployment_id", "listener_id", "region",
        "delivery_id", "endpoint_id", "event_id", "object", "task", "state", "code", "error", "attempt", "fence",
        "count", "status", "method", "route", "duration_ms",
    }
)  # fmt: skip
"""What a log line may carry. Anything else is dropped and its name reported, so that a slip cannot leak a secret."""


def configure_logging(level: str = "INFO") -> None:
    """JSON lines on standard error, for our own logs; other libraries' logs from WARNING."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception_without_values,
            _only_allowed_fields,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=lambda *_name: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


class _Lines(structlog.PrintLogger):
    """Lines that nobody can take (a closed pipe, a full disk) are lost: what was done is not undone for a log line."""

    def msg(self, message: str) -> None:
        """Write the line."""
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = msg


def _exception_without_values(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where it happened and what kind it was; never the message, which may quote a statement's parameters."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = describe_exception(error)
    return event


def describe_exception(error: BaseException) -> str:
    """``Type at file:line in function`` for each frame of ours and the last one; no values."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 3)[-1]}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{kind} at {' < '.join(reversed(frames[-8:]))}" if frames else kind


def _only_allowed_fields(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    kept = {name: value for name, value in event.items() if name in FIELDS}
    dropped = sorted(set(event) - set(kept))
    if dropped:
        kept["error"] = f"log fields not allowed: {', '.join(dropped)}"
    return kept
