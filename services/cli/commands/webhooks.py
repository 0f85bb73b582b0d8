"""``certfleet webhooks``: what became of deliveries, and sending many of them again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import click

if TYPE_CHECKING:
    from services.cli.client import ApiClient

POLL: Final = 0.5
"""Seconds between looks at a replay, or a test, that is under way."""

TEST_SECONDS: Final = 30.0
"""How long the attempt of a test event is waited for: two timeouts, unless the operator set another."""


@click.group("webhooks")
def command() -> None:
    """Look at webhook endpoints and their deliveries, and replay events.

    Needs a running `certfleet up`, or --url and CERTFLEET_TOKEN.
    """


def _connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--url`` and ``--state-dir``."""
    state_dir = click.option(
        "--state-dir", type=click.Path(path_type=Path), default=Path("var"), help="The stack that runs there."
    )
    url = click.option("--url", envvar="CERTFLEET_URL", help="A Certfleet elsewhere, token in CERTFLEET_TOKEN.")
    return url(state_dir(command))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_connected
def show(*, as_json: bool, url: str | None, state_dir: Path) -> None:
    """List the account's endpoints: id, whether enabled, how the receiver answers, what waits, URL."""
    for endpoint in _items(_client(url, state_dir), "/v1/webhooks"):
        _say(endpoint, f"{endpoint['id']}  {_state(endpoint)}  {endpoint['url']}", as_json=as_json)


def _state(endpoint: dict[str, Any]) -> str:
    if not endpoint["enabled"]:
        return f"disabled ({endpoint['disabled_reason']})"
    receiver, waiting = endpoint["receiver"], endpoint["lag"]["pending"]
    rest = f" until {receiver['rests_until']}" if receiver["rests_until"] else ""
    return f"enabled ({receiver['state']}{rest}, {waiting} waiting)"


@command.command("deliveries")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--state", type=click.Choice(["pending", "delivered", "exhausted", "cancelled"]), default=None)
@click.option("--type", "event_type", metavar="TYPE", default=None, help="A type of event or a pattern: deployment.*")
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every attempt.")
@_connected
def deliveries(
    webhook_id: str,
    *,
    state: str | None,
    event_type: str | None,
    count: int,
    as_json: bool,
    url: str | None,
    state_dir: Path,
) -> None:
    """List an endpoint's deliveries, newest first: when, what, state, and the last attempt."""
    path = f"/v1/webhooks/{quote(webhook_id, safe='')}/deliveries"
    found = _items(_client(url, state_dir), path, state=state, event_type=event_type)
    for delivery in islice(found, count):
        _say(delivery, _line(delivery), as_json=as_json)


@command.command("test")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with the attempt.")
@_connected
def test(webhook_id: str, *, as_json: bool, url: str | None, state_dir: Path) -> None:
    """Send a test event to an endpoint, and show what its receiver answered; exit status 1 unless that was 2xx."""
    client = _client(url, state_dir)
    path = f"/v1/webhooks/{quote(webhook_id, safe='')}"
    delivery = client.post(f"{path}/test", {})
    end = time.monotonic() + TEST_SECONDS
    while not delivery["attempts"] and delivery["state"] == "pending" and time.monotonic() < end:
        time.sleep(POLL)
        delivery = client.get(f"{path}/deliveries/{delivery['id']}")
    _say(delivery, _line(delivery), as_json=as_json)
    head = delivery["attempts"][-1]["response_head"] if delivery["attempts"] else None
    if head and not as_json:
        click.echo(head)
    if delivery["state"] != "delivered":
        raise click.exceptions.Exit(1)


@command.command("replay")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--after", type=click.IntRange(min=0), default=None, help="The events after this sequence; 0: all.")
@click.option("--since", default=None, metavar="TIME", help="Or: the events since this time (RFC 3339, or a date).")
@click.option("--until", default=None, metavar="TIME", help="Not those after this time.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this type or pattern; several times.")
@click.option("--only-failed", is_flag=True, help="Not what has been delivered already.")
@click.option("--wait/--no-wait", "is_waited_for", default=True, show_default=True, help="Until all is queued.")
@_connected
def replay(  # noqa: PLR0913 - one parameter an option
    webhook_id: str,
    *,
    after: int | None,
    since: str | None,
    until: str | None,
    types: tuple[str, ...],
    only_failed: bool,
    is_waited_for: bool,
    url: str | None,
    state_dir: Path,
) -> None:
    """Send events to an endpoint again, in order: after a sequence, or since a time. The ids stay the same."""
    chosen = {"after": after, "since": since, "until": until, "types": list(types) or None}
    body = {name: value for name, value in chosen.items() if value is not None} | {"only_failed": only_failed}
    client = _client(url, state_dir)
    path = f"/v1/webhooks/{quote(webhook_id, safe='')}"
    begun = client.post(f"{path}/replay", body)
    while is_waited_for and begun["state"] == "running":
        time.sleep(POLL)
        begun = client.get(f"{path}/replays/{begun['id']}")
        click.echo(f"{begun['position']} of {begun['until_sequence']}: {begun['queued']} queued", err=True)
    click.echo(f"{begun['id']}  {begun['state']}  {begun['queued']} queued, {begun['skipped']} left out")


def _client(url: str | None, state_dir: Path) -> ApiClient:
    from services.cli.connecting import api_client  # noqa: PLC0415 - help must not pay for cryptography

    return api_client(url, state_dir)


def _items(client: ApiClient, path: str, **filters: str | None) -> Iterator[dict[str, Any]]:
    """All pages, as they are asked for."""
    query = {name: value for name, value in filters.items() if value is not None}
    cursor = None
    while True:
        page = client.get(f"{path}?{urlencode({**query, **({'cursor': cursor} if cursor else {})})}")
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _say(document: dict[str, Any], line: str, *, as_json: bool) -> None:
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else line)


def _line(delivery: dict[str, Any]) -> str:
    tries = delivery["attempts"]
    last = f"{tries[-1]['status'] or tries[-1]['error']} in {tries[-1]['duration_ms']} ms" if tries else "not tried"
    return "  ".join(
        (delivery["id"], delivery["created_at"], delivery["event_type"], delivery["state"], f"{len(tries)}x  {last}")
    )
