"""Light or dark: as the device says (``prefers-color-scheme``), unless a browser chose."""

from __future__ import annotations

from typing import Final

from flask import request

COOKIE: Final = "certfleet_theme"
THEMES: Final = frozenset({"light", "dark"})


def theme() -> str:
    """What this browser chose; empty when it follows the device."""
    chosen = request.cookies.get(COOKIE, "")
    return chosen if chosen in THEMES else ""
