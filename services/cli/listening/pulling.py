"""Follow ``GET /v1/events`` as a stream: from a sequence on, over every break, never skipping one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from services.cli.client import ApiClient, ApiSilent
from services.cli.listening.heard import Heard, Notice

SILENCE: Final = timedelta(seconds=45)
"""Three heartbeats of the stream (services/api/streams.py): a longer one means that the connection is dead."""
PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next try, the last one for ever."""


def newest(client: ApiClient) -> int:
    """The sequence after which whatever happens from now on comes."""
    return int(client.get("/v1/events?after=latest")["next_cursor"])


def pulled(client: ApiClient, *, after: int, types: str, notice: Notice) -> Iterator[Heard]:
    """Every event with a sequence above ``after``, in order, without an end.

    Raises:
        ApiRefused: the token or the types are refused; nothing that a later try could mend.
    """
    last, failures = after, 0
    while True:
        try:
            for sequence, heard in _stream(client, after=last, types=types):
                last, failures = sequence, 0
                yield heard
            time.sleep(PAUSES[0])  # a stream ends by itself now and then
        except ApiSilent as error:
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            if failures == 0:
                notice(f"{error.message} Trying again, from event {last} on.")
            failures += 1
            time.sleep(pause)


def _stream(client: ApiClient, *, after: int, types: str) -> Iterator[tuple[int, Heard]]:
    """The frames of one connection (WHATWG HTML, "Server-sent events", as far as ours go), with their sequences."""
    path = f"/v1/events?{urlencode({'after': after, 'types': types})}"
    with client.stream(path, headers={"Accept": "text/event-stream"}, silence=SILENCE) as lines:
        sequence = after
        for line in lines:
            name, _, value = line.partition(b": ")
            if name == b"id":
                sequence = int(value)
            elif name == b"data":
                yield sequence, Heard(body=value, is_pushed=False)
