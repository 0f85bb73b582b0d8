"""Revisions of the schema (Alembic): up to the newest one, and which that is.

Apart from the database, because Alembic takes 11 MiB of a process: workers and beat never migrate.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import Misconfigured

_BESIDE_THE_SOURCE: Final = Path(__file__).resolve().parents[2] / "deploy" / "migrations"
_INSIDE_THE_WHEEL: Final = Path(__file__).resolve().parent / "migrations"


def upgrade(url: str) -> None:
    """Run the migrations up to the newest, if any are missing. Safe to run twice at once.

    Raises:
        Misconfigured: it is no database URL, or the database refuses; the URL is not repeated.
    """
    try:
        command.upgrade(_config(url), "head")
    except SQLAlchemyError as error:
        raise Misconfigured((f"The database cannot be brought up to date: {_reason(error)}.",)) from error


@lru_cache(maxsize=1)
def newest() -> frozenset[str]:
    """What stands in ``alembic_version`` of a database that is up to date."""
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def _config(url: str | None = None) -> Config:
    """Without an ini file; the URL travels as an attribute, never through a log."""
    config = Config()
    scripts = _BESIDE_THE_SOURCE if _BESIDE_THE_SOURCE.is_dir() else _INSIDE_THE_WHEEL
    config.set_main_option("script_location", str(scripts))
    config.attributes["url"] = url
    return config


def _reason(error: SQLAlchemyError) -> str:
    """The server's first line; SQLAlchemy's own text would quote the statement."""
    return str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
