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

    The accounts take turns, so that one with many sick receivers delays another's first delivery by one of its own at
    most. What waits here is known to the database too: a process that dies loses nothing but the moment.
    """

    def __init__(self, places: int, stopping: Stopping | None = None) -> None:
        self._free = dict.fromkeys(TRIED_OUT, places)
        self._waiting: dict[Pace, _Turns] = {pace: _Turns() for pace in TRIED_OUT}
        self._lock = threading.Lock()
        self._stopping = stopping or Stopping()

    def run(self, lane_id: str, pace: Pace, work: Callable[[str], None], *, account_id: str) -> None:
        """Work on the lane in one of the places, and then on those that wait; without a place, let the lane wait."""
        next_lane = self._enter(lane_id, pace, account_id)
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

    def _enter(self, lane_id: str, pace: Pace, account_id: str) -> str | None:
        with self._lock:
            if self._free[pace]:
                self._free[pace] -= 1
                return lane_id
            if len(self._waiting[pace]) < MOST_WAITING:
                self._waiting[pace].add(account_id, lane_id)
            return None

    def _next(self, pace: Pace) -> str | None:
        """Whose turn it is; nobody's when the process is to end."""
        with self._lock:
            lane_id = None if self._stopping.is_asked else self._waiting[pace].take()
            if lane_id is None:
                self._free[pace] += 1
            return lane_id

    def _leave(self, pace: Pace) -> None:
        with self._lock:
            self._free[pace] += 1


class _Turns:
    """Lanes that wait: of the accounts in turn, and of each account the one that has waited longest."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[str, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, account_id: str, lane_id: str) -> None:
        """Behind those of its account; one that waits already keeps its place."""
        lanes = self._lanes.setdefault(account_id, {})
        self._count += lane_id not in lanes
        lanes[lane_id] = None

    def take(self) -> str | None:
        """The next one, whose account is behind the others then; ``None`` when none waits."""
        if not self._lanes:
            return None
        account_id = next(iter(self._lanes))
        lanes = self._lanes.pop(account_id)
        lane_id = next(iter(lanes))
        del lanes[lane_id]
        self._count -= 1
        if lanes:
            self._lanes[account_id] = lanes
        return lane_id
