"""TCP ports for the load balancers of this machine: free ones, apart from those of other stacks."""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from shared.errors import Misconfigured

FIRST: Final = 20_000
_LAST: Final = 32_767
"""Below Linux's default range for outgoing connections (ip(7), ip_local_port_range: 32768 to 60999), whose programs
would take our ports while we are down; above most well-known ones."""

_FEWEST: Final = 1_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Ports:
    """The ports of one stack, taken until the ``with`` block ends.

    A balancer without listeners holds no port yet, and two Envoys of one user may listen on the same one
    (``SO_REUSEPORT``), so the kernel alone keeps no two stacks apart. On Linux each port is therefore also a name in
    the abstract namespace of unix sockets (unix(7)): one holder a network namespace, gone with its process.
    """

    def __init__(self, *, api: int) -> None:
        self._api = api
        self._owners: dict[int, tuple[str, str]] = {}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._held.close()

    def take(self, host: str, port: int, *, owner: str) -> None:
        """Take one port for ``owner``; a second time is no matter.

        Raises:
            OSError: somebody else uses it, or nobody can listen on ``host`` here.
        """
        if self._owners.get(port) == (host, owner):
            return
        if port == self._api or port in self._owners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        with ExitStack() as held:
            if sys.platform == "linux":
                name = held.enter_context(socket.socket(socket.AF_UNIX))
                name.bind(f"\0certfleet-port-{port}")
            _listen_once(host, port)
            self._held.enter_context(held.pop_all())
        self._owners[port] = (host, owner)

    def choose(self, host: str, *, seed: str, owner: str) -> int:
        """Take a free port for ``owner``: for the same ``seed`` the same one, if it is free.

        Raises:
            Misconfigured: not one is free.
        """
        first, last = _range()
        start = random.Random(seed).randint(first, last)  # noqa: S311 - spreads stacks, protects nothing
        for port in itertools.chain(range(start, last + 1), range(first, start)):
            try:
                self.take(host, port, owner=owner)
            except OSError:
                continue
            return port
        raise Misconfigured((f"No port from {first} to {last} on {host} is free for a load balancer.",))


def _listen_once(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)


def _range() -> tuple[int, int]:
    """Where to look, first and last; outside this machine's own ephemeral range where that leaves enough."""
    try:
        low, high = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return FIRST, _LAST
    if low > FIRST + _FEWEST:
        return FIRST, min(_LAST, low - 1)
    if high < _LAST - _FEWEST:
        return max(FIRST, high + 1), _LAST
    return FIRST, _LAST
