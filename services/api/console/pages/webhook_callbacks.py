"""The secret that signs the callbacks of single jobs: shown and rotated on demand, never by merely reading a page."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from flask import make_response
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.pages.webhook import OVERLAPS, overlap_body
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.domain.webhooks import ROTATION_OVERLAP
from shared.errors import Rejected
from shared.schemas.webhooks import OverlapIn
from shared.usecases import self_service, webhooks

blueprint = Pages("webhook_callbacks", __name__)


@blueprint.get("/webhooks/callback-secret")
@signed_in
def ask() -> AnyResponse:
    """What it is for, and the forms."""
    return _page()


@blueprint.post("/webhooks/callback-secret/show")
@signed_in
def show() -> AnyResponse:
    """Show it; the audit says who looked."""
    visit = current_visit()
    secret = self_service.show_callback_secret(visit.session, visit.context.vault, visit.caller, now=visit.now)
    return _page(secret=secret)


@blueprint.post("/webhooks/callback-secret/rotate")
@signed_in
def rotate() -> AnyResponse:
    """Make a new one and show it; for a while callbacks carry a signature of the old one, too."""
    visit = current_visit()
    try:
        overlap = timedelta(seconds=checked(OverlapIn(), overlap_body())["overlap_seconds"])
    except Rejected as error:
        return _page(error=error)
    secret = webhooks.rotate_callback_secret(visit.context, visit.session, visit.caller, now=visit.now, overlap=overlap)
    return _page(secret=secret)


def _page(*, secret: str | None = None, error: Rejected | None = None) -> AnyResponse:
    page = render("webhook_callbacks.html", secret=secret, error=error, overlaps=OVERLAPS, chosen=ROTATION_OVERLAP)
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
