"""The API: built once a process from the environment, or around a given context."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apiflask import APIFlask
from flask import Blueprint

from services.api import errors, exchange, routes, specification
from services.api.bodies import READ_BYTES, UploadsInMemory
from services.api.console import registration as console
from services.api.specification import Application
from services.api.streams import Streams
from shared.config.settings import load_settings
from shared.telemetry import configure_logging
from shared.usecases.context import Context, build_context

PATIENCE: Final = timedelta(seconds=10)
"""A request waits so long for a database that hangs, and is then answered with 503: it holds a thread meanwhile."""


def create_app(
    context: Context | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    streams: Streams | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> APIFlask:
    """The WSGI application. Without a ``context`` one is built from ``environ`` (the process's own by default).

    Raises:
        Misconfigured: listing everything that is wrong with the environment.
    """
    if context is None:
        settings = load_settings(os.environ if environ is None else environ)
        configure_logging(settings.log_level)
        context = build_context(settings, patience=PATIENCE)
    no_folder: Any = None  # Flask takes None; APIFlask's signature forgot it
    app = Application(
        "services.api", title="Certfleet", version="1", docs_path=None, static_folder=no_folder, json_errors=False
    )
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = READ_BYTES
    app.request_class = UploadsInMemory
    app.url_map.strict_slashes = False
    app.extensions["certfleet"] = context
    app.extensions["clock"] = clock
    app.extensions["streams"] = streams or Streams()
    errors.register(app)
    exchange.register(app)
    specification.register(app)
    for blueprint in _blueprints():
        app.register_blueprint(blueprint)
    console.register(app)
    return app


def _blueprints() -> Iterator[Blueprint]:
    """Every file of ``routes/`` is a resource: nothing to list, nothing to forget."""
    for found in pkgutil.iter_modules(routes.__path__, f"{routes.__name__}."):
        module = importlib.import_module(found.name)
        yield from (value for value in vars(module).values() if isinstance(value, Blueprint))
