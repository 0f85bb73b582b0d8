"""``certfleet tokens``: what programs sign in with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.domain.scopes import ALL_SCOPES, Scope
from shared.errors import NotFound
from shared.usecases.accounts import find_account
from shared.usecases.tokens import create_token, list_tokens, revoke_token

_account_option = click.option("--account", required=True, help="The account's name.")


@click.group("tokens")
def command() -> None:
    """Create, list and revoke API tokens."""


@command.command("create")
@_account_option
@click.option("--name", default="command line", show_default=True, help="What it is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in ALL_SCOPES]),
    help="May be given several times. Default: read, write, download and admin.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="Expires after so many days. Default: never.")
@state_dir_option
def create(account: str, name: str, scopes: tuple[str, ...], days: int | None, state_dir: Path | None) -> None:
    """Create a token and print it. It is shown this once only."""
    now = datetime.now(UTC)
    with operating(state_dir) as context, context.transaction() as session:
        _, clear = create_token(
            session,
            account_id=find_account(session, name=account).id,
            name=name,
            scopes=[Scope(scope) for scope in scopes] or ALL_SCOPES,
            now=now,
            expires_at=now + timedelta(days=days) if days else None,
        )
    click.echo(clear)


@command.command("list")
@_account_option
@state_dir_option
def show(account: str, state_dir: Path | None) -> None:
    """List tokens: id, recognisable start, name, scopes, last use. Never the token."""
    with operating(state_dir) as context, context.transaction() as session:
        for token in list_tokens(session, find_account(session, name=account).id):
            used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
            state = "revoked" if token.revoked_at else used
            click.echo(f"{token.id}  {token.prefix}…  {token.name}  {','.join(token.scopes)}  {state}")


@command.command("revoke")
@_account_option
@click.argument("token_id")
@state_dir_option
def revoke(account: str, token_id: str, state_dir: Path | None) -> None:
    """Stop the token TOKEN_ID from working, at once."""
    with operating(state_dir) as context, context.transaction() as session:
        if not revoke_token(session, find_account(session, name=account).id, token_id, now=datetime.now(UTC)):
            raise NotFound(f"The account has no live token {token_id!r}.", hint="See: certfleet tokens list.")
    click.echo(f"{token_id} no longer works.")
