"""``certfleet accounts``: who owns certificates here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.usecases.accounts import create_account, list_accounts, set_contacts


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


@command.command("list")
@state_dir_option
def show(state_dir: Path | None) -> None:
    """List accounts: id, name, contacts."""
    with operating(state_dir) as context, context.transaction() as session:
        for account in list_accounts(session):
            click.echo(f"{account.id}  {account.name}  {', '.join(account.contacts)}".rstrip())
