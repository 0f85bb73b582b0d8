"""Workers that a test can kill with signal 9: real processes, forked from one that has imported everything.

The forking process answers each line of its input: ``start SECONDS`` with the process id of a new worker whose clock is
so many seconds ahead, ``kill`` when the worker is gone. It has one worker at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path


@contextmanager
def killable_workers(program: str, orders: str) -> Iterator[Workers]:
    """Start workers of ``python -m program orders`` with ``start``; all are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", program, orders],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    try:
        yield Workers(process)
    finally:
        process.communicate("end 0\n", timeout=30)


class Workers:
    """One worker at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, *, ahead: timedelta = timedelta(0)) -> int:
        """A new worker whose clock is ahead; its process id."""
        return int(self._ask(f"start {ahead.total_seconds()}"))

    def kill(self) -> None:
        """Kill -9 for the worker that runs, and wait until it is gone."""
        self._ask("kill 0")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def fork_on_demand(work: Callable[[timedelta], None]) -> None:
    """Answer the lines of standard input until it ends; ``work`` is what a worker does until it is killed."""
    child, answers = 0, os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a worker logs is no answer
    for line in sys.stdin:
        verb, seconds = line.split()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            child = 0
        if verb == "start":
            child = _forked(work, timedelta(seconds=float(seconds)))
        print(child, file=answers, flush=True)


def _forked(work: Callable[[timedelta], None], ahead: timedelta) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work(ahead)
    finally:
        os._exit(1)
