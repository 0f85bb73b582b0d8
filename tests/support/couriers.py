"""Couriers' processes without Celery: each has its threads and its own places for trials; they share one queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from shared.models.database import Database
from shared.usecases.clock import utc_now
from shared.usecases.stopping import Stopping
from shared.usecases.webhook_delivery import Courier, work_in_lane
from shared.usecases.webhook_trials import Trials
from shared.wakeups import Task, WakeUp
from tests.support.receiver import Receiver
from tests.support.webhook_world import World


@dataclass(slots=True)
class SharedQueue:
    """Where wake-ups go, as in Redis: first in, first out, each to one thread."""

    waiting: queue.SimpleQueue[WakeUp | None] = field(default_factory=queue.SimpleQueue)
    failures: list[BaseException] = field(default_factory=list)

    def publish(self, wake_ups: Iterable[WakeUp]) -> None:
        for wake_up in dict.fromkeys(wake_ups):
            self.waiting.put(wake_up)

    def serve(self, courier: Courier) -> None:
        while (wake_up := self.waiting.get()) is not None:
            if wake_up.task is not Task.LANE:
                continue
            try:
                work_in_lane(courier, wake_up.id)
            except Exception as error:  # noqa: BLE001 - shown by the test that asks for it
                self.failures.append(error)


@contextmanager
def running_couriers(
    world: World, *, processes: int, threads: int, places: int, holes: Sequence[Receiver] = ()
) -> Iterator[SharedQueue]:
    """Deliver whatever the world's events wake, on the real clock, until the block ends; then the holes hang up."""
    shared = SharedQueue()
    world.fleet.context = replace(world.context, publisher=shared)
    stopping = Stopping()
    database = Database(world.context.settings.database_url, pool=processes * threads)
    context = replace(world.context, database=database)
    running = []
    for _ in range(processes):
        courier = Courier(
            context=context,
            sender=world.sender,
            trials=Trials(places, stopping),
            clock=utc_now,
            stopping=stopping,
        )
        running += [threading.Thread(target=shared.serve, args=(courier,)) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield shared
    finally:
        stopping.ask()
        for hole in holes:
            hole.stopping.set()
        for _ in running:
            shared.waiting.put(None)
        for thread in running:
            thread.join()
        database.close()
