"""One thread that does things when their time is up: a thread for each deadline costs more than what it guards."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class Watch:
    """What is to be done at ``end`` of the monotonic clock, unless it is called off before."""

    end: float
    number: int
    bark: Callable[[], None] | None = field(compare=False)

    def call_off(self) -> None:
        """It may be under way at this very moment; whoever must know that has a lock of its own."""
        self.bark = None


class Watchdog:
    """Thread-safe. Its thread begins with the first watch and never ends; it is a daemon.

    What is done must be short and raise nothing: others wait for it.
    """

    def __init__(self) -> None:
        self._watches: list[Watch] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, seconds: float, bark: Callable[[], None]) -> Watch:
        """Do it after so many seconds."""
        watch = Watch(end=time.monotonic() + seconds, number=next(self._numbers), bark=bark)
        with self._changed:
            heapq.heappush(self._watches, watch)
            if self._watches[0] is watch:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")
                self._thread.start()
        return watch

    def _run(self) -> None:
        while True:
            bark = self._next().bark
            if bark is not None:
                bark()

    def _next(self) -> Watch:
        """Waits until the first one's time is up."""
        with self._changed:
            while True:
                left = self._watches[0].end - time.monotonic() if self._watches else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._watches)
                self._changed.wait(left)
