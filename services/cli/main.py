"""The ``certfleet`` command: finds the commands in ``services/cli/commands``, turns errors into sentences."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

from services.cli import commands
from shared.errors import CertfleetError, Misconfigured, Rejected

REFUSED = 2
"""Exit status for anything that the caller can put right; also what click uses for bad options."""


class Commands(click.Group):
    """A module ``commands/NAME.py`` with an attribute ``command`` is ``certfleet NAME`` (``_`` is written ``-``)."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, sorted."""
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one module that is asked for."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found = importlib.import_module(f"{commands.__name__}.{cmd_name.replace('-', '_')}").command
        if not isinstance(found, click.Command):
            raise TypeError(f"{commands.__name__}.{cmd_name} has no click command named 'command'")
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="certfleet", message="%(prog)s %(version)s")
def cli() -> None:
    """Certificates for a fleet of regional load balancers.

    Start with `certfleet demo` (a minute, shows everything) or `certfleet up` (the stack, kept running).
    """


def main() -> None:
    """Run the command line. Errors of ``shared.errors`` are sentences on standard error, exit status 2."""
    try:
        cli()
    except CertfleetError as error:
        for sentence in sentences(error):
            click.echo(f"certfleet: {sentence}", err=True)
        sys.exit(REFUSED)


def sentences(error: CertfleetError) -> tuple[str, ...]:
    """Everything that ``error`` has to say, one sentence or two each."""
    if isinstance(error, Misconfigured):
        return error.problems
    details = error.errors if isinstance(error, Rejected) else ()
    said = tuple(f"{each.field}: {each.message} {each.hint}".rstrip() for each in details)
    return (f"{error.message} {error.hint}".rstrip(), *said)


if __name__ == "__main__":
    main()
