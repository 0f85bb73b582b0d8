"""``certfleet reminders``: who is told about expiring certificates."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from services.cli.operating import operating, state_dir_option
from shared.domain.reminders import EXPIRED
from shared.usecases.reminder_scan import ScanResult, scan


@click.group("reminders")
def command() -> None:
    """Reminders of certificates that expire."""


@command.command("run")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@state_dir_option
def run(*, as_json: bool, state_dir: Path | None) -> None:
    """Scan once, now, and print what was newly recorded. The workers send the mails.

    Beat does this every few minutes by itself; running it more often sends nothing twice.
    """
    with operating(state_dir) as context:
        result = scan(context, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    _print(result)


def _print(result: ScanResult) -> None:
    if result.events:
        table = Table("left", "certificates", box=None, pad_edge=False)
        for threshold, count in sorted(result.by_threshold.items()):
            table.add_row(_words(threshold), str(count))
        Console(highlight=False).print(table)
    click.echo(
        f"{result.events} newly due, {result.reminders} notices recorded, "
        f"{result.without_recipient} certificates without anybody to tell."
    )


def _words(threshold: int) -> str:
    if threshold == EXPIRED:
        return "expired"
    return "less than a day" if threshold == 0 else f"{threshold} day{'' if threshold == 1 else 's'} or less"
