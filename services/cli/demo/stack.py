"""The demo's own stack: ``certfleet up`` in a directory of its own, ended when the demo ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.cli.embedded.connection import Connection, read_connection
from shared.errors import CertfleetError

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 65.0
REMINDER_SCAN_SECONDS: Final = "2"
"""The demo does not wait ten minutes for a reminder."""


class StackFailed(CertfleetError):
    """The demo's stack did not start."""

    code = "stack_failed"


@contextmanager
def running_stack(state_dir: Path) -> Iterator[Connection]:
    """Start the stack, wait until it is ready, stop it in order at the end.

    Raises:
        StackFailed: with the last lines that ``certfleet up`` said.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = state_dir / "up.log"
    with said.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command with our own arguments
            [sys.executable, "-m", "services.cli.main", "up", "--state-dir", str(state_dir), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**_own_environment(), "CERTFLEET_REMINDERS_SECONDS": REMINDER_SCAN_SECONDS},
        )
    try:
        yield _wait(process, state_dir, said)
    finally:
        _stop(process)


def _own_environment() -> dict[str, str]:
    """Without pointers to other servers: the demo never touches anybody's real data."""
    foreign = ("DATABASE_URL", "REDIS_URL", "SMTP_URL")
    return {
        name: value for name, value in os.environ.items() if name not in foreign and not name.startswith("CERTFLEET_")
    }


def _wait(process: subprocess.Popen[bytes], state_dir: Path, said: Path) -> Connection:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = read_connection(state_dir)
        if connection is not None:
            return connection
        time.sleep(0.05)
    lines = said.read_text(errors="replace").strip().splitlines()[-5:]
    raise StackFailed("The stack did not start: " + " | ".join(lines), hint=f"Everything it said is in {said}.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
