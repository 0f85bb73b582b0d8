"""What a program of another process prints, as it prints it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO, Final

WAIT_SECONDS: Final = 30.0


class Output:
    """The lines of a program's output so far."""

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
