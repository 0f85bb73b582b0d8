"""Keep events small: what makes one too long is cut, and what was left out is counted, with where it is."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

MOST_BYTES: Final = 20_000
"""Of a whole payload. Standard Webhooks 1.0.0, "Payload size": "the payload should be kept small, e.g. below 20kb"."""

ENVELOPE_BYTES: Final = 500
"""What is around ``data`` is shorter than this: a type, two ids, a number and a time."""

_MOST_OF_DATA: Final = MOST_BYTES - ENVELOPE_BYTES

_TEXT_LENGTHS: Final = (1_000, 200)
"""Sentences are cut to the first of these if that is enough. Nothing that is one word comes near them."""

_Data = dict[str, Any]


def fitting(data: _Data) -> _Data:
    """The data, or a copy that is small enough for an event.

    Cut are sentences (they end with ``…``), and ``findings``, the last of them first: ``findings_omitted`` counts them,
    and ``findings_at`` says where all are. What identifies, states and ``regions`` are never cut.
    """
    if _is_small(data):
        return data
    for length in _TEXT_LENGTHS:
        cut = _with_fewer_findings(_shortened(data, length))
        if _is_small(cut):
            break
    return cut


def _with_fewer_findings(data: _Data) -> _Data:
    """As many of the first findings as fit; they are in the data, or in its error."""
    error = data.get("error")
    if isinstance(error, dict) and "findings" in error:
        at = f"/v1/jobs/{data.get('job_id')}"
        return _first(error["findings"], lambda told: {**data, "error": {**error, **told}}, at=at)
    at = f"/v1/certificates/{data.get('certificate_id')}"
    return _first(data.get("findings") or [], lambda told: {**data, **told}, at=at)


def _first(findings: list[_Data], put: Callable[[_Data], _Data], *, at: str) -> _Data:
    def kept(count: int) -> _Data:
        omitted = {"findings_omitted": len(findings) - count, "findings_at": at} if count < len(findings) else {}
        return put({"findings": findings[:count], **omitted} if findings else {})

    most = bisect_right(range(len(findings) + 1), _MOST_OF_DATA, key=lambda count: _size(kept(count)))
    return kept(max(0, most - 1))


def _shortened(value: Any, length: int) -> Any:
    """The same with every text at most so long."""
    match value:
        case str():
            return value if len(value) <= length else value[: length - 1] + "…"
        case dict():
            return {name: _shortened(below, length) for name, below in value.items()}
        case list():
            return [_shortened(below, length) for below in value]
        case _:
            return value


def _is_small(data: _Data) -> bool:
    return _size(data) <= _MOST_OF_DATA


def _size(data: _Data) -> int:
    """In bytes, as it is sent (``shared/events/log.py``)."""
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
