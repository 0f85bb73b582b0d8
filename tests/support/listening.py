"""``certfleet listen`` as a program of its own, and what it prints."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.support.programs import WAIT_SECONDS, Output
from tests.support.stack import clean_environment

READY: Final = "Listening: "
FOLLOWING: Final = "Following events after "


@dataclass(slots=True, kw_only=True)
class Listening:
    """A running ``certfleet listen``."""

    process: subprocess.Popen[str]
    out: Output
    err: Output

    def wait_for(self, text: str) -> str:
        """A line with these words among the events."""
        return self.out.wait_for(lambda line: text in line)

    def wait_until_told(self, text: str) -> str:
        """A line with these words among the notices."""
        return self.err.wait_for(lambda line: text in line)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def running_listen(*options: str, environ: Mapping[str, str] | None = None) -> Iterator[Listening]:
    """``certfleet listen`` with these options; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "listen", *options],
        env={**clean_environment(), "COLUMNS": "300", **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    listening = Listening(process=process, out=Output(process.stdout), err=Output(process.stderr))
    try:
        yield listening
    finally:
        process.kill()
        process.wait()
        for output, file in ((listening.out, process.stdout), (listening.err, process.stderr)):
            output.reader.join()
            file.close()
