"""``certfleet accounts``: who owns certificates here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.usecases.accounts import create_account, find_account, list_accounts, set_contacts, set_renewal


@click.group("accounts")
def command() -> None:
    """Create and list accounts. Nothing is ever visible across them."""


@command.command("create")
@click.argument("name")
@click.option("--contact", "contacts", multiple=True, help="Who gets expiry reminders; may be given several times.")
@state_dir_option
def create(name: str, contacts: tuple[str, ...], state_dir: Path | None) -> None:
    """Create the account NAME and print its id."""
    with operating(state_dir) as context, context.transaction() as session:
        account = create_account(session, context.vault, name=name, now=datetime.now(UTC))
        set_contacts(account, contacts)
    click.echo(account.id)


@command.command("renewal")
@click.argument("name")
@click.option(
    "--auto/--no-auto", "auto_renew", required=True, help="Renew managed certificates without being asked to."
)
@click.option("--before", "before_days", type=click.IntRange(1, 3650), default=None, help="Days before their end.")
@state_dir_option
def renewal(name: str, *, auto_renew: bool, before_days: int | None, state_dir: Path | None) -> None:
    """Say whether the account NAME renews by itself. Without --before: a third of each certificate's life before."""
    with operating(state_dir) as context, context.transaction() as session:
        set_renewal(find_account(session, name=name), auto_renew=auto_renew, before_days=before_days)


@command.command("list")
@state_dir_option
def show(state_dir: Path | None) -> None:
    """List accounts: id, name, contacts."""
    with operating(state_dir) as context, context.transaction() as session:
        for account in list_accounts(session):
            click.echo(f"{account.id}  {account.name}  {', '.join(account.contacts)}".rstrip())
