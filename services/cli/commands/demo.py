"""``certfleet demo``: everything once, for real."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

FAILED = 1


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Keep the demo's database, logs and mails there. Default: a temporary directory, removed at the end.",
)
def command(*, as_json: bool, state_dir: Path | None) -> None:
    """Show everything in under a minute, on this machine, with nothing installed before.

    Starts the embedded stack with three real load balancers, creates a server and a CA certificate in all of them, of
    which one fails on purpose, and retries only that one. Opens a one-way and a mutual listener in each, knocks at them
    as clients do, and replaces the certificate while clients keep coming. Verifies every signed webhook, and shows the
    reminder mail of a certificate that is about to expire. Exits 0 only if all of it really happened.
    """
    from services.cli.demo.display import Display, show_result  # noqa: PLC0415 - help must not pay for cryptography
    from services.cli.demo.stack import running_stack  # noqa: PLC0415 - as above
    from services.cli.demo.story import tell  # noqa: PLC0415 - as above

    progress = Console(stderr=True)
    with _state_directory(state_dir) as place, Display(progress) as display:
        display.step("Starting the stack: PostgreSQL, Redis, three Envoys, the API, workers, a mail sink")
        with running_stack(place) as connection:
            display.step(f"It runs at {connection.url}")
            result = tell(connection, display)
    if as_json:
        click.echo(json.dumps(result.as_document(), indent=2))
    else:
        show_result(Console(), result, is_kept=state_dir is not None)
    sys.exit(0 if result.ok else FAILED)


@contextmanager
def _state_directory(chosen: Path | None) -> Iterator[Path]:
    """A kept directory is begun afresh, but only if it is empty or a demo's own."""
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="certfleet-demo-") as temporary:
            yield Path(temporary) / "state"
        return
    marker = chosen / ".certfleet-demo"
    if chosen.exists() and any(chosen.iterdir()):
        if not marker.exists():
            raise click.BadParameter(
                f"{chosen} is not empty and not a demo's; choose another.", param_hint="--state-dir"
            )
        shutil.rmtree(chosen)
    chosen.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()
    yield chosen
