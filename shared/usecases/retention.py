"""Forget what is old: events with their deliveries, and attempts; in small transactions, never what is still wanted.

Events go from the front: what an account has kept is all from some sequence on, and its counter says from which. So a
reader whose place is gone is told (:func:`check_kept`), instead of skipping events without knowing. Kept, however old,
are an event that waits for an endpoint, what a running replay has not looked at, and everything after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Final

import structlog
from sqlalchemy import Row, delete, func, select, text
from sqlalchemy.orm import Session

from shared.domain.webhooks import DeliveryState
from shared.errors import Expired, Transient
from shared.models import Event, EventCounter, WebhookAttempt, WebhookDelivery, WebhookReplay
from shared.telemetry import describe_exception
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run

BATCH: Final = 500
"""Rows in one transaction: an account's events wait for it."""

MOST_BATCHES: Final = 100
"""Of one account's events, and of attempts, in one run; the next run takes the rest."""

ACCOUNTS: Final = 100
"""Accounts looked up at once."""

log = structlog.get_logger(__name__)


def forget(context: Context, *, now: datetime) -> int:
    """Remove attempts and events that are older than the settings say; returns how many. Any number may run at once.

    A clock that is ahead of the database's is not believed: what it would remove is gone for ever.

    Raises:
        Transient: an account's turn failed, or the database is away. The other accounts had theirs, and the run is not
            noted: readiness names a task that is silent for long.
    """
    with context.transaction() as session:
        now = min(now, session.execute(select(func.now())).scalar_one())
    removed = sum(_batches(partial(_forget_attempts, context, before=now - context.settings.keep_attempts)))
    before = now - context.settings.keep_events
    failures = []
    for account_id in _accounts(context, before=before):
        try:
            removed += sum(_batches(partial(_forget_events, context, account_id, before=before)))
        except Transient as error:
            log.warning("events_not_forgotten", account_id=account_id, exception=describe_exception(error))
            failures.append(error)
    if failures:
        raise failures[0]
    with context.transaction() as session:
        note_run(session, Periodic.RETENTION, now=now, count=removed)
    if removed:
        log.info("old_rows_forgotten", count=removed)
    return removed


def check_kept(session: Session, account_id: str, *, after: int) -> None:
    """Nothing after ``after`` has been removed. 0 is nobody's place: it means "all that there is".

    Ask after reading, in the same transaction: what was removed between the two is then noticed.

    Raises:
        Expired: some of it is gone (``events_expired``); the message says from where on there are events.
    """
    if after == 0:
        return
    statement = select(EventCounter.removed_through).where(EventCounter.account_id == account_id)
    removed = session.execute(statement).scalar_one_or_none() or 0
    if after < removed:
        raise _expired(removed)


def check_kept_since(session: Session, account_id: str, *, since: datetime) -> None:
    """Nothing that happened since then has been removed.

    Raises:
        Expired: some of it may be gone (``events_expired``).
    """
    row = session.get_one(EventCounter, account_id, populate_existing=True)
    if row.removed_until is not None and since <= row.removed_until:
        raise _expired(row.removed_through)


def _expired(removed: int) -> Expired:
    return Expired(
        f"Events are kept from sequence {removed + 1} on; some of those asked for are gone.",
        code="events_expired",
        hint=f"Read the present state from its lists, then go on with after={removed}; after=0 is all that is kept.",
    )


def _batches(step: Callable[[], int]) -> Iterator[int]:
    """Until a batch is not full."""
    for _ in range(MOST_BATCHES):
        removed = step()
        yield removed
        if removed < BATCH:
            return


_OLD_ATTEMPTS: Final = text("""
    DELETE FROM webhook_attempts WHERE id IN (
        SELECT attempt.id FROM webhook_attempts AS attempt
        WHERE attempt.started_at < :before AND NOT EXISTS (
            SELECT 1 FROM webhook_deliveries AS delivery
            WHERE delivery.id = attempt.delivery_id AND delivery.next_wake_at IS NOT NULL
        )
        ORDER BY attempt.started_at LIMIT :most
    )
    RETURNING id
""")


def _forget_attempts(context: Context, *, before: datetime) -> int:
    """Those of deliveries that are on their way stay: their owner reads them to see what is wrong."""
    with context.transaction() as session:
        return len(session.execute(_OLD_ATTEMPTS, {"before": before, "most": BATCH}).all())


_WITH_OLD_EVENTS: Final = text("""
    SELECT counter.account_id FROM event_counters AS counter
    CROSS JOIN LATERAL (
        SELECT timestamp FROM events
        WHERE account_id = counter.account_id AND sequence > counter.removed_through ORDER BY sequence LIMIT 1
    ) AS oldest
    WHERE counter.account_id > :after AND oldest.timestamp < :before
    ORDER BY counter.account_id LIMIT :most
""")


def _accounts(context: Context, *, before: datetime) -> Iterator[str]:
    """Accounts whose oldest event is that old: one look into an index each."""
    after = ""
    while True:
        with context.transaction() as session:
            values = {"after": after, "before": before, "most": ACCOUNTS}
            found = list(session.execute(_WITH_OLD_EVENTS, values).scalars())
        yield from found
        if len(found) < ACCOUNTS:
            return
        after = found[-1]


def _forget_events(context: Context, account_id: str, *, before: datetime) -> int:
    """The account's oldest events, with their deliveries; its counter is held, as by a replay that begins."""
    with context.transaction() as session:
        counter = session.get_one(EventCounter, account_id, with_for_update={"key_share": True}, populate_existing=True)
        events = _old_events(session, counter, before=before)
        deliveries = _deliveries_of(session, events)
        waited_for = {row.event_id for row in deliveries if row.state == DeliveryState.PENDING}
        gone = list(takewhile(lambda event: event.id not in waited_for, events))
        if not gone:
            return 0
        ids = {event.id for event in gone}
        _delete(session, ids, [row.id for row in deliveries if row.event_id in ids])
        counter.removed_through, counter.removed_until = gone[-1].sequence, max(event.timestamp for event in gone)
        return len(gone)


def _old_events(session: Session, counter: EventCounter, *, before: datetime) -> list[Row[str, int, datetime]]:
    """From the front, up to the first that is young, or that a running replay has yet to look at."""
    replays = select(func.min(WebhookReplay.position)).where(
        WebhookReplay.account_id == counter.account_id, WebhookReplay.next_wake_at.is_not(None)
    )
    looked_at = session.execute(replays).scalar_one()
    statement = select(Event.id, Event.sequence, Event.timestamp).where(
        Event.account_id == counter.account_id, Event.sequence > counter.removed_through
    )
    if looked_at is not None:
        statement = statement.where(Event.sequence <= looked_at)
    rows = session.execute(statement.order_by(Event.sequence).limit(BATCH)).all()
    return list(takewhile(lambda event: event.timestamp < before, rows))


def _deliveries_of(session: Session, events: Sequence[Row[str, int, datetime]]) -> Sequence[Row[str, str, str]]:
    """Locked, so that none is replayed meanwhile."""
    statement = (
        select(WebhookDelivery.id, WebhookDelivery.event_id, WebhookDelivery.state)
        .where(WebhookDelivery.event_id.in_([event.id for event in events]))
        .order_by(WebhookDelivery.id)
        .with_for_update(key_share=True)
    )
    return session.execute(statement).all()


def _delete(session: Session, event_ids: set[str], delivery_ids: list[str]) -> None:
    for statement in (
        delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(delivery_ids)),
        delete(WebhookDelivery).where(WebhookDelivery.id.in_(delivery_ids)),
        delete(Event).where(Event.id.in_(event_ids)),
    ):
        session.execute(statement.execution_options(synchronize_session=False))
