"""One thread for all deadlines: each in its time, none that was called off, and the first one first."""

from __future__ import annotations

import threading
import time

from services.worker.watchdog import Watchdog

SECONDS = 10.0


def test_what_is_due_first_is_done_first_whoever_came_first() -> None:
    dog, last = Watchdog(), threading.Event()
    done: list[str] = []
    dog.watch(0.2, last.set)
    dog.watch(0.1, lambda: done.append("late"))
    dog.watch(0.01, lambda: done.append("early"))
    assert last.wait(SECONDS)
    assert done == ["early", "late"]


def test_what_was_called_off_is_not_done() -> None:
    dog, last = Watchdog(), threading.Event()
    done: list[str] = []
    called_off = [dog.watch(0.01, lambda: done.append("called off")) for _ in range(100)]
    for watch in called_off:
        watch.call_off()
    dog.watch(0.02, last.set)
    assert last.wait(SECONDS)
    assert done == []


def test_nothing_is_done_before_its_time() -> None:
    dog, done = Watchdog(), threading.Event()
    began = time.monotonic()
    dog.watch(0.05, done.set)
    assert done.wait(SECONDS)
    assert time.monotonic() - began >= 0.05


def test_many_threads_share_one_thread() -> None:
    dog, done = Watchdog(), threading.Semaphore(0)
    before = threading.active_count()
    for _ in range(200):
        dog.watch(0.01, done.release)
    assert threading.active_count() <= before + 1
    assert all(done.acquire(timeout=SECONDS) for _ in range(200))
