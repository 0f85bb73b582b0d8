"""``certfleet sweep``: wake what is due, now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.usecases.sweep import sweep


@click.command("sweep")
@state_dir_option
def command(state_dir: Path | None) -> None:
    """Wake everything that is due and unowned, once. Beat does this every few seconds by itself."""
    with operating(state_dir) as context:
        woken = sweep(context, now=datetime.now(UTC))
    click.echo(f"{woken} woken.")
