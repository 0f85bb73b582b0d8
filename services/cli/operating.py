"""Where operators' commands work: the environment's servers, or the stack that runs in a state directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from services.cli.embedded.connection import read_connection
from shared.config.settings import load_settings
from shared.errors import Misconfigured
from shared.usecases.accounts import find_account
from shared.usecases.context import Context, build_context
from shared.usecases.tokens import Caller

DEFAULT_STATE_DIR = Path("var")


def state_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--state-dir``, with one help text for all commands."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        default=None,
        help="Work on the stack that runs there. Default: DATABASE_URL and REDIS_URL if set, else ./var.",
    )(command)


@contextmanager
def operating(state_dir: Path | None) -> Iterator[Context]:
    """The context of an operators' command; connections are given back at the end.

    Raises:
        Misconfigured: nothing runs there, or the environment is incomplete.
    """
    context = build_context(load_settings(_environment(state_dir)))
    try:
        yield context
    finally:
        context.database.close()


def operator(session: Session, account: str) -> Caller:
    """Who works on this machine, as the audit of the account of that name shows it.

    Raises:
        NotFound: there is no such account.
    """
    return Caller(account_id=find_account(session, name=account).id, token_id="operator", scopes=frozenset())  # noqa: S106 - a name


def _environment(state_dir: Path | None) -> dict[str, str]:
    if state_dir is None and os.environ.get("DATABASE_URL"):
        return dict(os.environ)
    connection = read_connection(state_dir or DEFAULT_STATE_DIR)
    if connection is None:
        place = state_dir or DEFAULT_STATE_DIR
        remedy = "start it with: certfleet up, name another with --state-dir, or set DATABASE_URL and REDIS_URL"
        raise Misconfigured((f"Nothing runs in {place}; {remedy}.",))
    return {**os.environ, **connection.environment()}
