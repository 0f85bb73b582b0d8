"""Deliveries from event to receiver: signatures, retries, ends, fences, secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.webhooks import ROTATION_OVERLAP, Answer
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import payload
from shared.models import Event, Purpose, Secret, WebhookDelivery, leases
from shared.usecases import accounts, webhook_deliveries, webhook_secrets, webhooks
from shared.usecases.webhook_delivery import Request
from shared.usecases.webhook_health import GONE_REASON
from shared.usecases.webhooks import Changes
from tests.support.fleet import server_upload
from tests.support.receiver import Received, Receiver, Reply
from tests.support.webhook_world import InterruptedSender, World


def verified(secret: str, received: Received) -> dict[str, object]:
    """Verify with the independent package, and return the payload."""
    document = Webhook(secret).verify(received.body, received.headers)
    assert isinstance(document, dict)
    return document


def one_delivery(world: World, receiver: Receiver, *types: str) -> tuple[str, str, str]:
    """Endpoint id, secret and the id of a delivery that waits."""
    endpoint_id, secret = world.create(receiver.url, *types)
    world.happen(job_id="job_1", state="succeeded")
    (delivery_id,) = world.waiting()
    return endpoint_id, secret, delivery_id


class UnusedSender:
    """Fails the test when it is asked to send."""

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        raise AssertionError(f"sent to {request.url} within {deadline}")


def test_an_event_arrives_signed_and_whole(world: World, receiver: Receiver) -> None:
    _, secret = world.create(receiver.url)
    event_id = world.happen(job_id="job_1", name="Zürich")
    (delivery_id,) = world.waiting()
    world.deliver(delivery_id)

    (received,) = receiver.received
    document = verified(secret, received)
    with world.transaction() as session:
        assert document == payload(session.get_one(Event, event_id))
    assert received.headers["webhook-id"] == event_id == document["id"]
    assert received.headers["content-type"] == "application/json"
    delivery = world.delivery(delivery_id)
    assert (delivery.state, delivery.attempt, delivery.next_attempt_at) == ("delivered", 1, None)
    assert delivery.finished_at is not None
    (attempt,) = world.attempts(delivery_id)
    assert (attempt.number, attempt.status, attempt.error, attempt.started_at) == (1, 204, None, world.now)


def test_a_delivery_is_not_repeated_once_delivered(world: World, receiver: Receiver) -> None:
    _, _, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)
    world.deliver(delivery_id, sender=UnusedSender())
    assert len(receiver.received) == 1


def test_an_unknown_delivery_is_nothing_to_do(world: World) -> None:
    world.deliver("dlv_unknown", sender=UnusedSender())


def test_only_wanted_types_are_delivered(world: World, receiver: Receiver) -> None:
    world.create(receiver.url, "deployment.*", "job.failed")
    world.happen(EventType.JOB_SUCCEEDED)
    assert world.waiting() == []
    world.happen(EventType.DEPLOYMENT_FAILED)
    world.happen(EventType.JOB_FAILED)
    assert len(world.waiting()) == 2


def test_a_failure_is_retried_with_the_same_id_and_body_and_a_fresh_signature(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500, body=b"not yet"), Reply(status=204))
    _, secret, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)

    waiting = world.delivery(delivery_id)
    assert (waiting.state, waiting.attempt, waiting.lease_until) == ("pending", 1, None)
    assert waiting.next_attempt_at is not None
    assert timedelta(seconds=4) <= waiting.next_attempt_at - world.now <= timedelta(seconds=7)
    assert waiting.next_wake_at == waiting.next_attempt_at
    world.deliver(delivery_id, sender=UnusedSender())  # not due yet

    world.now = waiting.next_attempt_at
    world.deliver(delivery_id)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    for received in (first, second):
        verified(secret, received)
    assert [(one.number, one.status, one.response_head) for one in world.attempts(delivery_id)] == [
        (1, 500, "not yet"),
        (2, 204, None),
    ]
    assert world.delivery(delivery_id).state == "delivered"


def test_the_sweep_finds_a_retry_when_it_is_due(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500))
    _, _, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)
    due = world.delivery(delivery_id).next_wake_at
    assert due is not None
    with world.transaction() as session:
        assert leases.take_unowned(session, WebhookDelivery, now=due - timedelta(seconds=1), limit=10) == []
        assert leases.take_unowned(session, WebhookDelivery, now=due, limit=10) == [delivery_id]


def test_retry_after_postpones_the_next_attempt(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=429, headers={"retry-after": "60"}))
    _, _, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)
    due = world.delivery(delivery_id).next_attempt_at
    assert due is not None
    assert due - world.now >= timedelta(seconds=60)


def test_the_delivery_is_exhausted_after_the_whole_schedule(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500))
    _, _, delivery_id = one_delivery(world, receiver)
    for _ in range(2):
        world.deliver(delivery_id)
        due = world.delivery(delivery_id).next_attempt_at
        assert due is not None
        world.now = due
    world.deliver(delivery_id)
    delivery = world.delivery(delivery_id)
    assert (delivery.state, delivery.next_attempt_at, delivery.next_wake_at) == ("exhausted", None, None)
    assert [attempt.number for attempt in world.attempts(delivery_id)] == [1, 2, 3]


def test_no_answer_is_logged_with_its_reason(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(drip=True))
    _, _, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)
    (attempt,) = world.attempts(delivery_id)
    assert (attempt.status, attempt.error) == (None, "deadline_exceeded")
    assert 1000 <= attempt.duration_ms < 3000


def test_an_address_that_is_no_longer_allowed_is_not_dialled(world: World, receiver: Receiver) -> None:
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    with world.transaction() as session:
        session.execute(
            text("UPDATE webhook_endpoints SET url = 'http://169.254.169.254/' WHERE id = :id"), {"id": endpoint_id}
        )
    world.deliver(delivery_id)
    assert world.attempts(delivery_id)[0].error == "address_not_allowed"


def test_gone_disables_the_endpoint_and_cancels_what_waits(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=410))
    endpoint_id, _, first = one_delivery(world, receiver)
    world.happen()
    first, second = world.waiting()
    world.deliver(first)
    endpoint = world.endpoint(endpoint_id)
    assert (endpoint.enabled, endpoint.disabled_reason) == (False, GONE_REASON)
    assert {world.delivery(one).state for one in (first, second)} == {"cancelled"}
    assert len(world.attempts(first)) == 1
    world.happen()
    assert world.waiting() == []


def test_disabling_cancels_what_waits_and_enabling_starts_anew(world: World, receiver: Receiver) -> None:
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    for enabled in (False, True):
        with world.transaction() as session:
            changes = Changes(enabled=enabled)
            webhooks.update_webhook(world.context, session, world.caller, endpoint_id, changes=changes, now=world.now)
    assert world.delivery(delivery_id).state == "cancelled"
    assert world.endpoint(endpoint_id).disabled_reason is None
    world.happen()
    world.deliver_waiting()
    assert len(receiver.received) == 1


def test_a_delivery_claimed_after_its_endpoint_was_disabled_is_cancelled_unsent(
    world: World, receiver: Receiver
) -> None:
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    with world.transaction() as session:
        session.execute(text("UPDATE webhook_endpoints SET enabled = false WHERE id = :id"), {"id": endpoint_id})
    world.deliver(delivery_id, sender=UnusedSender())
    assert world.delivery(delivery_id).state == "cancelled"
    assert world.attempts(delivery_id) == []


def delete(world: World, endpoint_id: str) -> None:
    with world.transaction() as session:
        webhooks.delete_webhook(session, world.caller, endpoint_id, now=world.now)


def test_deleting_cancels_what_waits_and_destroys_the_secret(world: World, receiver: Receiver) -> None:
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    delete(world, endpoint_id)
    assert world.delivery(delivery_id).state == "cancelled"
    with world.transaction() as session:
        assert session.get(Secret, (endpoint_id, Purpose.WEBHOOK_SECRET)) is None


@pytest.mark.parametrize(("status", "state"), [(204, "delivered"), (500, "cancelled")])
def test_a_delivery_on_its_way_while_its_endpoint_is_deleted_settles_itself(
    world: World, receiver: Receiver, status: int, state: str
) -> None:
    receiver.reply_with(Reply(status=status))
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    sender = InterruptedSender(world.sender, lambda: delete(world, endpoint_id))
    world.deliver(delivery_id, sender=sender)
    assert world.delivery(delivery_id).state == state


def test_a_stale_owners_result_changes_nothing(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=410), Reply(status=204))
    endpoint_id, _, delivery_id = one_delivery(world, receiver)

    def another_worker_takes_over() -> None:
        world.now += timedelta(hours=1)  # the lease is long over
        world.deliver(delivery_id)

    began = world.now
    with structlog.testing.capture_logs() as logs:
        world.deliver(delivery_id, sender=InterruptedSender(world.sender, another_worker_takes_over))
    assert len(receiver.received) == 2
    assert world.delivery(delivery_id).state == "delivered"
    assert world.endpoint(endpoint_id).enabled
    assert [(one.number, one.started_at) for one in world.attempts(delivery_id)] == [(1, began + timedelta(hours=1))]
    assert "webhook_result_stale" in [line["event"] for line in logs]


def test_a_delivery_on_its_way_is_not_sent_by_a_second_worker(world: World, receiver: Receiver) -> None:
    _, _, delivery_id = one_delivery(world, receiver)
    sender = InterruptedSender(world.sender, lambda: world.deliver(delivery_id, sender=UnusedSender()))
    world.deliver(delivery_id, sender=sender)
    assert len(receiver.received) == 1


def test_a_rotated_secret_signs_beside_the_old_one_until_the_overlap_ends(world: World, receiver: Receiver) -> None:
    endpoint_id, old = world.create(receiver.url)
    with world.transaction() as session:
        new = str(webhooks.rotate_secret(world.context, session, world.caller, endpoint_id, now=world.now).secret)
    world.happen()
    world.deliver_waiting()
    (received,) = receiver.received
    assert verified(new, received) == verified(old, received)
    assert len(received.headers["webhook-signature"].split(" ")) == 2

    with world.transaction() as session:
        endpoint = webhooks.get_webhook(session, world.caller.account_id, endpoint_id)
        vault = world.context.vault
        after = world.now + ROTATION_OVERLAP
        before = after - timedelta(seconds=1)
        assert webhook_secrets.signing_secrets(session, vault, endpoint, now=before) == (new, old)
        assert webhook_secrets.signing_secrets(session, vault, endpoint, now=after) == (new,)


def test_a_secret_rotated_without_overlap_stops_at_once(world: World, receiver: Receiver) -> None:
    endpoint_id, old = world.create(receiver.url)
    with world.transaction() as session:
        shown = webhooks.rotate_secret(
            world.context, session, world.caller, endpoint_id, now=world.now, overlap=timedelta(0)
        )
    world.happen()
    world.deliver_waiting()
    (received,) = receiver.received
    verified(str(shown.secret), received)
    with pytest.raises(WebhookVerificationError):
        verified(old, received)


def test_a_hurried_series_of_rotations_keeps_a_bounded_number_of_secrets(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    for _ in range(6):
        with world.transaction() as session:
            webhooks.rotate_secret(world.context, session, world.caller, endpoint_id, now=world.now)
    with world.transaction() as session:
        endpoint = webhooks.get_webhook(session, world.caller.account_id, endpoint_id)
        secrets = webhook_secrets.signing_secrets(session, world.context.vault, endpoint, now=world.now)
    assert len(secrets) == 1 + webhook_secrets.MAX_OLD


def test_a_callback_hears_of_its_job_only_signed_with_the_accounts_secret(world: World, receiver: Receiver) -> None:
    with world.transaction() as session:
        secret = accounts.callback_secret(session, world.context.vault, world.caller.account_id)
    job_id, _ = world.fleet.submit(server_upload(callback_url=receiver.url))
    world.deliver_waiting()
    world.happen(EventType.JOB_SUCCEEDED, job_id="job_other")
    assert world.waiting() == []
    (received,) = receiver.received
    document = verified(secret, received)
    assert document["type"] == "job.queued"
    assert document["data"] == {**document["data"], "job_id": job_id}  # type: ignore[dict-item]  # parsed JSON


def test_a_secret_that_does_not_open_is_a_failed_attempt_not_a_lost_delivery(world: World, receiver: Receiver) -> None:
    _, _, delivery_id = one_delivery(world, receiver)
    with world.transaction() as session:
        session.execute(text("UPDATE secrets SET ciphertext = wrapped_key WHERE purpose = 'webhook_secret'"))
    world.deliver(delivery_id, sender=UnusedSender())
    assert world.attempts(delivery_id)[0].error == "secret_unreadable"
    assert world.delivery(delivery_id).state == "pending"


def test_a_test_event_goes_to_one_endpoint_only_whatever_its_filter(world: World, receiver: Receiver) -> None:
    world.create(receiver.url, "*")
    endpoint_id, secret = world.create(receiver.url, "job.failed")
    with world.transaction() as session:
        webhook_deliveries.send_test(session, world.caller, endpoint_id, now=world.now)
    world.deliver_waiting()
    (received,) = receiver.received
    document = verified(secret, received)
    assert (document["type"], document["data"]) == ("webhook.test", {"webhook_id": endpoint_id})


def test_a_replay_has_the_same_id_and_body_and_the_whole_schedule_anew(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), Reply(status=500))
    endpoint_id, _, delivery_id = one_delivery(world, receiver)
    world.deliver(delivery_id)
    with world.transaction() as session:
        webhook_deliveries.replay_delivery(session, world.caller, endpoint_id, delivery_id=delivery_id, now=world.now)
    assert world.waiting() == [delivery_id]
    world.deliver(delivery_id)
    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    replayed = world.delivery(delivery_id)
    assert (replayed.state, replayed.attempt) == ("pending", 1)
    assert [attempt.number for attempt in world.attempts(delivery_id)] == [1, 2]


def test_secrets_are_neither_in_the_database_in_clear_nor_in_logs_or_reprs(world: World, receiver: Receiver) -> None:
    with structlog.testing.capture_logs() as logs:
        endpoint_id, secret, delivery_id = one_delivery(world, receiver)
        seen = InterruptedSender(world.sender, lambda: None)
        world.deliver(delivery_id, sender=seen)
    with world.transaction() as session:
        tables = session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = [str(row) for name in tables for row in session.execute(text(f'SELECT t::text FROM "{name}" t'))]  # noqa: S608 - a name of our own schema
    assert any(endpoint_id in row for row in rows)
    needle = secret.removeprefix("whsec_")
    as_bytea = needle.encode().hex()
    assert not any(needle in row or as_bytea in row for row in rows)
    (received,) = receiver.received
    assert any(line["event"] == "webhook_attempted" for line in logs)
    assert needle not in str(logs)
    assert received.headers["webhook-signature"] not in str(logs) + repr(
        Request(url=receiver.url, headers=received.headers, body=received.body)
    )


def test_the_body_is_compact_json_in_utf_8(world: World, receiver: Receiver) -> None:
    world.create(receiver.url)
    world.happen(EventType.CERTIFICATE_REJECTED, name="証明書")
    world.deliver_waiting()
    body = receiver.received[0].body
    assert "証明書".encode() in body
    assert b": " not in body
    assert json.loads(body)["sequence"] == 1


def test_the_log_hands_a_test_event_to_nobody_by_itself(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    with world.transaction() as session:
        fact = log.Fact(type=EventType.WEBHOOK_TEST, data={"webhook_id": endpoint_id})
        log.append(session, world.caller.account_id, [fact], now=datetime.now(UTC))
    assert world.waiting() == []
