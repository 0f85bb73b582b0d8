"""``certfleet accounts``: who owns certificates here, whom they tell, and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from services.cli.operating import operating, operator, state_dir_option
from shared.schemas.accounts import AccountOut
from shared.usecases import account_settings
from shared.usecases.accounts import create_account, find_account, list_accounts, set_contacts, set_renewal

USUAL = "usual"
ONLY_EXPIRED = "none"
NO_WINDOW = "none"


@click.group("accounts")
def command() -> None:
    """Create, list and change accounts. Nothing is ever visible across them."""


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


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON, as GET /v1/account does.")
@state_dir_option
def show(name: str, *, as_json: bool, state_dir: Path | None) -> None:
    """Show the settings of the account NAME: whom it tells of expiries, when, and how it renews."""
    with operating(state_dir) as context, context.transaction() as session:
        settings = account_settings.settings_document(find_account(session, name=name))
    document = AccountOut().dump(settings)
    if as_json:
        click.echo(json.dumps(document))
        return
    for label, value in _lines(document):
        click.echo(f"{label:<22}{value}")


@command.command("set")
@click.argument("name")
@click.option("--rename", default=None, help="What to call it from now on.")
@click.option("--contact", "contacts", multiple=True, help="Who is told; several times for several. Replaces the list.")
@click.option("--no-contacts", is_flag=True, help="Nobody is told of certificates without contacts of their own.")
@click.option(
    "--thresholds",
    default=None,
    help=f"Days before the end, such as 30,7,1; '{ONLY_EXPIRED}': only what has expired; '{USUAL}': 60,30,15,7,3,1,0.",
)
@click.option("--time-zone", default=None, help="IANA name, such as Europe/Berlin; the quiet window is meant in it.")
@click.option(
    "--quiet",
    default=None,
    help=f"Hours in which only urgent mail goes out, such as 22:00-07:00; '{NO_WINDOW}': at no hour.",
)
@state_dir_option
def change(
    name: str,
    *,
    rename: str | None,
    contacts: tuple[str, ...],
    no_contacts: bool,
    thresholds: str | None,
    time_zone: str | None,
    quiet: str | None,
    state_dir: Path | None,
) -> None:
    """Change settings of the account NAME; what is left out stays. How it renews: `certfleet accounts renewal`."""
    raw: dict[str, Any] = {}
    if rename is not None:
        raw["name"] = rename
    if contacts or no_contacts:
        raw["contacts"] = list(contacts)
    if thresholds is not None:
        raw["reminder_thresholds"] = _thresholds(thresholds)
    if time_zone is not None:
        raw["time_zone"] = time_zone
    if quiet is not None:
        raw["quiet_window"] = _window(quiet)
    changes = account_settings.checked_changes(raw)
    with operating(state_dir) as context, context.transaction() as session:
        caller = operator(session, name)
        account_settings.change_settings(context, session, caller, changes, now=datetime.now(UTC))


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
def index(state_dir: Path | None) -> None:
    """List accounts: id, name, contacts."""
    with operating(state_dir) as context, context.transaction() as session:
        for account in list_accounts(session):
            click.echo(f"{account.id}  {account.name}  {', '.join(account.contacts)}".rstrip())


def _thresholds(words: str) -> Any:
    """As the settings take them; what is no number is left for them to refuse."""
    if words == USUAL:
        return None
    parts = [] if words == ONLY_EXPIRED else [part.strip() for part in words.split(",")]
    return [int(part) if part.isascii() and part.isdigit() else part for part in parts]


def _window(words: str) -> Any:
    if words == NO_WINDOW:
        return None
    begins, _, ends = words.partition("-")
    return {"from": begins.strip(), "until": ends.strip()}


def _lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    window = document["quiet_window"]
    days = ", ".join(map(str, document["effective_reminder_thresholds"]))
    unset = " (the usual ones)" if document["reminder_thresholds"] is None else ""
    before = document["renew_before_days"]
    lead = "a third of their life" if before is None else f"{before} days"
    return [
        ("id", document["id"]),
        ("name", document["name"]),
        ("contacts", ", ".join(document["contacts"]) or "nobody"),
        ("days before the end", f"{days or 'none'}{unset}; and once it has expired"),
        ("time zone", document["time_zone"]),
        ("quiet window", f"{window['from']} to {window['until']}; urgent mail goes out" if window else "none"),
        ("renews by itself", f"{lead} before the end" if document["auto_renew"] else "no"),
    ]
