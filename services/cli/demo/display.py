"""How the demo looks: progress bars on a terminal, plain lines elsewhere, a table and the mail at the end."""

from __future__ import annotations

from typing import Any, Final, Self

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from services.cli.demo.stage import Result

_DONE: Final = {"pending": 0, "deploying": 1, "binding": 1, "deployed": 2, "bound": 2, "failed": 2}
_GREEN: Final = ("deployed", "bound", "match")
_RED: Final = ("failed", "mismatch", "unreachable")
_COLOUR: Final = {
    "deploying": "yellow",
    "binding": "yellow",
    "pending": "dim",
    "not_checked": "dim",
    **dict.fromkeys(_GREEN, "green"),
    **dict.fromkeys(_RED, "red"),
}


class Display:
    """Shows the story while it happens; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.fields[subject]:<24}"),
            TextColumn("{task.fields[region]:<14}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._last: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def step(self, text: str) -> None:
        """A new chapter begins."""
        self._console.print(f"[bold]>[/bold] {text}", highlight=False)

    def progress(self, name: str, job: dict[str, Any]) -> None:
        """A job's regions and listeners as they stand."""
        for row in job["deployments"]:
            self._show((name, row["region"]), row["state"])
        for row in job["listeners"]:
            self._show((f"listener {row['name']}", row["region"]), row["state"])

    def _show(self, where: tuple[str, str], state: str) -> None:
        if self._last.get(where) == state:
            return
        self._last[where] = state
        if not self._console.is_terminal:
            self._console.print(f"  {where[0]}  {where[1]}  {state}", highlight=False)
            return
        if where not in self._bars:
            self._bars[where] = self._progress.add_task("", total=2, subject=where[0], region=where[1], state="")
        colour = _COLOUR.get(state, "default")
        done = _DONE.get(state, 0)
        self._progress.update(self._bars[where], completed=done, state=f"[{colour}]{state}[/{colour}]")


def show_result(console: Console, result: Result, *, is_kept: bool) -> None:
    """The final tables, the mail, and the verdict. ``is_kept``: the files are still there afterwards."""
    console.print(_regions(result))
    console.print(_listeners(result))
    console.print(_checks(result))
    if result.mail:
        title = f"{result.mail['subject']}  →  {result.mail['to']}"
        console.print(Panel(result.mail["text"].strip(), title=title, title_align="left", highlight=False))
        if is_kept:
            console.print(f"The mail as it was sent: {result.mail['path']}", highlight=False, soft_wrap=True)
    verdict = "[green]All of it really happened[/green]" if result.ok else "[red]Not all of it happened[/red]"
    console.print(f"{verdict}, in {result.seconds:.1f} s.", highlight=False)


def _regions(result: Result) -> Table:
    table = Table("Certificate", "Region", "State", "Attempts", "Read back", title="Where the certificates are")
    table.columns[-1].no_wrap = True
    for certificate in result.certificates:
        for row in certificate["deployments"]:
            evidence = row["evidence"] or {}
            colour = _COLOUR.get(row["state"], "default")
            state = f"[{colour}]{row['state']}[/{colour}]"
            digest = f"sha256 {evidence.get('fingerprint_sha256', '')[:8]}…" if evidence else "-"
            table.add_row(certificate["name"], row["region"], state, str(row["attempt"]), digest)
    return table


def _listeners(result: Result) -> Table:
    table = Table("Listener", "Region", "Address", "Clients", "Served", title="What clients meet")
    for column in table.columns:
        column.no_wrap = True
    for row in result.listeners:
        served = row["served"]["state"]
        state = f"[{_COLOUR.get(served, 'default')}]{served}[/]"
        table.add_row(row["name"], row["region"], row["address"], row["authentication"], state)
    return table


def _checks(result: Result) -> Table:
    table = Table("", "What was checked", "What was found", title="What really happened")
    for check in result.checks:
        table.add_row("[green]✓[/green]" if check.ok else "[red]✗[/red]", check.name, check.detail)
    return table
