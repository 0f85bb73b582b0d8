"""/calendar/…: feeds of expiries as iCalendar (RFC 5545), for calendars, which cannot sign in; and their management.

An entry is a moment, not a day: an expiry has an hour. It blocks nobody's time, and has no alarm of its own: what wakes
people is the reminder mail with its thresholds and answers, and most calendars drop alarms of what they subscribe to.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import icalendar
from apiflask.types import ResponseReturnValueType
from flask import Blueprint, Response, request

from services.api.calls import authorized, current_call, current_context, current_time
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.calendars import FeedAddressOut, FeedCreatedOut, FeedIn, FeedList
from shared.usecases import calendar_feeds
from shared.usecases.calendar_feeds import Calendar, Expiry

blueprint = Resource("calendars", __name__, tag="Reminders")
feeds = Blueprint("calendar_feeds", __name__)

REFRESH: Final = timedelta(hours=6)
"""How often calendars are asked to look again."""


@feeds.get("/calendar/<token>.ics")
def read(token: str) -> Response:
    """Read a feed; with If-None-Match only if it has changed."""
    context = current_context()
    with context.transaction() as session:
        calendar = calendar_feeds.read_calendar(context, session, token, now=current_time())
    response = Response(written(calendar), content_type="text/calendar; charset=utf-8")
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Disposition"] = 'inline; filename="certfleet.ics"'
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.post("/v1/calendar-feeds")
@authorized(Scope.WRITE)
@blueprint.takes(FeedIn)
@blueprint.answers(FeedCreatedOut, HTTPStatus.CREATED, description="Made; the address is shown this once.")
def create(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Make an address at which calendars read when certificates expire. Who knows it can read it: keep it secret."""
    call = current_call()
    feed_id, url = calendar_feeds.create_feed(
        call.context, call.session, call.caller, name=json_data["name"], now=call.now
    )
    document = {"id": feed_id, "name": json_data["name"], "created_at": call.now, "rotated_at": None, "url": url}
    return document, HTTPStatus.CREATED


@blueprint.get("/v1/calendar-feeds")
@authorized(Scope.READ)
@blueprint.answers(FeedList)
def index() -> ResponseReturnValueType:
    """List calendar feeds, without their addresses."""
    call = current_call()
    return {"items": calendar_feeds.list_feeds(call.session, call.caller.account_id)}


@blueprint.post("/v1/calendar-feeds/<feed_id>/rotate")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(FeedAddressOut)
def rotate(feed_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Give the feed a new address, shown this once; the old one finds nothing any more."""
    call = current_call()
    return {"url": calendar_feeds.rotate_feed(call.context, call.session, call.caller, feed_id, now=call.now)}


@blueprint.delete("/v1/calendar-feeds/<feed_id>")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.output({}, HTTPStatus.NO_CONTENT.value, description="Revoked; its address finds nothing any more.")
def revoke(feed_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Revoke a feed."""
    call = current_call()
    calendar_feeds.revoke_feed(call.session, call.caller, feed_id, now=call.now)
    return "", HTTPStatus.NO_CONTENT


def written(calendar: Calendar) -> bytes:
    """The calendar as RFC 5545 has it. The same expiries are the same bytes, so that their hash is an ETag."""
    document = icalendar.Calendar()
    document.add("prodid", "-//Certfleet//Expiries//EN")
    document.add("version", "2.0")
    document.add("method", "PUBLISH")
    document.add("x-wr-calname", f"Certificates of {calendar.account}")
    document.add("refresh-interval", REFRESH, parameters={"value": "DURATION"})  # RFC 7986 §5.7
    document.add("x-published-ttl", REFRESH)
    for expiry in calendar.expiries:
        document.add_component(_event(expiry))
    text: bytes = document.to_ical()
    return text


def _event(expiry: Expiry) -> icalendar.Event:
    event = icalendar.Event()
    event.add("uid", f"{expiry.certificate_id}@certfleet")
    event.add("dtstamp", expiry.known_since.replace(microsecond=0))
    event.add("dtstart", expiry.at.replace(microsecond=0))
    event.add("summary", f"{expiry.title} expires")
    event.add("description", f"Certificate {expiry.name}\nRegions: {', '.join(expiry.regions) or 'none'}\n{expiry.url}")
    event.add("url", expiry.url)
    event.add("transp", "TRANSPARENT")
    event.add("class", "PRIVATE")
    return event
