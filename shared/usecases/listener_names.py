"""Host names of a region's listeners: each belongs to one listener, and nobody takes another account's clients."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import Conflict
from shared.models import Listener, ListenerHost


def claim_hosts(session: Session, listener: Listener, hosts: Sequence[str]) -> None:
    """Take the names for the listener; one that was never bound gives up its others, which nobody is served by.

    Across accounts a wildcard over somebody's name, and a name below somebody's wildcard, are taken, too: a balancer
    prefers the more exact name, so its owner would get the other's clients.

    Raises:
        Conflict: ``host_taken``. It names what was asked for, never what another account has; only own listeners.
    """
    _take_turns(session, listener.region)
    if not listener.revision:
        others = ListenerHost.host.not_in(hosts)
        session.execute(delete(ListenerHost).where(ListenerHost.listener_id == listener.id, others))
    rows = [{"region": listener.region, "host": host, "listener_id": listener.id} for host in sorted(hosts)]
    session.execute(insert(ListenerHost).values(rows).on_conflict_do_nothing())
    holders = _holders(session, listener, hosts)
    if holders:
        raise _taken(listener, hosts, holders)


def free_hosts(session: Session, listener: Listener, *, keep: Sequence[str]) -> None:
    """Give up the listener's names but these; in a transaction that takes no other name."""
    statement = delete(ListenerHost).where(ListenerHost.listener_id == listener.id, ListenerHost.host.not_in(keep))
    session.execute(statement)


def _take_turns(session: Session, region: str) -> None:
    """Names of a region are given out by one transaction at a time: overlaps are no matter of a unique key.

    Before any name is taken or given up: who waits here holds none.
    """
    key = int.from_bytes(hashlib.sha256(f"names/{region}".encode()).digest()[:8], "big", signed=True)
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _holders(session: Session, listener: Listener, hosts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Names that stand in the way: (host, listener id, account id)."""
    statement = (
        select(ListenerHost.host, Listener.id, Listener.account_id)
        .join(Listener, Listener.id == ListenerHost.listener_id)
        .where(
            ListenerHost.region == listener.region,
            ListenerHost.listener_id != listener.id,
            or_(ListenerHost.host.in_(hosts), and_(Listener.account_id != listener.account_id, _overlaps(hosts))),
        )
        .order_by(ListenerHost.host)
    )
    return [(host, listener_id, account_id) for host, listener_id, account_id in session.execute(statement).all()]


def _overlaps(hosts: Sequence[str]) -> ColumnElement[bool]:
    above = {f"*.{host.split('.', depth)[-1]}" for host in hosts for depth in range(1, host.count("."))}
    below: list[Any] = [ListenerHost.host.endswith(host[1:], autoescape=True) for host in hosts if _is_wildcard(host)]
    return or_(ListenerHost.host.in_(sorted(above)), *below)


def _taken(listener: Listener, hosts: Sequence[str], holders: list[tuple[str, str, str]]) -> Conflict:
    names = {host for host, _, _ in holders}
    asked = sorted(host for host in hosts if any(_clash(host, name) for name in names))
    own = sorted({listener_id for _, listener_id, account_id in holders if account_id == listener.account_id})
    return Conflict(
        f"Another listener of the region answers for {', '.join(asked)}.",
        code="host_taken",
        hint=f"Change or delete {', '.join(own)} first." if own else "Choose other names, or another region.",
        context={"hosts": asked, "listeners": own},
    )


def _clash(one: str, other: str) -> bool:
    return one == other or _is_below(one, other) or _is_below(other, one)


def _is_below(host: str, wildcard: str) -> bool:
    return _is_wildcard(wildcard) and host.endswith(wildcard[1:])


def _is_wildcard(host: str) -> bool:
    return host.startswith("*.")
