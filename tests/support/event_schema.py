"""Every event that any test makes happen fits docs/events.schema.json: looked at when the test has ended."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped] # comes with openapi-spec-validator; has no types
import psycopg

from shared.events.size import MOST_BYTES

SCHEMA: Final = Path(__file__).parents[2] / "docs" / "events.schema.json"
EVENTS: Final = """
    SELECT jsonb_build_object(
        'type', type, 'id', id, 'sequence', sequence, 'timestamp', to_json(timestamp), 'account_id', account_id,
        'data', data
    ) FROM events ORDER BY account_id, sequence
"""


def faults_of_events(connection: psycopg.Connection[Any]) -> list[str]:
    """What is wrong with the events of this database, a line each."""
    return [fault for (event,) in connection.execute(EVENTS) if (fault := fault_of(event))]


def fault_of(event: dict[str, Any]) -> str:
    """Why the payload does not fit its type's schema, or is longer than any may be; empty: it does."""
    size = len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MOST_BYTES:
        return f"{event['type']} #{event['sequence']}: {size} bytes"
    error = jsonschema.exceptions.best_match(_validator(event["type"]).iter_errors(event))
    return f"{event['type']} #{event['sequence']}: {error.json_path}: {error.message}" if error else ""


@cache
def _validator(event_type: str) -> Any:
    """The document with the one branch of this type: twenty times as fast as all of them."""
    document = json.loads(SCHEMA.read_text(encoding="utf-8"))
    branches = document.pop("allOf")
    document["allOf"] = [
        branch["then"] for branch in branches if branch["if"]["properties"]["type"]["const"] == event_type
    ]
    return jsonschema.Draft202012Validator(document)
