"""The port through which served truth is looked up: knock as a client does, outside any driver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

from shared.domain.served import Client, Handshake

PATIENCE: Final = timedelta(seconds=5)
"""The longest one handshake and its request may take, whatever the server sends (wall clock)."""


_LONGEST_NAME: Final = 253


class Prober(Protocol):
    """Implemented by ``services/worker/probe.py``."""

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        """Connect to ``address`` ("host:port"), shake hands, send one request for ``host``, read the answer's head.

        Takes :data:`PATIENCE` at most. Never raises for anything that the server, or the way to it, does: that is in
        the :class:`Handshake`. Verifies nothing: what is shown is compared by fingerprint. No session is resumed.
        ``sni`` False: the name stands only in the request.
        """
        ...


def knock(prober: Prober, address: str, hosts: Sequence[str], *, is_mutual: bool) -> list[Handshake]:
    """All handshakes that :func:`shared.domain.served.judge` wants of one listener.

    Each host as an anonymous client; the first also without SNI; for mutual authentication each host also with a
    certificate that nobody trusts. A wildcard is tried with a label that nobody uses.
    """
    clients = [Client.ANONYMOUS, Client.FOREIGN] if is_mutual else [Client.ANONYMOUS]
    names = [host.replace("*", _label_below(host), 1) for host in hosts]
    made = [prober.handshake(address, host=name, client=client) for name in names for client in clients]
    return [*made, prober.handshake(address, host=names[0], client=Client.ANONYMOUS, sni=False)]


def _label_below(wildcard: str) -> str:
    """As much of the label as a name may be long (RFC 1035 §2.3.4)."""
    return "certfleet-probe"[: _LONGEST_NAME + 1 - len(wildcard)].rstrip("-")
