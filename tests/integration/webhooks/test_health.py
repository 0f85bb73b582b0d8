"""A receiver that fails for days: warned of, disabled, told by mail once each; and what brings it back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from services.worker.mail import SmtpMailer, parse_smtp_url
from shared.events.catalogue import EventType
from shared.models import Account, AuditEntry, Notice, WebhookDelivery
from shared.usecases import notices, sweep, webhook_replay, webhooks
from shared.usecases.webhook_health import ACTOR, GONE_REASON
from shared.usecases.webhook_replay import NewReplay
from shared.usecases.webhooks import Changes
from shared.wakeups import Task
from tests.support.fleet import server_upload
from tests.support.receiver import Receiver, Reply
from tests.support.smtp import MailServer, mail_server
from tests.support.webhook_world import World

OPS, TEAM = "ops@example.com", "team@example.com"
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=2)
"""What a failed try leads to is due when the answer came, which is after the world's now."""
NO = Reply(status=500)
PATH = "T0/B0/secret-in-the-path"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


@pytest.fixture(autouse=True)
def contacts(world: World) -> None:
    with world.transaction() as session:
        session.get_one(Account, world.caller.account_id).contacts = [OPS, TEAM]


def fail(world: World, receiver: Receiver) -> None:
    """One more event that the receiver refuses, tried once."""
    receiver.reply_with(NO)
    event_id = world.happen(EventType.JOB_FAILED)
    world.fleet.room.waiting = type(world.fleet.room.waiting)(
        wake_up for wake_up in world.fleet.room.waiting if wake_up.task is Task.NOTICE
    )
    with world.transaction() as session:
        statement = select(WebhookDelivery.id).where(WebhookDelivery.event_id == event_id)
        delivery_id = session.execute(statement).scalar_one()
    world.deliver(delivery_id)


def mailer(server: MailServer) -> SmtpMailer:
    return SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{server.port}"), sender="Certfleet <certfleet@example.net>")


def run_mails(world: World, server: MailServer) -> None:
    room = world.fleet.room.waiting
    while room:
        wake_up = room.popleft()
        if wake_up.task is Task.NOTICE:
            notices.send(world.context, mailer(server), wake_up.id, now=world.now + SOON)


def text_of(server: MailServer, recipient: str, position: int) -> str:
    part = server.to(recipient)[position].get_body(("plain",))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content


def test_after_days_of_failures_it_is_disabled_and_each_contact_told_once(
    world: World, receiver: Receiver, server: MailServer
) -> None:
    endpoint_id, _ = world.create(f"{receiver.url}/{PATH}?token={PATH}", description="our bus")
    begin = world.now
    fail(world, receiver)
    failing_since = world.endpoint(endpoint_id).failing_since
    assert failing_since is not None
    for hours in (23, 25, 60, 119):
        world.now = begin + hours * HOUR
        fail(world, receiver)
        assert world.endpoint(endpoint_id).enabled
    run_mails(world, server)
    assert [len(server.to(each)) for each in (OPS, TEAM)] == [1, 1]
    assert "We go on trying" in text_of(server, OPS, 0)

    world.now = begin + 121 * HOUR
    fail(world, receiver)
    endpoint = world.endpoint(endpoint_id)
    assert (endpoint.enabled, endpoint.missed_since) == (False, failing_since)
    assert "failed every delivery for 5 days" in (endpoint.disabled_reason or "")
    with world.transaction() as session:
        states = set(session.execute(select(WebhookDelivery.state)).scalars())
        entry = session.execute(select(AuditEntry).where(AuditEntry.actor == ACTOR)).scalar_one()
    assert states == {"exhausted", "cancelled"}
    assert (entry.action, entry.target) == ("webhook.disabled", endpoint_id)
    run_mails(world, server)
    assert [len(server.to(each)) for each in (OPS, TEAM)] == [2, 2]
    told = text_of(server, OPS, 1)
    assert f"replay {endpoint_id} --since {failing_since.isoformat(timespec='seconds')[:19]}Z --only-failed" in told
    assert "our bus" in told
    assert "secret-in-the-path" not in str(server.mails)


def test_one_success_starts_the_days_anew(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    fail(world, receiver)
    world.now += 30 * HOUR
    fail(world, receiver)
    assert world.endpoint(endpoint_id).warned_at is not None
    receiver.reply_with(Reply(status=204))
    world.now += HOUR  # it has rested
    world.happen()
    world.deliver_waiting()
    endpoint = world.endpoint(endpoint_id)
    assert (endpoint.failing_since, endpoint.warned_at) == (None, None)
    world.now += 200 * HOUR
    fail(world, receiver)
    assert world.endpoint(endpoint_id).enabled


def test_a_warning_is_not_sent_once_the_receiver_works_again(
    world: World, receiver: Receiver, server: MailServer
) -> None:
    world.create(receiver.url)
    fail(world, receiver)
    world.now += 30 * HOUR
    fail(world, receiver)
    waiting = list(world.fleet.room.waiting)
    world.fleet.room.waiting.clear()
    receiver.reply_with(Reply(status=204))
    world.now += HOUR  # it has rested
    world.happen()
    world.deliver_waiting()
    world.fleet.room.waiting.extend(waiting)
    run_mails(world, server)
    assert server.mails == []
    assert ledger(world) == {(OPS, "suppressed"), (TEAM, "suppressed")}


def ledger(world: World) -> set[tuple[str, str]]:
    with world.transaction() as session:
        return {(row.recipient, row.state) for row in session.execute(select(Notice)).scalars()}


def test_a_receiver_that_is_gone_is_told_by_mail_too(world: World, receiver: Receiver, server: MailServer) -> None:
    receiver.reply_with(Reply(status=410))
    endpoint_id, _ = world.create(receiver.url)
    world.happen()
    world.deliver_waiting()
    assert world.endpoint(endpoint_id).disabled_reason == GONE_REASON
    run_mails(world, server)
    assert GONE_REASON in text_of(server, OPS, 0)
    assert ledger(world) == {(OPS, "sent"), (TEAM, "sent")}


def test_an_account_without_contacts_has_it_recorded(world: World, receiver: Receiver) -> None:
    with world.transaction() as session:
        session.get_one(Account, world.caller.account_id).contacts = []
    receiver.reply_with(Reply(status=410))
    world.create(receiver.url)
    world.happen()
    world.deliver_waiting()
    assert ledger(world) == {("", "recorded")}
    assert world.fleet.room.waiting == type(world.fleet.room.waiting)()


def test_many_failures_at_once_warn_once(world: World, receiver: Receiver, server: MailServer) -> None:
    endpoint_id, _ = world.create(receiver.url)
    fail(world, receiver)
    world.now += 30 * HOUR
    receiver.reply_with(*[NO] * 8)
    for _ in range(8):
        world.happen()
    waiting = world.waiting()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(world.deliver, waiting))
    assert world.endpoint(endpoint_id).warned_at is not None
    run_mails(world, server)
    assert [len(server.to(each)) for each in (OPS, TEAM)] == [1, 1]


def test_a_mail_server_that_is_away_delays_the_mail_and_one_contact_that_is_refused_stops_no_other(
    world: World, receiver: Receiver, server: MailServer
) -> None:
    receiver.reply_with(Reply(status=410))
    world.create(receiver.url)
    world.happen()
    world.deliver_waiting()
    server.refuses = {OPS: "451 later", TEAM: "550 never"}
    run_mails(world, server)
    assert ledger(world) == {(OPS, "pending"), (TEAM, "failed")}
    server.refuses = {}
    world.now += timedelta(minutes=10)
    sweep.sweep(world.context, now=world.now)
    run_mails(world, server)
    assert ledger(world) == {(OPS, "sent"), (TEAM, "failed")}
    assert len(server.to(OPS)) == 1


def test_enabling_begins_anew_and_a_replay_settles_what_was_missed(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    fail(world, receiver)
    missed = world.endpoint(endpoint_id).failing_since
    for _ in range(3):
        world.now += 80 * HOUR
        fail(world, receiver) if world.endpoint(endpoint_id).enabled else world.happen()
    assert not world.endpoint(endpoint_id).enabled
    with world.transaction() as session:
        changes = Changes(enabled=True)
        webhooks.update_webhook(world.context, session, world.caller, endpoint_id, changes=changes, now=world.now)
    endpoint = world.endpoint(endpoint_id)
    assert (endpoint.failing_since, endpoint.disabled_at, endpoint.missed_since) == (None, None, missed)
    with world.transaction() as session:
        request = NewReplay(since=missed, only_failed=True)
        webhook_replay.start_replay(session, world.caller, endpoint_id, request=request, now=world.now)
    assert world.endpoint(endpoint_id).missed_since is None


def test_callbacks_are_left_to_end_with_their_jobs(world: World, receiver: Receiver) -> None:
    settings = replace(world.context.settings, webhook_disable_after=timedelta(seconds=1))
    world.fleet.context = replace(world.context, settings=settings)
    receiver.reply_with(*[NO] * 3)
    world.fleet.submit(server_upload(callback_url=receiver.url))
    (delivery_id,) = world.waiting()
    endpoint_id = world.delivery(delivery_id).endpoint_id
    for _ in range(3):
        world.deliver(delivery_id)
        world.now = world.delivery(delivery_id).next_attempt_at or world.now
    assert len(world.attempts(delivery_id)) == 3
    assert (world.endpoint(endpoint_id).enabled, world.endpoint(endpoint_id).failing_since) == (True, None)
    assert ledger(world) == set()
