"""``certfleet reminders``: who is told about expiring certificates."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from services.cli.operating import operating, state_dir_option
from shared.domain.reminders import EXPIRED
from shared.usecases import calendar_feeds
from shared.usecases.accounts import find_account
from shared.usecases.reminder_scan import ScanResult, scan
from shared.usecases.tokens import Caller


@click.group("reminders")
def command() -> None:
    """Reminders of certificates that expire."""


@command.command("run")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@state_dir_option
def run(*, as_json: bool, state_dir: Path | None) -> None:
    """Scan once, now, and print what was newly recorded. The workers send the mails.

    Beat does this every few minutes by itself; running it more often sends nothing twice.
    """
    with operating(state_dir) as context:
        result = scan(context, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    _print(result)


@command.group("calendar")
def calendar() -> None:
    """Addresses at which calendars read when an account's certificates expire."""


_account_option = click.option("--account", required=True, help="The account's name.")


@calendar.command("create")
@_account_option
@click.option("--name", default="Calendar", show_default=True, help="Who or what reads it.")
@state_dir_option
def create(account: str, name: str, state_dir: Path | None) -> None:
    """Make a feed and print its address. It is shown this once only; who knows it can read it."""
    with operating(state_dir) as context, context.transaction() as session:
        caller = _operator(session, account)
        _, url = calendar_feeds.create_feed(context, session, caller, name=name, now=datetime.now(UTC))
    click.echo(url)


@calendar.command("list")
@_account_option
@state_dir_option
def show(account: str, state_dir: Path | None) -> None:
    """List the account's feeds, never their addresses."""
    with operating(state_dir) as context, context.transaction() as session:
        for feed in calendar_feeds.list_feeds(session, _operator(session, account).account_id):
            click.echo(f"{feed.id}  {feed.name}  made {feed.created_at:%Y-%m-%d}")


@calendar.command("rotate")
@_account_option
@click.argument("feed_id")
@state_dir_option
def rotate(account: str, feed_id: str, state_dir: Path | None) -> None:
    """Give the feed FEED_ID a new address and print it; the old one finds nothing any more."""
    with operating(state_dir) as context, context.transaction() as session:
        caller = _operator(session, account)
        url = calendar_feeds.rotate_feed(context, session, caller, feed_id, now=datetime.now(UTC))
    click.echo(url)


@calendar.command("revoke")
@_account_option
@click.argument("feed_id")
@state_dir_option
def revoke(account: str, feed_id: str, state_dir: Path | None) -> None:
    """Revoke the feed FEED_ID: its address finds nothing any more."""
    with operating(state_dir) as context, context.transaction() as session:
        calendar_feeds.revoke_feed(session, _operator(session, account), feed_id, now=datetime.now(UTC))
    click.echo(f"{feed_id} is revoked.")


def _operator(session: Session, account: str) -> Caller:
    """Who works on this machine, as the account's audit shows it."""
    return Caller(account_id=find_account(session, name=account).id, token_id="operator", scopes=frozenset())  # noqa: S106 - a name


def _print(result: ScanResult) -> None:
    if result.events:
        table = Table("left", "certificates", box=None, pad_edge=False)
        for threshold, count in sorted(result.by_threshold.items()):
            table.add_row(_words(threshold), str(count))
        Console(highlight=False).print(table)
    click.echo(
        f"{result.events} newly due, {result.reminders} notices recorded, "
        f"{result.without_recipient} certificates without anybody to tell."
    )


def _words(threshold: int) -> str:
    if threshold == EXPIRED:
        return "expired"
    return "less than a day" if threshold == 0 else f"{threshold} day{'' if threshold == 1 else 's'} or less"
