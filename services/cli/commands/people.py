"""``certfleet people``: who may sign in to the console."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.usecases.accounts import find_account
from shared.usecases.people import (
    add_person,
    create_link,
    find_person,
    link_address,
    list_people,
    remove_person,
    set_password,
)

_account_option = click.option("--account", required=True, help="The account's name.")
_minutes_option = click.option(
    "--minutes", type=click.IntRange(1, 10_080), default=30, show_default=True, help="How long the link works."
)


@click.group("people")
def command() -> None:
    """Who may sign in to an account's console: add, list, remove, password, sign-in link."""


@command.command("add")
@_account_option
@click.argument("email")
@_minutes_option
@state_dir_option
def add(account: str, email: str, minutes: int, state_dir: Path | None) -> None:
    """Add the person of the address EMAIL and print a sign-in link that works once."""
    now = datetime.now(UTC)
    with operating(state_dir) as context, context.transaction() as session:
        person = add_person(session, account_id=find_account(session, name=account).id, email=email, now=now)
        token = create_link(session, person, now=now, life=timedelta(minutes=minutes))
    click.echo(link_address(context.settings.public_url, token))


@command.command("link")
@_account_option
@click.argument("email")
@_minutes_option
@state_dir_option
def link(account: str, email: str, minutes: int, state_dir: Path | None) -> None:
    """Print a new sign-in link for EMAIL. It works once and changes nothing about other links."""
    now = datetime.now(UTC)
    with operating(state_dir) as context, context.transaction() as session:
        person = find_person(session, find_account(session, name=account).id, email=email)
        token = create_link(session, person, now=now, life=timedelta(minutes=minutes))
    click.echo(link_address(context.settings.public_url, token))


@command.command("password")
@_account_option
@click.argument("email")
@state_dir_option
def password(account: str, email: str, state_dir: Path | None) -> None:
    """Set EMAIL's password: asked for, or read from standard input; never an argument, which others could see."""
    if sys.stdin.isatty():
        chosen = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        chosen = sys.stdin.readline().rstrip("\n")
    with operating(state_dir) as context, context.transaction() as session:
        set_password(find_person(session, find_account(session, name=account).id, email=email), chosen)


@command.command("list")
@_account_option
@state_dir_option
def show(account: str, state_dir: Path | None) -> None:
    """List people: address, whether they have a password, last sign-in."""
    with operating(state_dir) as context, context.transaction() as session:
        for person in list_people(session, find_account(session, name=account).id):
            signed_in = f"{person.signed_in_at:%Y-%m-%d %H:%M}" if person.signed_in_at else "never signed in"
            click.echo(f"{person.email}  {'password' if person.password_hash else 'link only'}  {signed_in}")


@command.command("remove")
@_account_option
@click.argument("email")
@state_dir_option
def remove(account: str, email: str, state_dir: Path | None) -> None:
    """Remove EMAIL: signed out everywhere at once, links and password gone."""
    with operating(state_dir) as context, context.transaction() as session:
        remove_person(session, find_person(session, find_account(session, name=account).id, email=email))
    click.echo(f"{email} cannot sign in any more.")
