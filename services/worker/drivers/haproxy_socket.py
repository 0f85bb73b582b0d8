"""One command, one connection, one answer of HAProxy's Runtime API; nothing that could be two commands is sent."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from shared.domain.validation import visible
from shared.errors import AuthRefused, Busy, DriverError, InvalidMaterial, OutcomeUnknown, Unreachable

SPARE: Final = 512
"""Bytes that stay free in HAProxy's buffer: 2.6.12 crashes on a command of exactly ``tune.bufsize`` bytes."""

_COMMAND: Final = re.compile(r"[A-Za-z0-9._/*: -]+")
"""A ``;`` or a line's end begins another command (management guide §9.3)."""
_PEM_LINE: Final = re.compile(
    r"-----(?:BEGIN|END) (?:CERTIFICATE|(?:RSA |EC )?PRIVATE KEY)-----|[A-Za-z0-9+/]{1,64}={0,2}"
)
_LIST_LINE: Final = re.compile(r"[A-Za-z0-9._/*!\[\] -]+")
"""In a payload an empty line ends it, and what follows is executed."""

_LOCKED: Final = "currently locked"
_DENIED: Final = "Permission denied"
_PAUSE: Final = 0.01
_PIECE: Final = 1 << 16
_MOST_ANSWER: Final = 1 << 26
_QUOTED: Final = 300
_NARRATIVE: Final = ("Inserting certificate", "Committing", "Failed!")


class _Lost(Exception):
    """No answer, or not all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSocket:
    """Where HAProxy takes commands. ``timeout`` bounds one exchange, with the waiting for its lock."""

    address: Path | tuple[str, int]
    timeout: timedelta
    bufsize: int

    def read(self, command: str) -> str:
        """The answer to a command that changes nothing.

        Raises:
            Unreachable: no answer.
            Busy: HAProxy's certificates are locked by another command for the whole timeout.
            AuthRefused: the socket's level is not ``admin``, or we may not connect.
        """
        try:
            return self._exchange(_checked(command, _COMMAND) + "\n")
        except _Lost as error:
            raise Unreachable(f"HAProxy did not answer: {error}.") from error

    def change(self, command: str, payload: tuple[str, ...] = ()) -> str:
        """The answer to a command that may change something; ``payload`` is lines without their ends.

        Raises:
            InvalidMaterial: longer than HAProxy takes; nothing was sent.
            OutcomeUnknown: it was sent, and the answer was lost.
            Unreachable, Busy, AuthRefused: nothing was changed.
        """
        text = _checked(command, _COMMAND)
        if payload:
            text = "\n".join((f"{text} <<", *payload, ""))
        text += "\n"
        self.check_size(text)
        try:
            return self._exchange(text)
        except _Lost as error:
            raise OutcomeUnknown(f"HAProxy's answer was lost: {error}.") from error

    def check_size(self, text: str) -> None:
        """Refuse what HAProxy's buffer does not hold.

        Raises:
            InvalidMaterial: with the remedy.
        """
        most = self.bufsize - SPARE
        if len(text) >= most:
            raise InvalidMaterial(
                f"It takes a command of {len(text)} bytes, and this HAProxy takes less than {most}.",
                hint="Raise HAProxy's tune.bufsize, and bufsize in the region's settings with it.",
            )

    def _exchange(self, text: str) -> str:
        deadline = time.monotonic() + self.timeout.total_seconds()
        while _LOCKED in (answer := self._once(text, deadline)):
            if time.monotonic() + _PAUSE > deadline:
                raise Busy("HAProxy's certificates are locked by another command.")
            time.sleep(_PAUSE)
        if _DENIED in answer:
            raise AuthRefused("HAProxy's socket refuses the command.", hint="Give its stats socket the level admin.")
        return answer

    def _once(self, text: str, deadline: float) -> str:
        try:
            connection = self._connect(deadline)
        except OSError as error:
            raise self._no_connection(error) from error
        with connection:
            try:
                connection.sendall(text.encode("ascii"))
                return _answer(connection, deadline)
            except TimeoutError as error:
                raise _Lost(f"nothing within {self.timeout.total_seconds():g} s") from error
            except OSError as error:
                raise _Lost((error.strerror or type(error).__name__).lower()) from error

    def _connect(self, deadline: float) -> socket.socket:
        timeout = max(deadline - time.monotonic(), _PAUSE)
        if not isinstance(self.address, Path):
            return socket.create_connection(self.address, timeout=timeout)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(str(self.address))
        except BaseException:
            connection.close()
            raise
        return connection

    def _no_connection(self, error: OSError) -> DriverError:
        where = self.address if isinstance(self.address, Path) else "{}:{}".format(*self.address)
        reason = (error.strerror or type(error).__name__).lower()
        if isinstance(error, PermissionError):
            return AuthRefused(f"{where}: {reason}.", hint="Let the worker's user connect to HAProxy's stats socket.")
        return Unreachable(f"No connection to HAProxy at {where}: {reason}.")


def pem_lines(text: str) -> tuple[str, ...]:
    """The lines of a PEM, fit to be sent.

    Raises:
        InvalidMaterial: something else than armour and base64 stands there; the message does not repeat it.
    """
    lines = text.split("\n")
    if lines.pop() or not lines or not all(_PEM_LINE.fullmatch(line) for line in lines):
        raise InvalidMaterial("The content is not canonical PEM; nothing else is sent to HAProxy.")
    return tuple(lines)


def list_line(text: str) -> tuple[str, ...]:
    """A line of a crt-list, fit to be sent.

    Raises:
        InvalidMaterial: something stands there that is not of a path, an option or a host name.
    """
    return (_checked(text, _LIST_LINE),)


def quoted(answer: str) -> str:
    """What HAProxy said, in one printable line, without how it began and that it failed."""
    told = [row for row in answer.splitlines() if row and not row.startswith(_NARRATIVE)]
    return visible(" ".join(" ".join(told).split()), limit=_QUOTED)


def _checked(text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise InvalidMaterial("A name holds what could be another command to HAProxy; it was not sent.")
    return text


def _answer(connection: socket.socket, deadline: float) -> str:
    pieces, size = [], 0
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = connection.recv(_PIECE)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_ANSWER or time.monotonic() > deadline:
            raise TimeoutError
    answer = b"".join(pieces).decode("utf-8", errors="replace")
    if not answer.endswith("\n"):
        raise _Lost("the connection was closed in the middle of an answer" if answer else "the answer is empty")
    return answer
