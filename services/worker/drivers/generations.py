"""Immutable generations of files below one directory, as readers see them: whole, without a lock, verifiable.

::

    root/lock                       flock: one writer
    root/fence                      the highest fencing number that a writer came with
    root/current -> generations/7   what readers open; swapped by rename
    root/generations/7/…            files, and MANIFEST.json, written last
    root/generations/.building-8    a writer at work, or what a killed one left (removed by the next)

A reader opens ``current`` once as a directory and everything else relative to that descriptor (``openat``); then it
never sees two generations at once. Writing is in ``publishing.py``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from services.worker.drivers.disk import read_at
from shared.errors import Busy, Corrupt

MANIFEST: Final = "MANIFEST.json"
_FORMAT: Final = 1
_HEAD: Final = '{{"format": {format}, "generation": {generation}, "objects": {{\n'
_FOOT: Final = "\n}}\n"
_KNOWN_HEAD: Final = re.compile(rf'\{{"format": {_FORMAT}, "generation": (?P<generation>\d+), "objects": \{{\n')
_NUMBER: Final = re.compile(r"[1-9][0-9]*")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_DAMAGE: Final = (KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a manifest ends with that is JSON of another shape; what is no JSON at all ends with a ValueError."""
_READ_ATTEMPTS: Final = 20
"""A reader starts anew when its generation is collected under it; this often only if writers never pause."""
_CERTIFICATE_ENDS: Final = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file must be: lower-case hex SHA-256 of its bytes, and its permission bits."""

    sha256: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """One object of a generation: its owner, its leaf, and its files by name. Never changed, so written out once."""

    account_id: str
    fingerprint_sha256: str
    files: Mapping[str, FileFacts]

    @cached_property
    def encoded(self) -> str:
        """As it stands in a manifest."""
        files = {name: {"sha256": facts.sha256, "mode": facts.mode} for name, facts in self.files.items()}
        return json.dumps(
            {"account_id": self.account_id, "fingerprint_sha256": self.fingerprint_sha256, "files": files}
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one generation holds, by object label. Generation 0 is a directory in which nothing was published."""

    generation: int = 0
    objects: Mapping[str, Record] = field(default_factory=dict)

    @cached_property
    def files(self) -> Mapping[str, FileFacts]:
        """Every file of every object, by name."""
        return {name: facts for record in self.objects.values() for name, facts in record.files.items()}

    @cached_property
    def encoded(self) -> bytes:
        """JSON, one object a line, so that two generations can be compared with ``diff``."""
        lines = [f"{json.dumps(label)}: {record.encoded}" for label, record in sorted(self.objects.items())]
        return (_HEAD.format(format=_FORMAT, generation=self.generation) + ",\n".join(lines) + _FOOT).encode()


Lines = dict[str, tuple[str, Record]]
"""A manifest's objects, label and record, by the lines that they stand in."""

_read_last: Final[dict[Path, Lines]] = {}
"""By directory, in this process: as much as lies in its regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file as it lies there; ``sha256`` is ``None`` when it does not (or is no regular file).

    ``leaf_sha256``: of the first certificate in it, if there is one.
    """

    sha256: str | None = None
    leaf_sha256: str | None = None
    mode: int = 0
    group_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One generation, read through one descriptor: what it claims, what is there, what nobody claims."""

    manifest: Manifest
    found: Mapping[str, FoundFile] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The directory. ``root`` is absolute; ``group_id``, if any, owns all below; ``keep`` is 2 or more."""

    root: Path
    group_id: int | None = None
    keep: int
    lock_timeout: timedelta

    @property
    def current(self) -> Path:
        """The symbolic link that readers open."""
        return self.root / "current"

    @property
    def fence(self) -> Path:
        """The record of the newest writer (``fencing.py``)."""
        return self.root / "fence"

    @property
    def numbered(self) -> Path:
        """Where the generations lie, each a directory called by its number."""
        return self.root / "generations"

    def numbers(self) -> list[int]:
        """The generations on the disk, ascending; some may be incomplete. What only is called like one is none."""
        with os.scandir(self.numbered) as entries:
            return sorted(
                number_of(entry.name)
                for entry in entries
                if number_of(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def target(self) -> str | None:
        """Where ``current`` leads, as written in the link; ``None`` before the first publication."""
        try:
            return os.readlink(self.current)  # noqa: PTH115  # compared as text
        except FileNotFoundError:
            return None

    def read(self) -> View:
        """Read the current generation without a lock; one generation, whole.

        Raises:
            Corrupt: ``current`` leads nowhere, or its manifest is not one.
            Busy: writers replaced every generation while it was read.
            OSError: the directory cannot be read.
        """
        for _ in range(_READ_ATTEMPTS):
            target = self.target()
            if target is None:
                return View(manifest=Manifest())
            with suppress(_MovedError):
                return self._read(target)
        raise Busy(f"{self.root} changes faster than it can be read.")

    def read_manifest(self, target: str) -> Manifest:
        """Read the manifest of the generation that a link's text names.

        Its number is that of its directory, whatever it says itself: somebody may have put a copy there.

        Raises:
            Corrupt: it is not there, or is not one.
            OSError: it cannot be read.
        """
        try:
            directory = os.open(self.root / target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._leads_nowhere(target) from error
        try:
            manifest, _read_last[self.root] = parse_manifest(
                read_at(directory, MANIFEST), known=_read_last.get(self.root, {})
            )
        except FileNotFoundError as error:
            raise self._leads_nowhere(target) from error
        except ValueError as error:
            raise Corrupt(f"{self.root / target / MANIFEST} is damaged: {error}.") from error
        finally:
            os.close(directory)
        number = number_of(Path(target).name) or manifest.generation
        return manifest if number == manifest.generation else replace(manifest, generation=number)

    def _read(self, target: str) -> View:
        try:
            manifest = self.read_manifest(target)
            directory = os.open(self.root / target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, Corrupt):
            self._raise_if_moved(target)
            raise
        try:
            found = {name: find(directory, name) for name in manifest.files}
            unexpected = sorted(set(names_in(directory)) - {*found, MANIFEST})
        finally:
            os.close(directory)
        if unexpected or any(file.sha256 is None for file in found.values()):
            self._raise_if_moved(target)
        return View(manifest=manifest, found=found, unexpected=tuple(unexpected))

    def _raise_if_moved(self, target: str) -> None:
        if self.target() != target:
            raise _MovedError

    def _leads_nowhere(self, target: str) -> Corrupt:
        return Corrupt(
            f"{self.current} leads to {target}, which is not there or has no {MANIFEST}.",
            hint="Remove the link: the newest complete generation is taken then; deploy again what it lacks.",
        )


class _MovedError(Exception):
    """``current`` was swapped while its generation was read."""


def number_of(name: str) -> int:
    """The number that a generation's directory is called by; 0 for every other name."""
    return int(name) if _NUMBER.fullmatch(name) else 0


def names_in(directory: int | Path) -> list[str]:
    """The names in a directory, given by path or descriptor."""
    return os.listdir(directory)  # noqa: PTH208  # also takes a descriptor


def find(directory: int, name: str) -> FoundFile:
    """Read one file of an open directory and keep only what can be compared, never the content."""
    try:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode):
            return FoundFile()
        content = read_at(directory, name)
    except FileNotFoundError:
        return FoundFile()
    return FoundFile(
        sha256=sha256(content),
        leaf_sha256=leaf_fingerprint(content.decode("ascii", "replace")),
        mode=stat.S_IMODE(facts.st_mode),
        group_id=facts.st_gid,
    )


def leaf_fingerprint(pem: str) -> str | None:
    """SHA-256 of the first certificate's DER; ``None`` when there is none (RFC 7468 §2)."""
    first, found, _ = pem.partition(_CERTIFICATE_ENDS)
    body = first.partition("-----BEGIN CERTIFICATE-----")[2]
    try:
        return sha256(base64.b64decode("".join(body.split()), validate=True)) if found and body else None
    except binascii.Error:
        return None


def sha256(content: bytes) -> str:
    """Lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def parse_manifest(content: bytes, *, known: Lines) -> tuple[Manifest, Lines]:
    """The inverse of :attr:`Manifest.encoded`, and its lines.

    ``known``: those of the manifest that was read before. They are not read again: most objects stay for long.

    Raises:
        ValueError: not a manifest, or one of a later format.
    """
    text = content.decode()
    try:
        return _parse_lines(text, known)
    except (ValueError, *_DAMAGE):  # somebody laid it out anew, or it is damaged
        return _parse_any(text), {}


def _parse_lines(text: str, known: Lines) -> tuple[Manifest, Lines]:
    """As we write it."""
    head = _KNOWN_HEAD.match(text)
    if head is None or not text.endswith(_FOOT):
        raise ValueError("it is laid out in another way")
    body = text[head.end() : -len(_FOOT)]
    lines = {line: known.get(line) or _parse_line(line) for line in (body.split(",\n") if body else [])}
    return Manifest(generation=int(head["generation"]), objects=dict(lines.values())), lines


def _parse_line(line: str) -> tuple[str, Record]:
    ((label, record),) = json.loads(f"{{{line}}}").items()
    return label, _parse_record(record)


def _parse_any(text: str) -> Manifest:
    """However it is laid out."""
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise ValueError(f"it is of format {document['format']!r}, this version reads {_FORMAT}")
        objects = {str(label): _parse_record(record) for label, record in document["objects"].items()}
        return Manifest(generation=int(document["generation"]), objects=objects)
    except _DAMAGE as error:
        raise ValueError(f"it is not a manifest ({type(error).__name__})") from error


def _parse_record(record: dict[str, Any]) -> Record:
    files = {
        str(name): FileFacts(sha256=str(one["sha256"]), mode=int(one["mode"])) for name, one in record["files"].items()
    }
    if not all(_FILE_NAME.fullmatch(name) and name != MANIFEST for name in files):
        raise ValueError("it names a file outside its directory, or one that is none of an object")
    return Record(
        account_id=str(record["account_id"]), fingerprint_sha256=str(record["fingerprint_sha256"]), files=files
    )
