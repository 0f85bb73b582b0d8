"""``certfleet up``: the whole stack on this machine, in the foreground."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import click
from rich.console import Console


@click.command("up")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Where everything lives: database, keys, logs, mails, sockets. Made at the first start.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="The API's port; 0 for any free one.",
)
def command(state_dir: Path, port: int) -> None:
    """Run the whole stack here until Ctrl-C: PostgreSQL, Redis, three Envoys, a mail sink, the API, the workers.

    Needs no server, no root and no Docker. When ready it writes STATE_DIR/connection.json (url, token, mailbox, …).
    DATABASE_URL, REDIS_URL and SMTP_URL, where set, point at servers of yours instead; CERTFLEET_REGIONS at a regions
    file of yours, for load balancers of yours. A second start finds the data again.
    """
    from services.cli.embedded.stack import run  # noqa: PLC0415 - help must not pay for SQLAlchemy and Celery

    run(state_dir, port=port, environ=os.environ, say=_reporter(), stop=_stop_on_signals())


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    return stop


class _Reporter:
    """Prints each step with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def __call__(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  ", end="")
        self._console.print(text, markup=False)


def _reporter() -> _Reporter:
    return _Reporter()
