"""Messages of neighbouring releases: fewer arguments, more arguments, names that nobody sends any more."""

from __future__ import annotations

import json
import signal
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from shared.domain.rollout import FINAL_JOBS
from shared.wakeups import QUEUES, Task, WakeUp
from tests.support.processes import Installation, installation, seconds_until_end, slow_region
from tests.support.stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGION: Final = "cn-hangzhou"

RELEASED: Final = frozenset(
    {
        "certfleet.validate.job",
        "certfleet.deploy.region",
        "certfleet.deploy.deployment",
        "certfleet.deploy.listener",
        "certfleet.webhooks.delivery",
        "certfleet.webhooks.lane",
        "certfleet.webhooks.replay",
        "certfleet.mail.recipient",
        "certfleet.mail.notice",
        "certfleet.mail.scan",
        "certfleet.sweep.due",
        "certfleet.sweep.patrol",
        "certfleet.sweep.retention",
        "certfleet.patrol.listener",
        "certfleet.patrol.region",
        "certfleet.sources.acquisition",
        "certfleet.sources.catalogue",
        "certfleet.sources.scan",
    }
)
"""Names that releases have sent. A new task comes here; one goes a release after nobody sends it any more."""


@pytest.fixture
def fleet(database_url: str, redis_url: str, place: Path) -> Iterator[Installation]:
    regions = slow_region(place, REGION, delay_seconds=0)
    with installation(place, database_url=database_url, redis_url=redis_url, regions=regions) as found:
        yield found


def test_every_name_that_a_release_has_sent_is_still_a_task_and_no_task_is_renamed() -> None:
    assert {task.value for task in Task} == RELEASED


def test_messages_with_fewer_and_with_more_arguments_are_taken_and_do_what_they_can(
    fleet: Installation, redis_url: str
) -> None:
    job_id, _ = fleet.submit(REGION)
    broker = redis.Redis.from_url(redis_url)
    validation = take_all(broker)[Task.VALIDATE]
    fleet.context.publisher.publish(WakeUp(task, "nobody") for task in Task)
    recorded = take_all(broker)
    assert set(recorded) == set(Task)
    for message in recorded.values():
        put(broker, changed(message, [], {}))
        put(broker, changed(message, ["nobody", "later", {"more": 1}], {"newer": True}))
    put(broker, changed(validation, [job_id, "later"], {"newer": True}))
    processes = [fleet.worker("worker"), fleet.worker("courier")]
    wait_until(lambda: not any(broker.llen(queue) for queue in QUEUES), seconds=30, otherwise=fleet.log)
    wait_until(lambda: set(fleet.jobs()) <= set(FINAL_JOBS), seconds=30, otherwise=fleet.log)
    assert fleet.jobs() == ["succeeded"]
    for process in processes:
        seconds_until_end(process, signal.SIGTERM)
        assert process.returncode == 0
    assert "task_failed" not in fleet.log()
    assert "unregistered" not in fleet.log()
    assert "Traceback" not in fleet.log()
    broker.close()


def take_all(broker: Any) -> dict[str, dict[str, Any]]:
    """Every message that waits, by its task's name; taken out."""
    found = {}
    for queue in QUEUES:
        while raw := broker.rpop(queue):
            message = json.loads(raw)
            found[message["headers"]["task"]] = message
    return found


def changed(message: dict[str, Any], arguments: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    """The message with other arguments, as Celery's protocol 2 writes them: ``[args, kwargs, embed]``."""
    _, _, embed = json.loads(b64decode(message["body"]))
    return {**message, "body": b64encode(json.dumps([arguments, named, embed]).encode()).decode()}


def put(broker: Any, message: dict[str, Any]) -> None:
    broker.lpush(message["properties"]["delivery_info"]["routing_key"], json.dumps(message))
