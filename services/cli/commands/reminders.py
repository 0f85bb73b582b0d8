"""``certfleet reminders``: who is told about expiring certificates."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from services.cli.operating import operating, operator, state_dir_option
from services.cli.reminder_preview import preview_lines
from shared.domain.reminders import EXPIRED
from shared.schemas.reminders import PreviewOut
from shared.usecases import calendar_feeds, reminder_preview
from shared.usecases.accounts import find_account, list_accounts
from shared.usecases.reminder_scan import ScanResult, scan


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


@command.command("preview")
@click.option(
    "--date",
    "date",
    default=None,
    help="A time or a date (its first moment, UTC) as in RFC 3339, past or future. Default: now.",
)
@click.option("--account", default=None, help="The account's name. Default: every account.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list of what GET /v1/reminders/preview answers.")
@state_dir_option
def preview(*, date: str | None, account: str | None, as_json: bool, state_dir: Path | None) -> None:
    """Show what would be sent at a moment, to whom and why, and why not. Nothing is sent or written.

    As if reminders were looked for at that moment, with today's certificates, settings and answers; of what was sent
    only what was until then.
    """
    at = reminder_preview.checked_moment(date) if date else datetime.now(UTC)
    with operating(state_dir) as context, context.transaction() as session:
        accounts = [find_account(session, name=account)] if account else list_accounts(session)
        found = [(each.name, reminder_preview.whole_preview(session, each.id, at=at)) for each in accounts]
    if as_json:
        documents = [
            {"account": name, **PreviewOut().dump(reminder_preview.preview_document(one))} for name, one in found
        ]
        click.echo(json.dumps(documents))
        return
    for name, one in found:
        for line in preview_lines(name, one):
            click.echo(line)


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
        caller = operator(session, account)
        _, url = calendar_feeds.create_feed(context, session, caller, name=name, now=datetime.now(UTC))
    click.echo(url)


@calendar.command("list")
@_account_option
@state_dir_option
def show(account: str, state_dir: Path | None) -> None:
    """List the account's feeds, never their addresses."""
    with operating(state_dir) as context, context.transaction() as session:
        for feed in calendar_feeds.list_feeds(session, operator(session, account).account_id):
            click.echo(f"{feed.id}  {feed.name}  made {feed.created_at:%Y-%m-%d}")


@calendar.command("rotate")
@_account_option
@click.argument("feed_id")
@state_dir_option
def rotate(account: str, feed_id: str, state_dir: Path | None) -> None:
    """Give the feed FEED_ID a new address and print it; the old one finds nothing any more."""
    with operating(state_dir) as context, context.transaction() as session:
        caller = operator(session, account)
        url = calendar_feeds.rotate_feed(context, session, caller, feed_id, now=datetime.now(UTC))
    click.echo(url)


@calendar.command("revoke")
@_account_option
@click.argument("feed_id")
@state_dir_option
def revoke(account: str, feed_id: str, state_dir: Path | None) -> None:
    """Revoke the feed FEED_ID: its address finds nothing any more."""
    with operating(state_dir) as context, context.transaction() as session:
        calendar_feeds.revoke_feed(session, operator(session, account), feed_id, now=datetime.now(UTC))
    click.echo(f"{feed_id} is revoked.")


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
