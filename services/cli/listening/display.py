"""One event, one line: for people, or as the JSON that came."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from services.cli.listening.heard import Heard

_STYLES: Final = {
    "succeeded": "green",
    "validated": "green",
    "recovered": "green",
    "partially_succeeded": "yellow",
    "retrying": "yellow",
    "expiring": "yellow",
    "drifted": "yellow",
    "failed": "red",
    "rejected": "red",
    "expired": "red",
}
_DETAILS: Final = ("region", "name", "kind", "change", "job_id", "listener_id")
_SHORT: Final = 10
"""Characters of an id's end that tell one from another on one screen."""


def print_json(heard: Heard) -> None:
    """The event's own bytes, one line each, at once: for another program."""
    sys.stdout.buffer.write(heard.body + b"\n")
    sys.stdout.buffer.flush()


def print_line(console: Console, heard: Heard) -> None:
    """``09:30:01 ✓ #42 deployment.failed  eu-1 …``; the tick says that a signature was verified."""
    event = heard.event
    line = Text()
    line.append(f"{_clock(event['timestamp'])} ", style="dim")
    line.append("✓ " if heard.is_pushed else "· ", style="green" if heard.is_pushed else "dim")
    line.append(f"#{event['sequence']:<5}", style="dim")
    line.append(f"{event['type']:<24}", style=_STYLES.get(event["type"].partition(".")[2], ""))
    line.append("  " + _harmless("  ".join(_details(event["data"]))))
    if heard.forwarded:
        line.append(f"  → {heard.forwarded}", style="green" if heard.forwarded.startswith("2") else "red")
    console.print(line, soft_wrap=True)


def _harmless(text: str) -> str:
    """What balancers say must not move the cursor, recolour the terminal or turn the writing round."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _clock(timestamp: str) -> str:
    return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")


def _details(data: dict[str, Any]) -> Iterator[str]:
    for name in _DETAILS:
        value = data.get(name)
        if value is not None:
            yield f"…{value[-_SHORT:]}" if name.endswith("_id") else str(value)
    if "days_left" in data:
        yield f"{data['days_left']} days left"
    for region, state in (data.get("regions") or {}).items():
        yield f"{region}: {state}"
    error = data.get("error") or {}
    if error:
        yield f"{error.get('code')}: {error.get('message')}"
    yield from (f"{one['severity']}: {one['code']}" for one in data.get("findings") or ())
