"""Lines of a crt-list, as HAProxy shows them and as its file holds them; the file also says whose they are.

::

    /path/bootstrap.pem !*
    # certfleet listener <account> <listener>
    /path/objects/<account>/<label>.pem [ca-file /path/objects/<account>/<label>.pem verify required] shop.example
    # certfleet leaving <account> <listener> <the line as it was>

``leaving``: this line was taken out, or replaced, by the change that wrote the file; a killed writer may have left it
in the running HAProxy. The next writer sees to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

NOBODY: Final = ("!*",)
"""The filter of a line that serves no host name: the bootstrap certificate's, and of a line on trial."""

_LINE: Final = re.compile(
    r"(?P<certificate>[^\s:#\[]+)(?P<number>:\d+)?(?: \[(?P<options>[^\]]*)\])?(?P<filters>(?: \S+)*)"
)
_NOTE: Final = re.compile(
    r"# certfleet (?P<kind>listener|leaving) (?P<account>[a-z0-9_-]+) (?P<listener>[A-Za-z0-9_-]+)(?: (?P<line>.+))?"
)
_MUTUAL: Final = 4
"""Words of ``ca-file <path> verify required``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A certificate with its options and the host names that it is shown for.

    ``options`` of ours are empty or ``ca-file <path> verify required``; HAProxy shows them in another order.
    """

    certificate: str
    options: str = ""
    filters: tuple[str, ...] = ()

    @classmethod
    def mutual(cls, certificate: str, ca: str | None, filters: tuple[str, ...]) -> Self:
        """A line whose clients must show a certificate of the ``ca`` file, if one is given."""
        options = f"ca-file {ca} verify required" if ca else ""
        return cls(certificate=certificate, options=options, filters=filters)

    @property
    def ca(self) -> str | None:
        """The CA file, if the options are exactly ours for mutual authentication."""
        words = self.options.split()
        return words[1] if len(words) == _MUTUAL and words[0] == "ca-file" else None

    @property
    def text(self) -> str:
        """As it stands in a crt-list."""
        options = (f"[{self.options}]",) if self.options else ()
        return " ".join((self.certificate, *options, *self.filters))

    def on_trial(self) -> Line:
        """The same for nobody."""
        return Line(certificate=self.certificate, options=self.options, filters=NOBODY)

    def uses(self, path: str) -> bool:
        """Whether it refers to a file, as certificate or among its options."""
        return path == self.certificate or path in self.options.split()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningLine:
    """A line of the running HAProxy, with the number that it is deleted by."""

    line: Line
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the file, and whose listener it is."""

    account_id: str
    listener_id: str
    line: Line

    @property
    def key(self) -> tuple[str, str]:
        """Account and listener."""
        return self.account_id, self.listener_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CrtList:
    """What the file says. ``others``: lines that are not ours, kept as they are."""

    entries: tuple[Entry, ...] = ()
    leaving: tuple[Entry, ...] = ()
    others: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> CrtList:
        """Read a file; what is not ours is kept."""
        entries: list[Entry] = []
        leaving: list[Entry] = []
        others: list[str] = []
        owner: tuple[str, str] | None = None
        for row in filter(None, text.split("\n")):
            note = _NOTE.fullmatch(row)
            line = parse_line(note["line"] or "" if note else row)
            if note and note["kind"] == "leaving" and line:
                leaving.append(Entry(account_id=note["account"], listener_id=note["listener"], line=line))
            elif owner and line and not note:
                entries.append(Entry(account_id=owner[0], listener_id=owner[1], line=line))
            elif not note:
                others.append(row)
            is_owner = note is not None and note["kind"] == "listener"
            owner = (note["account"], note["listener"]) if note and is_owner else None
        return cls(entries=tuple(entries), leaving=tuple(leaving), others=tuple(others))

    @property
    def lines(self) -> tuple[Line, ...]:
        """What HAProxy is to serve."""
        return tuple(entry.line for entry in self.entries)

    def find(self, key: tuple[str, str]) -> Entry | None:
        """A listener's entry."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def having(self, entry: Entry) -> CrtList:
        """With this entry in place of the listener's old one."""
        return self._changed(entry.key, (entry,))

    def without(self, key: tuple[str, str]) -> CrtList:
        """Without the listener."""
        return self._changed(key, ())

    def _changed(self, key: tuple[str, str], following: tuple[Entry, ...]) -> CrtList:
        kept = tuple(entry for entry in self.entries if entry.key != key)
        gone = (*self.leaving, *(entry for entry in self.entries if entry.key == key))
        return replace(self, entries=(*kept, *following), leaving=tuple(one for one in gone if one not in following))

    def text(self, bootstrap: Path) -> str:
        """The file; the bootstrap certificate comes first, since HAProxy's first can never be deleted."""
        first = Line(certificate=str(bootstrap), filters=NOBODY).text
        rows = [first, *(row for row in self.others if row != first)]
        for entry in self.entries:
            rows += [f"# certfleet listener {entry.account_id} {entry.listener_id}", entry.line.text]
        rows += [f"# certfleet leaving {one.account_id} {one.listener_id} {one.line.text}" for one in self.leaving]
        return "\n".join((*rows, ""))


def parse_line(text: str) -> Line | None:
    """A line of a file; ``None``: a remark, or not to be understood."""
    found = _LINE.fullmatch(text)
    if found is None or found["number"]:
        return None
    return _line(found)


def parse_running(text: str) -> RunningLine | None:
    """A line of ``show ssl crt-list -n``; ``None``: not to be understood."""
    found = _LINE.fullmatch(text)
    if found is None or not found["number"]:
        return None
    return RunningLine(line=_line(found), number=int(found["number"][1:]))


def _line(found: re.Match[str]) -> Line:
    options = _canonical(found["options"] or "")
    return Line(certificate=found["certificate"], options=options, filters=tuple(found["filters"].split()))


def _canonical(options: str) -> str:
    words = options.split()
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) == _MUTUAL and set(pairs) == {"ca-file", "verify"}:
        return f"ca-file {pairs['ca-file']} verify {pairs['verify']}"
    return " ".join(words)
