"""``certfleet sources``: the certificate services that certificates can be picked from."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from services.cli.operating import operating, state_dir_option
from shared.config.sources import CertificateService
from shared.errors import NotFound, Unprocessable
from shared.usecases.context import Context
from shared.usecases.source import Issues
from shared.usecases.source_registry import build_source


@click.group("sources")
def command() -> None:
    """Look at certificate services, and order certificates from one that issues them."""


@command.command("list")
@state_dir_option
def show(state_dir: Path | None) -> None:
    """List the declared services: id, kind, account, name."""
    with operating(state_dir) as context:
        for service in context.settings.sources.values():
            click.echo(f"{service.id}  {service.kind}  {service.account}  {service.name}")


@command.command("order")
@click.argument("source_id", metavar="SOURCE")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--days", type=click.IntRange(min=1), default=None, help="How long it is to be valid.")
@state_dir_option
def order(source_id: str, names: tuple[str, ...], days: int | None, state_dir: Path | None) -> None:
    """Order a certificate for these names and print its managed_certificate_id."""
    with operating(state_dir) as context:
        service = _service(context, source_id)
        source = build_source(service)
        if not isinstance(source, Issues):
            raise Unprocessable(
                f"{service.name} ({service.kind}) takes no orders from here.", hint="Order it at the service itself."
            )
        offer = source.order(names, reference=secrets.token_hex(16), days=days)
    click.echo(f"{service.id}:{offer.id}")


def _service(context: Context, source_id: str) -> CertificateService:
    try:
        return context.settings.sources[source_id]
    except KeyError as error:
        known = ", ".join(context.settings.sources) or "none"
        raise NotFound(
            f"There is no source {source_id!r}; known: {known}.", hint="CERTFLEET_SOURCES lists them."
        ) from error
