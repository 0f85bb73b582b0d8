"""The receivers of ``docs/examples``, run as their own first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

WAIT_SECONDS: Final = 30.0

_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


class Program:
    """A running receiver and what it has printed."""

    def __init__(self, output: IO[str]) -> None:
        self._said = threading.Condition()
        self._lines: list[str] = []
        self._is_over = False
        self.reader = threading.Thread(target=self._read, args=(output,), daemon=True)
        self.reader.start()

    @property
    def lines(self) -> list[str]:
        with self._said:
            return list(self._lines)

    def wait_for(self, is_said: Callable[[str], object]) -> str:
        """The first line of which it is true, once it has been printed."""

        def found() -> str | None:
            return next((line for line in self._lines if is_said(line)), None)

        with self._said:
            self._said.wait_for(lambda: self._is_over or found() is not None, timeout=WAIT_SECONDS)
            line = found()
        if line is None:
            raise AssertionError("It never said so:\n" + "\n".join(self.lines))
        return line

    def _read(self, output: IO[str]) -> None:
        for line in output:
            with self._said:
                self._lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._is_over = True
            self._said.notify_all()


@contextmanager
def running_example(
    command: Sequence[str | Path], folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[Program, str]]:
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
    program = Program(process.stdout)
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
