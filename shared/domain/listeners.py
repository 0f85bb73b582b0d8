"""What an HTTPS listener is to us: how clients are authenticated, its states, which names cover which hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_HOST: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_HOST: Final = 253
"""RFC 1035 §2.3.4: 255 octets on the wire are 253 characters."""

MOST_HOSTS: Final = 100
"""Host names of one listener; as many as names in a certificate of the large public CAs."""


class Authentication(StrEnum):
    """``one_way``: the server shows a certificate. ``mutual``: clients must show one, too, of the listener's CA."""

    ONE_WAY = "one_way"
    MUTUAL = "mutual"


class ListenerState(StrEnum):
    """``pending → binding → bound | failed``, later ``unbinding → deleted``.

    A bound listener that is being changed passes through ``pending`` and ``binding`` again and goes on being served as
    it was; a change that fails leaves it ``bound``, with the error. ``failed`` is one that was never bound.
    """

    PENDING = "pending"
    BINDING = "binding"
    BOUND = "bound"
    FAILED = "failed"
    UNBINDING = "unbinding"
    DELETED = "deleted"


FINAL_LISTENERS: Final = frozenset({ListenerState.BOUND, ListenerState.FAILED, ListenerState.DELETED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerShape:
    """What a listener shows to clients: hosts (sorted), how they are authenticated, and with which certificates."""

    hosts: tuple[str, ...]
    authentication: Authentication
    server_certificate_id: str
    ca_certificate_id: str | None = None


def is_host(text: str) -> bool:
    """A DNS name in lower case, at least two labels, A-labels for other scripts; ``*.`` may stand at its front.

    RFC 6066 §3: server_name is a DNS name in ASCII; addresses are not allowed there, so they are no host names here.
    """
    return len(text) <= _LONGEST_HOST and _HOST.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()


def uncovered_hosts(hosts: Iterable[str], names: Iterable[str]) -> list[str]:
    """The hosts that a certificate of these ``names`` is not valid for, in order.

    RFC 6125 §6.4.3 (RFC 9525 §6.3): a wildcard stands for exactly one label, the left-most; a wildcard host is covered
    by the same wildcard only. Names are compared as clients do, octet by octet but for the case of ASCII letters: one
    with a dot at its end (RFC 5280 §4.2.1.6 knows none), or one that only Unicode takes for the same, covers nothing.
    """
    known = {name.lower() for name in names if name.isascii()}
    return [host for host in hosts if host not in known and _wildcard_for(host) not in known]


def _wildcard_for(host: str) -> str | None:
    first, _, rest = host.partition(".")
    return None if first == "*" or "." not in rest else f"*.{rest}"
