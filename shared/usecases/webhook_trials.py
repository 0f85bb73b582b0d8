"""The threads that a worker keeps for receivers which have not shown that they answer quickly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from shared.domain.lanes import TRIED_OUT, Pace
from shared.usecases.stopping import Stopping

MOST_WAITING: Final = 10_000
"""Lanes that wait in a process's memory for a place; the sweep wakes the others again."""


class Trials:
    """As many places for each kind of receiver; lanes that find none are taken in turn, each once. Thread-safe.

    What waits here is known to the database too: a process that dies loses nothing but the moment.
    """

    def __init__(self, places: int, stopping: Stopping | None = None) -> None:
        self._free = dict.fromkeys(TRIED_OUT, places)
        self._waiting: dict[Pace, dict[str, None]] = {pace: {} for pace in TRIED_OUT}
        self._lock = threading.Lock()
        self._stopping = stopping or Stopping()

    def run(self, lane_id: str, pace: Pace, work: Callable[[str], None]) -> None:
        """Work on the lane in one of the places, and then on those that wait; without a place, let the lane wait."""
        next_lane = self._enter(lane_id, pace)
        while next_lane is not None:
            try:
                work(next_lane)
            except BaseException:
                self._leave(pace)
                raise
            next_lane = self._next(pace)

    def waiting(self) -> int:
        """How many lanes wait for a place."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def _enter(self, lane_id: str, pace: Pace) -> str | None:
        with self._lock:
            if self._free[pace]:
                self._free[pace] -= 1
                return lane_id
            if len(self._waiting[pace]) < MOST_WAITING:
                self._waiting[pace][lane_id] = None
            return None

    def _next(self, pace: Pace) -> str | None:
        """The lane that has waited longest; none of them when the process is to end."""
        with self._lock:
            waiting = self._waiting[pace]
            if waiting and not self._stopping.is_asked:
                lane_id = next(iter(waiting))
                del waiting[lane_id]
                return lane_id
            self._free[pace] += 1
            return None

    def _leave(self, pace: Pace) -> None:
        with self._lock:
            self._free[pace] += 1
