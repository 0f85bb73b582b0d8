"""``certfleet listen``: watch what happens, and develop a receiver without a public address."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console

_DIGITS: Final = 19
"""Below 2**63."""


class _Cursor(click.ParamType[int]):
    """A sequence, 0 for all."""

    name = "number"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As the API takes it; ``latest`` is what listening begins with anyway."""
        if not (value.isascii() and value.isdecimal() and len(value) < _DIGITS):
            self.fail(f"{value!r} is not the number of an event.", param, ctx)
        return int(value)


@click.command("listen")
@click.option(
    "--types", default="*", show_default=True, help="Types or patterns, separated by commas: deployment.*,job.*"
)
@click.option(
    "--after",
    type=_Cursor(),
    metavar="N",
    help="Pull, from the event after number N on; 0: from the first. Default: from now.",
)
@click.option("--pull", "is_pull", is_flag=True, help="Follow GET /v1/events instead of receiving webhooks.")
@click.option(
    "--forward", metavar="URL", help="Pass every event on to a receiver of yours, signed, and show its answer."
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as the JSON that came, one a line.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Receive on this port of 127.0.0.1. Default: any."
)
@click.option("--public-url", metavar="URL", help="Where a tunnel of yours leads to --port, for a Certfleet elsewhere.")
@click.option("--url", envvar="CERTFLEET_URL", help="A Certfleet elsewhere, with the token in CERTFLEET_TOKEN.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    help="The stack that runs there; its connection.json has all that is needed.",
)
def command(  # noqa: PLR0913 - one parameter an option
    *,
    types: str,
    after: int | None,
    is_pull: bool,
    forward: str | None,
    as_json: bool,
    count: int | None,
    port: int,
    public_url: str | None,
    url: str | None,
    state_dir: Path,
) -> None:
    """Print events as they happen, until Ctrl-C.

    Receives them as webhooks: makes an endpoint that leads to this command, verifies each signature (✓), and removes
    the endpoint at the end. Where Certfleet cannot reach this machine, and with --pull or --after, it follows GET
    /v1/events instead, which carries the same events (·) and goes on over broken connections.

    With --forward, what your receiver answers is what Certfleet gets for an answer, retries and all; pulled events are
    passed on once. The secret for your receiver is printed at the start.

    Needs a running `certfleet up`, or --url and CERTFLEET_TOKEN.
    """
    from services.cli.connecting import api_client  # noqa: PLC0415 - help must not pay for cryptography
    from services.cli.listening.choosing import Wish, listened  # noqa: PLC0415 - as above
    from services.cli.listening.display import print_json, print_line  # noqa: PLC0415 - as above
    from services.cli.listening.pushing import Place  # noqa: PLC0415 - as above

    wish = Wish(
        types=types, after=after, is_pull=is_pull, forward=forward, place=Place(port=port, public_url=public_url)
    )
    notices, console = Console(stderr=True, highlight=False), Console(highlight=False)

    def notice(sentence: str) -> None:
        notices.print(sentence, style="dim", markup=False, soft_wrap=True)

    with _until_asked_to_end(), closing(listened(api_client(url, state_dir), wish, notice)) as events:
        for heard in islice(events, count):
            if as_json:
                print_json(heard)
            else:
                print_line(console, heard)


@contextmanager
def _until_asked_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does, and that is how it is meant to end: exit status 0."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    with suppress(KeyboardInterrupt):
        yield
