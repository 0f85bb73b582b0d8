"""Style sheet, scripts and icon."""

from __future__ import annotations

from typing import cast

from flask import Response, current_app

from services.api.console.assets import Assets
from services.api.console.blueprint import Pages

blueprint = Pages("static", __name__)


@blueprint.get("/static/<path:name>")
def show(name: str) -> Response:
    """A file that never changes."""
    return cast("Assets", current_app.extensions["console_assets"]).answer(name)
