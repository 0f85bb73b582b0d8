"""Trouble: one process after the other is killed or kept away, in an order that a seed decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from services.cli.embedded import redis
from tests.support.chaos.stack import BEATS, WORKERS, ChaosStack
from tests.support.stack import wait_until

LONGEST_AWAY: Final = 1.5
"""Seconds that a program stays away after it was killed."""


class Trouble:
    """``strike`` does the next thing; what was killed is started again by the strike after it, or by ``make_good``."""

    def __init__(self, stack: ChaosStack, *, seed: int) -> None:
        self._stack = stack
        self._chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._deeds: dict[str, tuple[int, Callable[[], None]]] = {
            "a worker": (6, lambda: stack.kill(self._chance.choice(WORKERS))),
            "every worker": (2, lambda: stack.kill(*WORKERS)),
            "the courier": (4, lambda: stack.kill("courier")),
            "a beat": (2, lambda: stack.kill(self._chance.choice(BEATS))),
            "both beats": (1, lambda: stack.kill(*BEATS)),
            "the API": (2, lambda: stack.kill("api")),
            "a process of the API": (3, lambda: stack.kill_child("api")),
            "Redis": (2, lambda: stack.kill("redis")),
            "Redis, with all it had": (2, stack.forget_redis),
            "every message": (3, self._flush),
            "PostgreSQL, in order": (1, lambda: stack.restart_postgres(crash=False)),
            "PostgreSQL, crashing": (1, lambda: stack.restart_postgres(crash=True)),
        }
        self.kinds = tuple(self._deeds)
        self.done: list[str] = []

    def strike(self) -> None:
        """The next trouble, and some time with it."""
        names = list(self._deeds)
        # Each once before any comes again: a short run meets them all.
        waiting = [name for name in names if name not in self.done] or names
        chosen = self._chance.choices(waiting, [self._deeds[name][0] for name in waiting])[0]
        self._stack.revive()
        self.done.append(chosen)
        self._deeds[chosen][1]()
        time.sleep(self._chance.uniform(0, LONGEST_AWAY))

    def make_good(self) -> None:
        """Everything runs again."""
        self._stack.revive()

    def _flush(self) -> None:
        wait_until(lambda: redis.is_answering(self._stack.redis_socket), seconds=30, otherwise=self._stack.log)
        self._stack.flush_redis()
