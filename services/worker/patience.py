"""The whole time of a conversation over a socket: a socket's own timeout begins anew with every byte that comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

_INSIST: Final = timedelta(seconds=1)


@contextmanager
def ended_after(patience: timedelta, connected: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """Hang up when the block takes longer: whoever writes there gets an ``OSError`` at once, who reads an end.

    ``connected``: the socket, as soon as there is one. Yields whether it was hung up: for readers that would take an
    end for a good one.
    """
    is_over = threading.Event()
    has_hung_up = threading.Event()

    def watch() -> None:
        pause = patience
        while not is_over.wait(pause.total_seconds()):
            has_hung_up.set()
            _hang_up(connected())
            pause = _INSIST  # it may have been connecting, to one address after another

    threading.Thread(target=watch, name="patience", daemon=True).start()
    try:
        yield has_hung_up
    finally:
        is_over.set()


def _hang_up(connection: socket.socket | None) -> None:
    """By the plain socket's verb: TLS's own takes the session away from whoever is reading from it."""
    if connection is not None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
