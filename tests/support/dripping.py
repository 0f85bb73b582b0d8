"""A server that says something every few milliseconds and never comes to an end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def dripping(first: bytes) -> Iterator[int]:
    """Say this to the first who comes, and then one digit after the other; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(first)
                    while True:
                        connection.sendall(b"2")
                        connection.settimeout(0.02)
                        with suppress(TimeoutError):
                            connection.recv(100)

        thread = threading.Thread(target=talk)
        thread.start()
        yield listening.getsockname()[1]
    thread.join(10)
