"""/docs: the OpenAPI document as one page. Nothing from elsewhere, no script."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, cast

from apiflask import APIFlask
from flask import Blueprint, Response, current_app, render_template

blueprint = Blueprint("reference", __name__)

_FIRST: Final = ("Certificates", "Deployments", "Jobs", "Events", "Webhooks", "Regions")
"""What people come for; the rest follows by name."""


@blueprint.get("/docs")
def show() -> Response:
    """Show every operation, shape and event. Rendered once a process: it never changes."""
    pages: dict[str, str] = current_app.extensions.setdefault("reference", {})
    if "page" not in pages:
        document: Any = cast("APIFlask", current_app).spec
        pages["page"] = render_template("reference.html", document=document, groups=_by_tag(document["paths"]))
    response = Response(pages["page"], mimetype="text/html")
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return response


def _by_tag(paths: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, operations in paths.items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            groups[tag].append({"method": method.upper(), "path": path, **operation})
    order = {tag: place for place, tag in enumerate(_FIRST)}
    return dict(sorted(groups.items(), key=lambda group: (order.get(group[0], len(order)), group[0])))
