"""Replay many events for one endpoint: from a cursor or a time on, in batches, in order, seen while it goes on.

A batch is one transaction: killed anywhere, it is done or it is not. The next one follows when every delivery of the
batch before has been tried once, so what a replay sends first begins in the order of the events, batch by batch, and
an endpoint never has more than ``MOST_WAITING`` deliveries waiting because of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.domain.webhooks import ReplayState
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.events import log
from shared.events.filters import EventFilter
from shared.events.log import FIRST_WAKE
from shared.models import Event, EventCounter, WebhookDelivery, WebhookEndpoint, WebhookReplay, insertion, leases
from shared.usecases import audit, webhook_lanes
from shared.usecases.context import Context
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.retention import check_kept, check_kept_since
from shared.usecases.tokens import Caller
from shared.usecases.webhooks import check_types, get_webhook, require_enabled
from shared.wakeups import Task, WakeUp

BATCH: Final = 200
"""Events that one transaction looks at."""

MOST_WAITING: Final = 1_000
"""While so many deliveries of the endpoint wait, a replay adds none: a receiver that is down gathers no mountain."""

LOOK_AGAIN: Final = timedelta(seconds=1)
"""How soon a replay that waits for its last batch looks again; in practice, with the next sweep."""

BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Older than any event."""

SKEW: Final = timedelta(minutes=5)
"""Events are numbered as they are committed, so their times are in order but for slow transactions and clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReplay:
    """What to send again: the events after a sequence, or since a time. ``types`` narrows the endpoint's own filter.

    ``only_failed``: not what has been delivered already.
    """

    after: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ("*",)
    only_failed: bool = False


def start_replay(
    session: Session, caller: Caller, endpoint_id: str, *, request: NewReplay, now: datetime
) -> WebhookReplay:
    """Begin a replay; the events of this moment are its end, whatever happens while it runs.

    Raises:
        NotFound: no endpoint of that id in this account.
        Conflict: the endpoint is disabled, or a replay of it runs (``replay_running``).
        Expired: some of what it would begin with is no longer kept (``events_expired``).
        Rejected: it begins after the newest event, or ends before it begins, or a type is not known.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id, lock=True)
    require_enabled(endpoint)
    check_types(request.types)
    request = _bounded(request, now=now)
    _refuse_second(session, endpoint)
    webhook_lanes.end_rest(session, endpoint.lane)
    newest = _newest(session, caller.account_id)
    after = _first(session, caller.account_id, request, newest=newest, now=now)
    replay = WebhookReplay(
        id=new_id("rpl"),
        account_id=endpoint.account_id,
        endpoint_id=endpoint.id,
        state=ReplayState.RUNNING,
        attempt=0,
        types=list(request.types),
        only_failed=request.only_failed,
        after_sequence=after,
        until_sequence=newest,
        since=request.since,
        until=request.until,
        position=after,
        batch_after=after,
        created_at=now,
    )
    leases.due(replay, now, wake_at=now + FIRST_WAKE)
    session.add(replay)
    if _covers(request, endpoint):
        endpoint.missed_since = None
    audit.note(session, caller, "webhook.replay_started", endpoint.id, now=now, details={"replay_id": replay.id})
    session.flush()
    log.wake(session, WakeUp(Task.REPLAY, replay.id))
    return replay


def advance(context: Context, replay_id: str, *, now: datetime) -> None:
    """Queue the next batch, if the last one has been tried. Safe to call at any time, by any number at once.

    Raises:
        Transient: the database is away; the sweep wakes the replay again.
    """
    with context.transaction() as session:
        fence = leases.claim(session, WebhookReplay, replay_id, now=now, lease=context.settings.lease)
        if fence is None:
            return
        replay = session.get_one(WebhookReplay, replay_id, populate_existing=True)
        endpoint = session.get_one(WebhookEndpoint, replay.endpoint_id)
        if not endpoint.enabled or endpoint.deleted_at is not None:
            _finish(replay, ReplayState.CANCELLED, now=now)
        elif _is_busy(session, replay):
            leases.due(replay, now + LOOK_AGAIN)
        else:
            _queue_batch(session, replay, endpoint, now=now)


def list_replays(session: Session, account_id: str, endpoint_id: str, *, page: PageRequest) -> Page[WebhookReplay]:
    """An endpoint's replays, newest first.

    Raises:
        NotFound: no endpoint of that id in this account.
        Rejected: the cursor is not one of this list.
    """
    endpoint = get_webhook(session, account_id, endpoint_id)
    statement = select(WebhookReplay).where(WebhookReplay.endpoint_id == endpoint.id)
    return read_page(session, statement, Order(id=WebhookReplay.id, descending=True), page)


def get_replay(session: Session, account_id: str, endpoint_id: str, *, replay_id: str) -> WebhookReplay:
    """One replay of an endpoint.

    Raises:
        NotFound: no such endpoint in this account, or no such replay of it.
    """
    endpoint = get_webhook(session, account_id, endpoint_id)
    statement = select(WebhookReplay).where(WebhookReplay.id == replay_id, WebhookReplay.endpoint_id == endpoint.id)
    replay = session.execute(statement).scalar_one_or_none()
    if replay is None:
        raise NotFound(f"There is no replay {replay_id} of this webhook.")
    return replay


def cancel_replay(
    session: Session, caller: Caller, endpoint_id: str, *, replay_id: str, now: datetime
) -> WebhookReplay:
    """Queue nothing more; what is queued already is sent. A replay that has ended stays as it is.

    Raises:
        NotFound: no such endpoint in this account, or no such replay of it.
    """
    replay = get_replay(session, caller.account_id, endpoint_id, replay_id=replay_id)
    session.refresh(replay, with_for_update={"key_share": True})
    if replay.state == ReplayState.RUNNING:
        _finish(replay, ReplayState.CANCELLED, now=now)
        audit.note(session, caller, "webhook.replay_cancelled", endpoint_id, now=now, details={"replay_id": replay.id})
    session.flush()
    return replay


def _covers(request: NewReplay, endpoint: WebhookEndpoint) -> bool:
    """Whether it sends all that the endpoint may have missed."""
    missed = endpoint.missed_since
    begins = request.after == 0 or (request.since is not None and missed is not None and request.since <= missed)
    return begins and request.until is None and "*" in request.types


def _bounded(request: NewReplay, *, now: datetime) -> NewReplay:
    """Times that all calendars and time zones can hold: nothing happened before ``BEGINNING`` or will after now."""
    since = None if request.since is None else max(request.since, BEGINNING)
    until = None if request.until is None else max(min(request.until, now), BEGINNING)
    return replace(request, since=since, until=until)


def _refuse_second(session: Session, endpoint: WebhookEndpoint) -> None:
    """Whoever asks holds the endpoint's row: of two at once, the second sees the first one's replay."""
    statement = select(WebhookReplay).where(
        WebhookReplay.endpoint_id == endpoint.id, WebhookReplay.next_wake_at.is_not(None)
    )
    running = session.execute(statement).scalars().first()
    if running is not None:
        raise Conflict(
            "A replay of this webhook is running.",
            code="replay_running",
            hint=f"Wait for it, or POST /v1/webhooks/{endpoint.id}/replays/{running.id}/cancel.",
            context={"replay_id": running.id, "position": running.position, "until_sequence": running.until_sequence},
        )


def _newest(session: Session, account_id: str) -> int:
    """The last sequence; its row stays locked, so that nothing is forgotten before the replay can be seen."""
    statement = select(EventCounter.last_sequence).where(EventCounter.account_id == account_id)
    return session.execute(statement.with_for_update(key_share=True)).scalar_one_or_none() or 0


def _first(session: Session, account_id: str, request: NewReplay, *, newest: int, now: datetime) -> int:
    if request.since is None:
        after = request.after or 0
        if after > newest:
            raise _refused("after", "not_yet", f"The newest event has the sequence {newest}.", "Begin at one before.")
        check_kept(session, account_id, after=after)
        return after
    if request.since > now:
        raise _refused("since", "not_yet", "It lies ahead.", "Begin at a time that has been.")
    if request.until is not None and request.until < request.since:
        raise _refused("until", "ends_before_it_begins", "It lies before since.", "Swap them.")
    if newest:
        check_kept_since(session, account_id, since=request.since)
    return _before(session, account_id, request.since - SKEW, newest=newest)


def _before(session: Session, account_id: str, moment: datetime, *, newest: int) -> int:
    """The highest sequence of which all up to it lie before ``moment``: numbers have no gaps, so halving finds it."""
    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2 + 1
        statement = select(Event.timestamp).where(Event.account_id == account_id, Event.sequence == middle)
        at = session.execute(statement).scalar_one_or_none()
        low, high = (middle, high) if at is None or at < moment else (low, middle - 1)
    return low


def _is_busy(session: Session, replay: WebhookReplay) -> bool:
    """Something of the last batch has not been tried yet, or too much waits already."""
    waits = (WebhookDelivery.endpoint_id == replay.endpoint_id, WebhookDelivery.next_wake_at.is_not(None))
    untried = (
        select(WebhookDelivery.id)
        .join(Event, Event.id == WebhookDelivery.event_id)
        .where(
            Event.account_id == replay.account_id,
            Event.sequence > replay.batch_after,
            Event.sequence <= replay.position,
            WebhookDelivery.attempt == 0,
            *waits,
        )
    )
    if session.execute(untried.limit(1)).first() is not None:
        return True
    some = select(WebhookDelivery.id).where(*waits).limit(MOST_WAITING).subquery()
    return session.execute(select(func.count()).select_from(some)).scalar_one() >= MOST_WAITING


def _queue_batch(session: Session, replay: WebhookReplay, endpoint: WebhookEndpoint, *, now: datetime) -> None:
    events = _next_events(session, replay)
    wanted = _wanted(session, replay, endpoint, events)
    queued = _make_due(session, replay, endpoint, wanted, now=now)
    replay.queued += queued
    replay.skipped += len(events) - queued
    replay.batch_after = replay.position
    replay.position = events[-1].sequence if events else replay.until_sequence
    if replay.position >= replay.until_sequence:
        _finish(replay, ReplayState.FINISHED, now=now)
        return
    leases.due(replay, now, wake_at=now + LOOK_AGAIN)
    log.wake(session, WakeUp(Task.REPLAY, replay.id))


def _next_events(session: Session, replay: WebhookReplay) -> Sequence[Event]:
    statement = select(Event).where(
        Event.account_id == replay.account_id,
        Event.sequence > replay.position,
        Event.sequence <= replay.until_sequence,
    )
    return session.execute(statement.order_by(Event.sequence).limit(BATCH)).scalars().all()


def _wanted(session: Session, replay: WebhookReplay, endpoint: WebhookEndpoint, events: Sequence[Event]) -> list[Event]:
    """Those that both the endpoint's filter of this moment and the replay's own let through."""
    filters = (
        EventFilter(job_id=endpoint.job_id, types=endpoint.types, tags=endpoint.tags, regions=endpoint.regions),
        EventFilter(types=replay.types),
    )
    subjects = log.subjects_of(session, events, is_tagged=bool(endpoint.tags))
    return [
        event
        for event, subject in zip(events, subjects, strict=True)
        if (replay.since is None or event.timestamp >= replay.since)
        and (replay.until is None or event.timestamp <= replay.until)
        and all(each.wants(subject) for each in filters)
    ]


_RENEW: Final = text("""
    UPDATE webhook_deliveries AS delivery
    SET state = 'pending', attempt = 0, finished_at = NULL, fence = delivery.fence + 1, lease_until = NULL,
        next_attempt_at = :now, next_wake_at = :wake_at, lane = :lane, sequence = asked.sequence, is_replay = true
    FROM unnest(CAST(:event_ids AS text[]), CAST(:sequences AS bigint[])) AS asked (event_id, sequence)
    WHERE delivery.endpoint_id = :endpoint_id AND delivery.event_id = asked.event_id
      AND (delivery.lease_until IS NULL OR delivery.lease_until <= :now)
      AND NOT (:only_failed AND delivery.state = 'delivered')
    RETURNING delivery.id
""")
"""One that is on its way at this moment is left alone: it arrives, or is retried, by itself."""


def _make_due(
    session: Session, replay: WebhookReplay, endpoint: WebhookEndpoint, events: Sequence[Event], *, now: datetime
) -> int:
    """Deliveries of these events, due now, anew or for the first time; how many."""
    ids = [event.id for event in events]
    of_endpoint = (WebhookDelivery.endpoint_id == replay.endpoint_id, WebhookDelivery.event_id.in_(ids))
    known = set(session.execute(select(WebhookDelivery.event_id).where(*of_endpoint)).scalars())
    new = [event for event in events if event.id not in known]
    insertion.insert(session, *(log.new_delivery(event, endpoint.id, lane=endpoint.lane, now=now) for event in new))
    values: dict[str, Any] = {
        "event_ids": ids,
        "sequences": [event.sequence for event in events],
        "lane": endpoint.lane,
        "endpoint_id": replay.endpoint_id,
        "only_failed": replay.only_failed,
        "now": now,
        "wake_at": now + FIRST_WAKE,
    }
    renewed = session.execute(_RENEW, values).all()
    if renewed:
        log.wake(session, WakeUp(Task.LANE, endpoint.lane))
    return len(renewed)


def _finish(replay: WebhookReplay, state: ReplayState, *, now: datetime) -> None:
    replay.state = state
    replay.finished_at = now
    leases.finished(replay)


def _refused(field: str, code: str, message: str, hint: str) -> Rejected:
    error = FieldError(field=field, code=code, message=message, hint=hint)
    return Rejected(message, code=code, hint=hint, errors=(error,))
