"""``certfleet migrate``: bring a database up to date."""

from __future__ import annotations

import os

import click

from shared.errors import Misconfigured
from shared.models.revisions import upgrade


@click.command("migrate")
def command() -> None:
    """Bring the database at DATABASE_URL up to date. Run it before newer API and worker processes start.

    Safe to run twice at once. `certfleet up` does this by itself.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise Misconfigured(("DATABASE_URL is not set; for example postgresql://user:password@host/certfleet.",))
    upgrade(url)
    click.echo("The database is up to date.")
