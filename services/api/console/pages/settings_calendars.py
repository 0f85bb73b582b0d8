"""Calendar feeds: secret addresses at which calendars read when certificates expire."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.errors import CertfleetError, Conflict, Rejected
from shared.schemas.calendars import FeedIn
from shared.usecases import calendar_feeds

blueprint = Pages("settings_calendars", __name__)

SAID: Final = (N_("The account has too many calendar feeds."), N_("Revoke one."))
"""What use cases answer."""


@blueprint.get("/settings/calendars")
@signed_in
def index() -> AnyResponse:
    """List them, without their addresses."""
    return _page()


@blueprint.post("/settings/calendars")
@signed_in
def create() -> AnyResponse:
    """Make one and show its address, this once."""
    visit, name = current_visit(), request.form.get("name", "").strip()
    try:
        wanted = checked(FeedIn(), {"name": name})
        _id, address = calendar_feeds.create_feed(
            visit.context, visit.session, visit.caller, name=wanted["name"], now=visit.now
        )
    except (Rejected, Conflict) as error:
        return _page(typed=name, error=error)
    return _page(address=address)


@blueprint.post("/settings/calendars/<feed_id>/rotate")
@signed_in
def rotate(feed_id: str) -> AnyResponse:
    """Give it a new address and show it, this once; the old one finds nothing any more."""
    visit = current_visit()
    return _page(address=calendar_feeds.rotate_feed(visit.context, visit.session, visit.caller, feed_id, now=visit.now))


@blueprint.post("/settings/calendars/<feed_id>/revoke")
@signed_in
def revoke(feed_id: str) -> AnyResponse:
    """Its address finds nothing any more."""
    visit = current_visit()
    calendar_feeds.revoke_feed(visit.session, visit.caller, feed_id, now=visit.now)
    visit.say(_("Revoked: calendars that read it find nothing any more."))
    return redirect("/settings/calendars", HTTPStatus.SEE_OTHER)


def _page(*, typed: str = "", error: CertfleetError | None = None, address: str | None = None) -> AnyResponse:
    visit = current_visit()
    page = render(
        "settings_calendars.html",
        feeds=calendar_feeds.list_feeds(visit.session, visit.caller.account_id),
        address=address,
        typed=typed,
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
