"""How to hear of events: pushed where Certfleet can reach us, else pulled."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from services.cli.client import ApiClient
from services.cli.listening.forwarding import Forwarder
from services.cli.listening.heard import Heard, Notice
from services.cli.listening.pulling import newest, pulled
from services.cli.listening.pushing import CannotBeReached, Place, temporary_endpoint
from shared.crypto.webhook_signature import new_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. ``after``: pull, from there on; ``None``: from now on."""

    types: str = "*"
    after: int | None = None
    is_pull: bool = False
    forward: str | None = None
    place: Place = field(default_factory=Place)


def listened(client: ApiClient, wish: Wish, notice: Notice) -> Generator[Heard, None, None]:
    """Events as they come, without an end; close it, and nothing of it is left at Certfleet.

    Raises:
        ApiRefused: the token or the types are refused.
        Misconfigured: the port is taken.
    """
    begin = newest(client) if wish.after is None else wish.after
    if not wish.is_pull and wish.after is None:
        try:
            yield from _pushed(client, wish, notice)
        except CannotBeReached as error:
            notice(f"{error.message} Following GET /v1/events instead.")
    yield from _pulled(client, wish, notice, after=begin)


def _pushed(client: ApiClient, wish: Wish, notice: Notice) -> Iterator[Heard]:
    forwarder = Forwarder(url=wish.forward) if wish.forward else None
    with temporary_endpoint(client, wish.place, types=wish.types, notice=notice, forwarder=forwarder) as endpoint:
        notice(
            f"Listening: webhooks to {endpoint.url}, endpoint {endpoint.id}. Ctrl-C ends it and removes the endpoint."
        )
        if forwarder is not None:
            notice(_passing_on(forwarder.url, endpoint.secret))
        yield from endpoint.heard()


def _pulled(client: ApiClient, wish: Wish, notice: Notice, *, after: int) -> Iterator[Heard]:
    notice(f"Following events after number {after}. Ctrl-C ends it.")
    events = pulled(client, after=after, types=wish.types, notice=notice)
    if wish.forward is None:
        yield from events
        return
    forwarder, secret = Forwarder(url=wish.forward), new_secret()
    notice(_passing_on(forwarder.url, secret))
    yield from (forwarder.sign_and_send(heard, secret=secret) for heard in events)


def _passing_on(url: str, secret: str) -> str:
    return f"Passing on to {url}; it verifies with CERTFLEET_WEBHOOK_SECRET={secret}"
