"""/v1/events: what happened, as JSON by cursor or as Server-Sent Events."""

from __future__ import annotations

from typing import Any

from apiflask.types import ResponseReturnValueType
from flask import Response, request

from services.api import streams
from services.api.calls import Call, authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.errors import FieldError, Rejected
from shared.events.log import body_of
from shared.schemas.events import LATEST, MAX_SEQUENCE, EventPage, EventQuery
from shared.usecases import browsing
from shared.usecases.history import EventFilters, event_patterns, newest_sequence, read_events
from shared.usecases.history import EventPage as Page
from shared.usecases.retention import check_kept

blueprint = Resource("events", __name__, tag="Events")

_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_RESPONSES: dict[int | str, Any] = {200: {"description": "Events in order.", "content": _STREAM}}


@blueprint.get("/v1/events")
@authorized(Scope.READ)
@blueprint.takes(EventQuery, location="query")
@blueprint.answers(EventPage)
@blueprint.doc(responses=_RESPONSES)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """Read the account's events.

    As JSON: go on with after=next_cursor. With Accept: text/event-stream they are sent as they happen; after a break
    the header Last-Event-ID (or after) goes on where it was. No event is skipped. after=latest begins with what comes
    next. Events are kept for 90 days, unless the operator says otherwise; an after that lies before what is kept is 410
    events_expired, except 0, which is all that there is. Each item is, byte for byte, the body that webhooks carry.
    """
    return _answered(current_call(), query_data, job_id=None)


@blueprint.get("/v1/jobs/<job_id>/events")
@authorized(Scope.READ)
@blueprint.takes(EventQuery, location="query")
@blueprint.answers(EventPage)
@blueprint.doc(responses=_RESPONSES)
def of_job(job_id: str, query_data: dict[str, Any]) -> ResponseReturnValueType:
    """Read one job's events, as above; the stream ends with the job."""
    call = current_call()
    return _answered(call, query_data, job_id=browsing.find_job(call.session, call.caller, job_id).id)


def _answered(call: Call, query: dict[str, Any], *, job_id: str | None) -> ResponseReturnValueType:
    patterns = event_patterns(query["types"])
    after = newest_sequence(call.session, call.caller) if query["after"] is LATEST else query["after"]
    if _wants_stream():
        filters = EventFilters(after=_last_event_id(after), patterns=patterns, job_id=job_id)
        check_kept(call.session, call.caller.account_id, after=filters.after)
        return streams.open_stream(call.context, call.caller, filters)
    filters = EventFilters(after=after, patterns=patterns, job_id=job_id)
    return _page(read_events(call.session, call.caller, filters, limit=query["limit"]))


def _page(page: Page) -> Response:
    """Each item is the body that webhooks carry, byte for byte: written here, not by the framework."""
    items = b",".join(body_of(event) for event in page.events)
    return Response(b'{"items":[%b],"next_cursor":"%d"}\n' % (items, page.last), mimetype="application/json")


def _wants_stream() -> bool:
    best = request.accept_mimetypes.best_match(["application/json", streams.MIMETYPE], default="application/json")
    return best == streams.MIMETYPE and request.method == "GET"


def _last_event_id(after: int) -> int:
    """What a browser that lost its connection sends by itself wins over the URL it began with."""
    text = request.headers.get("Last-Event-ID", "")
    if not text:
        return after
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= MAX_SEQUENCE):  # noqa: PLR2004 - digits of 2**63
        error = FieldError(
            field="Last-Event-ID",
            code="wrong_type",
            message="It is not a sequence.",
            hint="Send the id of the last event received, or leave the header out.",
        )
        raise Rejected(error.message, errors=(error,))
    return int(text)
