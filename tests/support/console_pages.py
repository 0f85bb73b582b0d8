"""Every page of the console, found from its routes: a new page is looked at without anybody naming it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flask import Flask

from services.api.console.registration import is_console

_PLACE: Final = re.compile(r"<(?:\w+:)?(\w+)>")

NO_PAGES: Final[Mapping[str, str]] = {
    "/": "leads to the first page",
    "/sign-in": "for those who are not signed in: SIGNED_OUT",
    "/sign-in/<token>": "for those who are not signed in: SIGNED_OUT",
    "/static/<path:name>": "style sheets, scripts and drawings",
    "/jobs/<job_id>/events": "a stream of events",
}
"""What is read by GET and is no page for somebody who is signed in, and why."""

_QUERIES: Final[Mapping[str, str]] = {"/certificates/chosen": "?do=delete&ids=<certificate_id>"}
"""What a page must be asked, which is nothing to look at without."""


def rules(app: Flask) -> set[str]:
    """The addresses of pages, with places for ids: ``/certificates/<certificate_id>``."""
    found = {
        rule.rule for rule in app.url_map.iter_rules() if is_console(rule.endpoint) and "GET" in (rule.methods or ())
    }
    return found - set(NO_PAGES)


def places(app: Flask) -> set[str]:
    """The names of the ids in the pages' addresses."""
    return {name for rule in rules(app) for name in _PLACE.findall(rule)}


def addresses(app: Flask, ids: Mapping[str, str]) -> dict[str, str]:
    """Rule and address of each page about these ids (by the names of :func:`places`)."""
    wanted = {rule: rule + _QUERIES.get(rule, "") for rule in sorted(rules(app))}
    return {rule: _PLACE.sub(lambda place: ids[place[1]], address) for rule, address in wanted.items()}


def navigation(app: Flask) -> list[str]:
    """The addresses of the menu, in its order."""
    return [entry.address for entry in app.extensions["console_environment"].globals["navigation"]]
