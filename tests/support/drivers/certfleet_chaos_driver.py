"""The driver ``chaotic``: a directory region that hangs, lies, dies half-way, and answers too late, by a seed.

The n-th change asked of a region meets the same trouble in every run of a seed, whichever process asks. Every change
that was made is written to a journal: what the region saw from outside.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

from services.worker.drivers.directory import DirectoryDriver
from services.worker.drivers.disk import exclusive_lock
from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.errors import Busy, OutcomeUnknown, Unreachable
from shared.usecases.driver import Capabilities, Driver, Listener, Owner, Ref, Snapshot, Staged

_LOCK_TIMEOUT: Final = timedelta(seconds=10)
_HALF_WAY: Final = 0.02
"""Seconds within which a process that is to die half-way is killed: about what publishing a generation takes."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change that a region made. ``verb``: ``stage`` or ``retire``; ``label``: the object's name."""

    verb: str
    certificate_id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """What a region does to its callers, each with its share of all changes (0 to 1).

    ``late`` seconds are longer than a lease: the answer comes when somebody else owns the row.
    """

    refuse: float = 0.05
    lose_answer: float = 0.05
    hang: float = 0.04
    answer_late: float = 0.01
    die_half_way: float = 0.02
    spoil: float = 0.02
    hang_seconds: float = 0.7
    late_seconds: float = 4.0


class ChaoticDriver:
    """Settings: ``path`` (the directory driver's), ``journal`` (a file), ``seed``, and any field of :class:`Mood`."""

    def __init__(self, inner: Driver, *, directory: Path, journal: Path, seed: str, mood: Mood) -> None:
        self._inner = inner
        self._directory = directory
        self._journal = journal
        self._seed = seed
        self._mood = mood

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Raises KeyError and TypeError for settings that are missing or unknown: tests alone write them."""
        settings = dict(region.settings)
        path, journal, seed = (str(settings.pop(name)) for name in ("path", "journal", "seed"))
        inner = DirectoryDriver.for_region(replace(region, settings={"path": path}))
        return cls(inner, directory=Path(path), journal=Path(journal), seed=seed, mood=Mood(**settings))

    def fenced(self, fence: int) -> ChaoticDriver:
        return ChaoticDriver(
            self._inner.fenced(fence),
            directory=self._directory,
            journal=self._journal,
            seed=self._seed,
            mood=self._mood,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def snapshot(self) -> Snapshot:
        return self._inner.snapshot()

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        return self._changed(lambda: self._stage(material, owner))

    def bind(self, listener: Listener) -> bool:
        return self._inner.bind(listener)

    def unbind(self, listener: Listener) -> bool:
        return self._inner.unbind(listener)

    def retire(self, ref: Ref) -> bool:
        return self._changed(lambda: self._retire(ref))

    def _stage(self, material: Material, owner: Owner) -> Staged:
        staged = self._inner.stage(material, owner=owner)
        self._note("stage", staged.ref)
        return staged

    def _retire(self, ref: Ref) -> bool:
        is_changed = self._inner.retire(ref)
        if is_changed:
            self._note("retire", ref)
        return is_changed

    def _changed(self, change: Callable[[], Answer]) -> Answer:
        """Make the change, in today's mood."""
        trouble = self._next_trouble()
        if trouble == "refuse":
            raise random.choice((Unreachable, Busy))("The region was told to refuse.")  # noqa: S311 - both are retried
        if trouble == "hang":
            time.sleep(self._mood.hang_seconds)
        if trouble == "die_half_way":
            _die_within(_HALF_WAY)
        answer = change()
        if trouble == "answer_late":
            time.sleep(self._mood.late_seconds)
        if trouble == "spoil":
            self._spoil()
        if trouble in ("lose_answer", "answer_late"):
            raise OutcomeUnknown("The region was told to lose its answer.")
        return answer

    def _next_trouble(self) -> str:
        """A byte for each change asked of the region: whoever is killed in between leaves the count whole."""
        with (
            exclusive_lock(self._journal.with_suffix(".lock"), timeout=_LOCK_TIMEOUT),
            self._journal.with_suffix(".calls").open("ab") as calls,
        ):
            number = calls.tell()
            calls.write(b".")
        return trouble_of(self._seed, number, self._mood)

    def _note(self, verb: str, ref: Ref) -> None:
        line = asdict(Change(verb=verb, certificate_id=ref.name.certificate_id, label=ref.name.label))
        with self._journal.open("a") as journal:
            journal.write(json.dumps(line) + "\n")

    def _spoil(self) -> None:
        """A sick disk: what was written is empty now, and nobody was told.

        Each object once: a second repair of one comes minutes after the first (``shared/domain/repairs.py``).
        """
        marks = self._journal.with_suffix(".spoiled")
        spoiled = set(marks.read_text().splitlines()) if marks.exists() else set()
        written = sorted((self._directory / "current").glob("*.pem"), key=lambda file: file.stat().st_mtime)
        if written and written[-1].name not in spoiled:
            with marks.open("a") as names:
                names.write(f"{written[-1].name}\n")
            written[-1].write_bytes(b"")


def trouble_of(seed: str, number: int, mood: Mood) -> str:
    """What the ``number``-th change meets; empty: nothing."""
    chance = random.Random(f"{seed} {number}").random()  # noqa: S311 - reproducible, not secret
    for name in ("refuse", "lose_answer", "hang", "answer_late", "die_half_way", "spoil"):
        chance -= getattr(mood, name)
        if chance < 0:
            return name
    return ""


def read_journal(journal: Path) -> Sequence[Change]:
    """Every change that was made, in order."""
    if not journal.exists():
        return ()
    return [Change(**json.loads(line)) for line in journal.read_text().splitlines()]


def _die_within(seconds: float) -> None:
    delay = random.uniform(0, seconds)  # noqa: S311 - any point will do
    threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
