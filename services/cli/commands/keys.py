"""``certfleet keys``: the key-encryption keys (KEKs) that seal every secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.crypto.vault import add_kek, create_kek_file, load_vault
from shared.errors import Conflict
from shared.usecases.context import Context
from shared.usecases.secrets import rewrap_batch


@click.group("keys")
def command() -> None:
    """Create and rotate the key-encryption keys. Back the key file up: without it no private key opens."""


@command.command("create")
@click.argument("path", type=click.Path(path_type=Path))
def create(path: Path) -> None:
    """Make the key file PATH (mode 0600) with one fresh key; an existing file is never overwritten."""
    if not create_kek_file(path, now=datetime.now(UTC)):
        raise Conflict(f"{path} exists already.", code="key_file_exists", hint="Choose another path, or keep it.")
    click.echo(f"{path}: key {load_vault(path).active}")


@command.command("rotate")
@state_dir_option
def rotate(*, state_dir: Path | None) -> None:
    """Add a fresh key, make it active, and re-wrap every secret under it. Nothing stops meanwhile.

    API and workers read the key file again when it changes. Old keys stay in the file for backups of the database.
    """
    with operating(state_dir) as context:
        add_kek(context.settings.kek_file, now=datetime.now(UTC))
        total = 0
        while batch := _rewrap(context):
            total += batch
            click.echo(f"{total} secrets re-wrapped …", err=True)
        click.echo(f"{total} secrets re-wrapped under {context.vault.active}.")


def _rewrap(context: Context) -> int:
    with context.transaction() as session:
        return rewrap_batch(session, context.vault)
