"""Puts the console into the application: every module of ``pages/``, and the headers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from apiflask import APIFlask
from flask import Response, request

from services.api.console import pages
from services.api.console.assets import load_assets
from services.api.console.blueprint import ENDPOINTS, Pages
from services.api.console.headers import protect
from services.api.console.language import load_catalogues
from services.api.console.rendering import build_environment


def register(app: APIFlask) -> None:
    """Add every page. Called once, while the application is built."""
    found = sorted(_pages(), key=lambda one: one.name)
    entries = sorted((one.entry for one in found if one.entry), key=lambda entry: (entry.place, entry.title))
    app.extensions["console_assets"] = assets = load_assets()
    app.extensions["console_catalogues"] = load_catalogues()
    app.extensions["console_environment"] = build_environment(assets, navigation=tuple(entries))
    for blueprint in found:
        app.register_blueprint(blueprint)
    app.after_request(_protected)


def is_console(endpoint: str | None) -> bool:
    """Whether an endpoint is the console's: signed in by cookie, not by token, and no part of the API's description."""
    return endpoint is not None and endpoint.startswith(ENDPOINTS)


def _pages() -> Iterator[Pages]:
    for found in pkgutil.iter_modules(pages.__path__, f"{pages.__name__}."):
        module = importlib.import_module(found.name)
        yield from (value for value in vars(module).values() if isinstance(value, Pages))


def _protected(response: Response) -> Response:
    return protect(response) if is_console(request.endpoint) else response
