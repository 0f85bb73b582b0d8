"""What HAProxy holds, by its own word, and the commands that change it; answers are believed only word for word.

The messages are those of HAProxy 2.6 (``src/ssl_ckch.c``, ``src/ssl_crtlist.c``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.worker.drivers.haproxy_list import Line, RunningLine, parse_running
from services.worker.drivers.haproxy_socket import RuntimeSocket, list_line, pem_lines, quoted
from shared.errors import Busy, Corrupt, DriverError, InUse, InvalidMaterial, OutcomeUnknown, Unsupported

UNUSED: Final = "Unused"
USED: Final = "Used"
EMPTY: Final = "Empty"
"""Said of a certificate; of a CA file without certificates HAProxy says nothing at all."""

_CERTIFICATE: Final = "cert"
_CA: Final = "ca-file"
_OPENED: Final = {_CERTIFICATE: "Transaction created for certificate {}!", _CA: "transaction created for CA {}!"}
_OPENED_FOR: Final = re.compile(r"[Tt]ransaction (?:created|updated) for (?:certificate|CA) (\S+)!")
_SIZE_OF_BUFFER: Final = re.compile(r"Pool buffer \((\d+) bytes\)")
_SUSPICIOUS_SIZE: Final = 7168
"""Bytes; a shorter command fits every buffer that anybody configures, so HAProxy is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What HAProxy tells of one certificate: serial number and SHA-1, upper-case hex.

    HAProxy 2.6 knows no name for Ed25519 and Ed448 and ends its description there, before the fingerprint (measured).
    """

    serial: str
    sha1: str | None

    def is_of(self, ours: Identity) -> bool:
        """Whether ours may be the one that is told of."""
        return self.serial == ours.serial and self.sha1 in (None, ours.sha1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One file in HAProxy's memory: the leaf, or each CA certificate."""

    status: str
    told: tuple[Identity, ...]
    chain: int = 0
    """How many certificates stand above the leaf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be in HAProxy's memory under a path."""

    path: Path
    is_ca: bool
    pem: str
    certificates: tuple[Identity, ...]

    @property
    def kind(self) -> str:
        """As commands call it."""
        return _CA if self.is_ca else _CERTIFICATE

    def is_in(self, held: Held | None) -> bool:
        """Whether HAProxy holds exactly this, as far as it tells; it folds duplicates among CAs."""
        if held is None or not held.told:
            return False
        if self.is_ca:
            return all(any(told.is_of(ours) for ours in self.certificates) for told in held.told) and all(
                any(told.is_of(ours) for told in held.told) for ours in self.certificates
            )
        leaf = held.told[0]
        is_whole = leaf.sha1 is None or held.chain == len(self.certificates) - 1
        return leaf.is_of(self.certificates[0]) and is_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """What the lists of files say: the open transactions, and everything that is held."""

    open: tuple[tuple[str, str], ...]
    """Kind and path."""
    held: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HaproxyRuntime:
    """One running HAProxy and the crt-list that we keep in it."""

    socket: RuntimeSocket
    crt_list: Path

    def files(self) -> Transactions:
        """Everything held, and what somebody has begun to change."""
        opened, held = [], []
        for kind in (_CERTIFICATE, _CA):
            for row in self.socket.read(f"show ssl {kind}").splitlines():
                path = row.partition(" - ")[0]
                if path.startswith("*"):
                    opened.append((kind, path[1:]))
                elif path and not path.startswith("#"):
                    held.append(path)
        return Transactions(open=tuple(opened), held=frozenset(held))

    def held(self, path: Path, *, is_ca: bool) -> Held | None:
        """One file, if it is there.

        Raises:
            Corrupt: the answer cannot be understood.
        """
        answer = self.socket.read(f"show ssl {_CA if is_ca else _CERTIFICATE} {path}")
        if "Not found" in answer:
            return None
        if is_ca and not answer.strip():
            return Held(status=EMPTY, told=())
        rows = [row.partition(": ")[::2] for row in answer.splitlines()]
        status = next((value for key, value in rows if key == "Status"), None)
        if status is None:
            raise Corrupt(f"HAProxy's answer cannot be understood: {quoted(answer)}")
        chain = sum(key == "Chain Subject" for key, _ in rows)
        return Held(status=status, told=tuple(_identities(rows)), chain=chain)

    def lines(self) -> tuple[RunningLine, ...]:
        """The crt-list as it is served, in order.

        Raises:
            Unsupported: HAProxy uses no such crt-list.
            Corrupt: a line cannot be understood.
        """
        answer = self.socket.read(f"show ssl crt-list -n {self.crt_list}")
        rows = [row for row in answer.split("\n") if row]
        if rows[:1] != [f"# {self.crt_list}"]:
            hint = f"Put it on the bind line: ssl crt-list {self.crt_list} strict-sni."
            raise Unsupported(f"This HAProxy uses no crt-list {self.crt_list}: {quoted(answer)}", hint=hint)
        lines = [parse_running(row) for row in rows[1:]]
        if None in lines:
            raise Corrupt(f"A line of HAProxy's crt-list cannot be understood: {quoted(rows[1 + lines.index(None)])}")
        return tuple(line for line in lines if line)

    def abort(self, opened: Iterable[tuple[str, str]]) -> None:
        """End transactions that somebody left: while one is open, nobody else can change anything.

        Raises:
            OutcomeUnknown: HAProxy said something else.
        """
        for kind, path in opened:
            answer = self.socket.change(f"abort ssl {kind} {path}")
            if "aborted" not in answer and "No ongoing transaction" not in answer:
                raise _unexpected(answer)

    def load(self, wanted: Wanted) -> None:
        """Put a file into HAProxy's memory, in one transaction of our own, and read it back.

        Raises:
            InvalidMaterial: refused; nothing is left open.
            Busy: somebody else's transaction is open.
            Corrupt: a CA file in use holds something else (it must not be committed: HAProxy issue 3165); or what was
                just loaded is not there.
        """
        self._make_room(wanted)
        self._open(wanted)
        answer = self.socket.change(f"commit ssl {wanted.kind} {wanted.path}")
        if "Success!" not in answer:
            self.abort(((wanted.kind, str(wanted.path)),))
            self._drop_unused(wanted)
            raise InvalidMaterial(f"HAProxy refuses the content: {quoted(answer)}")
        if not wanted.is_in(self.held(wanted.path, is_ca=wanted.is_ca)):
            raise Corrupt(f"HAProxy said {quoted(answer)!r} and does not hold {wanted.path} as it was sent.")

    def drop(self, path: Path, *, is_ca: bool) -> bool:
        """Take a file out of HAProxy's memory. Absent is success (False).

        Raises:
            InUse: a line refers to it.
        """
        answer = self.socket.change(f"del ssl {_CA if is_ca else _CERTIFICATE} {path}")
        if "doesn't exist" in answer:
            return False
        if "in use" in answer:
            raise InUse(f"HAProxy still uses {path}.")
        if "deleted" not in answer:
            raise _unexpected(answer)
        return True

    def add(self, line: Line) -> None:
        """Serve a line, beside those that are there.

        Raises:
            InvalidMaterial: HAProxy refuses to serve these files, or the line is too long; nothing was changed.
        """
        answer = self.socket.change(f"add ssl crt-list {self.crt_list}", list_line(line.text))
        if "Success!" in answer:
            return
        if "Can't edit" in answer or "Failed!" in answer:
            raise InvalidMaterial(f"HAProxy refuses to serve it: {quoted(answer)}")
        raise _unexpected(answer)

    def delete(self, running: RunningLine) -> None:
        """Stop serving a line.

        Raises:
            OutcomeUnknown: HAProxy said something else.
        """
        answer = self.socket.change(f"del ssl crt-list {self.crt_list} {running.line.certificate}:{running.number}")
        if "deleted in crtlist" not in answer:
            raise _unexpected(answer)

    def check_line(self, line: Line) -> None:
        """Refuse a line that is too long, before anything is sent or written; errors as :meth:`check_size`."""
        self._check_text(f"add ssl crt-list {self.crt_list} <<\n{line.text}\n\n")

    def check_size(self, wanted: Wanted) -> None:
        """Refuse what is longer than the configured or the real buffer, before anything is sent or written.

        Raises:
            InvalidMaterial: too long.
            Unsupported: HAProxy's buffer is smaller than configured here, and this might not fit it.
        """
        self._check_text(f"set ssl {wanted.kind} {wanted.path} <<\n{wanted.pem}\n")

    def _check_text(self, text: str) -> None:
        self.socket.check_size(text)
        if len(text) < _SUSPICIOUS_SIZE:
            return
        found = _SIZE_OF_BUFFER.search(self.socket.read("show pools"))
        real = int(found[1]) if found else self.socket.bufsize
        if real < self.socket.bufsize:
            raise Unsupported(
                f"HAProxy's tune.bufsize is {real}, and the region's settings say {self.socket.bufsize}.",
                hint="A command as long as the buffer kills HAProxy 2.6: make the two agree.",
            )

    def _make_room(self, wanted: Wanted) -> None:
        held = self.held(wanted.path, is_ca=wanted.is_ca)
        if wanted.is_ca and held is not None and held.status == USED:
            raise Corrupt(
                f"Somebody changed the CA file {wanted.path}, which HAProxy uses: only a reload puts it right.",
                hint="Reload HAProxy: it reads everything anew from the files, which are right.",
            )
        if wanted.is_ca and held is not None and held.told:
            self.drop(wanted.path, is_ca=True)
            held = None
        if held is None:
            answer = self.socket.change(f"new ssl {wanted.kind} {wanted.path}")
            if f"'{wanted.path}'!" not in answer or "New" not in answer:
                raise _unexpected(answer)

    def _open(self, wanted: Wanted) -> None:
        """Only ``created``, and for our path: 2.6.12 puts the content into whatever transaction is open."""
        path = str(wanted.path)
        answer = self.socket.change(f"set ssl {wanted.kind} {path}", pem_lines(wanted.pem))
        if answer.strip() == _OPENED[wanted.kind].format(path):
            return
        opened = _OPENED_FOR.search(answer)
        if opened:
            self.abort(((wanted.kind, opened[1]),))
            raise Busy("Somebody else is changing certificates at this HAProxy; both changes were taken back.")
        if "ongoing transaction" in answer:
            raise Busy(f"Somebody else is changing certificates at this HAProxy: {quoted(answer)}")
        self._drop_unused(wanted)
        raise InvalidMaterial(f"HAProxy refuses the content: {quoted(answer)}")

    def _drop_unused(self, wanted: Wanted) -> None:
        with suppress(InUse):
            self.drop(wanted.path, is_ca=wanted.is_ca)


def _unexpected(answer: str) -> DriverError:
    return OutcomeUnknown(f"HAProxy answered something unexpected: {quoted(answer)}")


def _identities(rows: Iterable[Sequence[str]]) -> Iterator[Identity]:
    serial: str | None = None
    for key, value in rows:
        if key == "Serial":
            if serial is not None:
                yield Identity(serial=serial, sha1=None)
            serial = value
        elif key == "SHA1 FingerPrint" and serial is not None:
            yield Identity(serial=serial, sha1=value)
            serial = None
    if serial is not None:
        yield Identity(serial=serial, sha1=None)
