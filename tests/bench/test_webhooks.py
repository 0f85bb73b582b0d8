"""Webhooks: deliveries next to bare POSTs, and what healthy receivers notice of sick ones."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
import structlog

from shared.domain.lanes import Lane, Pace
from shared.domain.webhooks import Answer
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.usecases import webhook_lanes, webhooks
from shared.usecases.webhook_delivery import Request, WebhookSender, work_in_lane
from shared.usecases.webhook_lanes import Standing
from shared.usecases.webhooks import Changes
from tests.bench.figures import compare
from tests.support.couriers import running_couriers
from tests.support.event_samples import sample
from tests.support.receiver import Receiver, Reply, running_receiver
from tests.support.webhook_world import World, running_world

COUNT: Final = 200
HEALTHY: Final = 4
ROUNDS: Final = 5
EVENTS: Final = 25


@dataclass(slots=True)
class TimedSender:
    """Remembers when each request began and ended."""

    inner: WebhookSender
    began: dict[tuple[str, str], float] = field(default_factory=dict)
    ended: list[float] = field(default_factory=list)

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        self.began.setdefault((request.url, request.headers["webhook-id"]), time.perf_counter())
        answer = self.inner.send(request, deadline=deadline)
        self.ended.append(time.perf_counter())
        return answer


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with running_world(database_url, tmp_path) as running:
        yield running
    structlog.reset_defaults()


@pytest.mark.parametrize("threads", [1, 4])
def test_deliveries_next_to_bare_posts_from_the_same_process(world: World, threads: int) -> None:
    change(world, webhook_timeout=timedelta(seconds=15))
    with plain_receiver() as port:
        lanes = [world.create(f"http://127.0.0.1:{port}/{number}")[0] for number in range(threads)]
        for lane_id in lanes:
            show(world, lane_id, Lane(pace=Pace.SWIFT))
        bodies: list[bytes] = []
        spans: dict[str, list[float]] = {"ours": [], "bare": []}

        def ours() -> float:
            happen(world, COUNT // threads)
            sender = TimedSender(world.sender)
            courier = world.courier(sender=sender)
            began = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda lane_id: until_idle(world, courier, lane_id), lanes))
            seconds = time.perf_counter() - began
            assert len(sender.ended) == COUNT
            if threads == 1:
                spans["ours"] += [after - before for before, after in pairwise(sender.ended)]
            return COUNT / seconds

        def bare() -> float:
            def post(_number: int) -> float:
                began = time.perf_counter()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
                connection.request("POST", "/0", body=bodies[0], headers={"content-type": "application/json"})
                assert connection.getresponse().status == 204
                connection.close()
                return time.perf_counter() - began

            began = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                spans["bare"] += pool.map(post, range(COUNT))
            return COUNT / (time.perf_counter() - began)

        bodies.append(b'{"type":"job.succeeded","data":"' + b"x" * 600 + b'"}')
        title = f"{COUNT} deliveries against {COUNT} bare POSTs, {threads} thread(s), {threads} receiver(s)"
        compare(title, "/s", ("claim, sign, POST, record", ours), ("bare POST, same process", bare))
        for name, taken in spans.items():
            if taken:
                print(f"  {name}: {spread(taken)}, from one answer to the next")


def test_healthy_receivers_beside_a_black_hole_and_one_that_refuses(world: World) -> None:
    """Against the same rounds with two healthy receivers in the sick ones' place: the same work for the courier."""
    change(world, webhook_timeout=timedelta(seconds=3))
    sender = TimedSender(world.sender)
    world.sender = sender
    with ExitStack() as stack:
        healthy = [stack.enter_context(running_receiver()) for _ in range(HEALTHY)]
        hole = stack.enter_context(running_receiver(Reply(hang=True)))
        refusing = stack.enter_context(running_receiver(Reply(status=500)))
        for each in healthy:
            world.create(each.url)
        sick = [world.create(each.url)[0] for each in (hole, refusing)]
        stand_ins = [world.create(stack.enter_context(running_receiver()).url)[0] for _ in sick]
        latencies: dict[str, list[float]] = {"alone": [], "beside": []}
        p99s: list[float] = []
        with running_couriers(world, processes=1, threads=16, places=4, holes=[hole]):
            one_round(world, sender, healthy)
            for _ in range(ROUNDS):
                switch(world, sick, enabled=False)
                switch(world, stand_ins, enabled=True)
                alone = one_round(world, sender, healthy)
                switch(world, stand_ins, enabled=False)
                switch(world, sick, enabled=True)
                for lane_id in sick:
                    show(world, lane_id, Lane(pace=Pace.BRISK))  # they were fine until now
                beside = one_round(world, sender, healthy)
                latencies["alone"] += alone
                latencies["beside"] += beside
                p99s.append(percentile(beside, 99) / percentile(alone, 99))
    print(
        f"\n{HEALTHY} healthy receivers, {EVENTS} events a round, {ROUNDS} rounds by turns, one courier of 16 threads"
    )
    print(f"  two more healthy ones:      {spread(latencies['alone'])}, from the commit to the request")
    print(f"  black hole and 500 beside:  {spread(latencies['beside'])}")
    print(f"  ratio of p99, median of the rounds: {statistics.median(p99s):.2f}")
    print(
        f"  black hole: {len(hole.received)} requests, {hole.most_at_once} at once; the other: {len(refusing.received)}"
    )
    assert hole.most_at_once <= 4


def one_round(world: World, sender: TimedSender, healthy: Sequence[Receiver]) -> list[float]:
    """Events one after the other, and how long each took to each healthy receiver."""
    committed: dict[str, float] = {}
    before = len(healthy[0].received)
    for _ in range(EVENTS):
        committed[world.happen()] = time.perf_counter()
        threading.Event().wait(0.02)  # a pace that the machine can follow: queues of our own making would hide others
    for each in healthy:
        each.wait_for(before + EVENTS)
    return [max(0.0, sender.began[each.url, event_id] - at) for event_id, at in committed.items() for each in healthy]


def until_idle(world: World, courier: object, lane_id: str) -> None:
    limits = webhook_lanes.limits_of(world.context.settings)
    standing = Standing.OPEN
    while standing in {Standing.OPEN, Standing.TRIAL}:
        work_in_lane(courier, lane_id)  # type: ignore[arg-type] # a Courier
        with world.transaction() as session:
            standing = webhook_lanes.look(session, lane_id, limits=limits, now=world.now).standing


def happen(world: World, count: int) -> None:
    facts = [Fact(type=EventType.JOB_SUCCEEDED, data=sample(EventType.JOB_SUCCEEDED)) for _ in range(count)]
    with world.transaction() as session:
        log.append(session, world.caller.account_id, facts, now=world.now)


def show(world: World, lane_id: str, lane: Lane) -> None:
    with world.transaction() as session:
        webhook_lanes.keep(webhook_lanes.hold(session, lane_id), lane)


def switch(world: World, endpoint_ids: Sequence[str], *, enabled: bool) -> None:
    for endpoint_id in endpoint_ids:
        with world.transaction() as session:
            changes = Changes(enabled=enabled)
            webhooks.update_webhook(world.context, session, world.caller, endpoint_id, changes=changes, now=world.now)


def change(world: World, **settings: object) -> None:
    world.fleet.context = replace(world.context, settings=replace(world.context.settings, **settings))  # type: ignore[arg-type] # fields of Settings


def percentile(values: Sequence[float], rank: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * rank // 100)]


def spread(seconds: Sequence[float]) -> str:
    return f"p50 {percentile(seconds, 50) * 1000:7.1f} ms, p99 {percentile(seconds, 99) * 1000:7.1f} ms"


@contextmanager
def plain_receiver() -> Iterator[int]:
    """Its port."""
    program = Path(__file__).with_name("plain_receiver.py")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
