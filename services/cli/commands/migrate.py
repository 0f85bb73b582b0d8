"""``certfleet migrate``: bring a database up to date."""

from __future__ import annotations

import os

import click
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from shared.errors import Misconfigured
from shared.models.database import upgrade


@click.command("migrate")
def command() -> None:
    """Bring the database at DATABASE_URL up to date. Run it before newer API and worker processes start.

    Safe to run twice at once. `certfleet up` does this by itself.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise Misconfigured(("DATABASE_URL is not set; for example postgresql://user:password@host/certfleet.",))
    try:
        upgrade(url)
    except ArgumentError as error:
        raise Misconfigured(("DATABASE_URL is not a database URL.",)) from error
    except SQLAlchemyError as error:
        raise Misconfigured((f"The database cannot be brought up to date: {_reason(error)}.",)) from error
    click.echo("The database is up to date.")


def _reason(error: SQLAlchemyError) -> str:
    """The server's first line; SQLAlchemy's own text would quote the statement."""
    return str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
