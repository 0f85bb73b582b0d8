"""Server-Sent Events (WHATWG HTML, "Server-sent events"): events as they happen, over an ordinary answer.

A stream asks the database twice a second in a short transaction and holds nothing while it waits. The number of
streams is bounded, because each takes one of the server's threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from threading import BoundedSemaphore
from typing import Final, cast

from flask import Response, after_this_request, current_app

from shared.errors import Expired, Transient
from shared.events.log import body_of
from shared.models import Event
from shared.usecases.context import Context
from shared.usecases.history import LAST_OF_JOB, EventFilters, EventPage, read_events
from shared.usecases.tokens import Caller

MIMETYPE: Final = "text/event-stream"
BATCH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How streams run in this process, and how many may."""

    poll: timedelta = timedelta(seconds=0.5)
    heartbeat: timedelta = timedelta(seconds=15)
    lifetime: timedelta = timedelta(minutes=10)
    reconnect: timedelta = timedelta(seconds=2)
    free: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(16))


def open_stream(context: Context, caller: Caller, filters: EventFilters) -> Response:
    """An answer that goes on until the job's last event, the end of its lifetime, or the client's leaving.

    Raises:
        Transient: as many streams as this process takes are open (``too_many_streams``).
    """
    streams = cast("Streams", current_app.extensions["streams"])
    if not streams.free.acquire(blocking=False):
        raise Transient(
            "Too many event streams are open.", code="too_many_streams", hint="Read events as JSON, or try later."
        )
    response = Response(_frames(context, caller, filters, streams=streams), mimetype=MIMETYPE)
    response.call_on_close(streams.free.release)
    after_this_request(partial(_close_unless_sent, response))
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # tells Nginx to pass frames on at once
    return response


def _close_unless_sent(stream: Response, sent: Response) -> Response:
    """A commit that fails after the view answers with a problem instead: nobody else would give the place back."""
    if sent is not stream:
        stream.close()
    return sent


def _frames(context: Context, caller: Caller, filters: EventFilters, *, streams: Streams) -> Iterator[str]:
    yield f"retry: {streams.reconnect // timedelta(milliseconds=1)}\n\n"
    ends = time.monotonic() + streams.lifetime.total_seconds()
    spoken = time.monotonic()
    last = filters.after
    while time.monotonic() < ends:
        try:
            page = _next(context, caller, filters, after=last)
        except Expired:
            return  # the reader comes again from its place, and is told
        for event in page.events:
            yield _frame(event)
            if filters.job_id is not None and event.type in LAST_OF_JOB:
                return
        if page.events or time.monotonic() - spoken >= streams.heartbeat.total_seconds():
            spoken = time.monotonic()
            yield ": still here\n\n"
        if page.last == last:
            time.sleep(streams.poll.total_seconds())
        last = page.last


def _next(context: Context, caller: Caller, filters: EventFilters, *, after: int) -> EventPage:
    """A database that is away for a moment does not end the stream: the next look goes on from the same place."""
    wanted = EventFilters(after=after, patterns=filters.patterns, job_id=filters.job_id)
    try:
        with context.transaction() as session:
            return read_events(session, caller, wanted, limit=BATCH)
    except Transient:
        return EventPage(events=[], last=after)


def _frame(event: Event) -> str:
    return f"id: {event.sequence}\nevent: {event.type}\ndata: {body_of(event).decode()}\n\n"
