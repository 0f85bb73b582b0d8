"""The receivers of ``docs/examples``, run as their own first lines say."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.programs import WAIT_SECONDS, Output

_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def running_example(
    command: Sequence[str | Path], folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[Output, str]]:
    """Run it in ``folder`` until the block ends; the program and the URL of its ``/certfleet``."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    program = Output(process.stdout)
    try:
        url = _URL.search(program.wait_for(_URL.search))
        assert url is not None
        yield program, f"{url[0]}/certfleet"
    finally:
        process.terminate()
        try:
            process.wait(timeout=WAIT_SECONDS)
        finally:
            process.kill()
            program.reader.join()
            process.stdout.close()
