"""Writing generations: one writer, compare-and-swap, recovery after a kill, and no key left in what is past.

A new generation differs from the standing one in a few objects; the other files are hard links. It is built in the
directory of the oldest one, most of whose files it keeps: a change costs what changes, however much lies there. Older
generations are kept for readers that are still in them, but hold no object that the current one dropped.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from services.worker.drivers.disk import driver_error, exclusive_lock, read_at, set_access, sync_directory, write_new
from services.worker.drivers.fencing import admit
from services.worker.drivers.generations import (
    MANIFEST,
    FoundFile,
    Generations,
    Manifest,
    Record,
    find,
    names_in,
    number_of,
)
from shared.errors import Corrupt, OutcomeUnknown, Replan

_BUILDING: Final = ".building-"
_DIRECTORY_MODE: Final = 0o750
_MANIFEST_MODE: Final = 0o640


@contextmanager
def writing(place: Generations, *, fence: int | None = None) -> Iterator[Publisher]:
    """Become the only writer: wait for the lock, put right what a killed writer left, read where the directory stands.

    Raises:
        Busy: the lock was not free within ``place.lock_timeout``.
        Replan: a writer with a higher ``fence`` was here; nothing was changed.
        Corrupt: ``current`` leads nowhere, or its manifest is not one, or the record of fences holds no number.
        OSError: the directory cannot be written.
    """
    _make_directory(place.root, place.group_id)
    with exclusive_lock(place.root / "lock", timeout=place.lock_timeout):
        admit(place.fence, fence)
        _make_directory(place.numbered, place.group_id)
        yield Publisher.recovered(place)


@dataclass(slots=True, kw_only=True)
class Publisher:
    """The right to publish, while the lock is held. ``manifest`` is where the directory stands."""

    place: Generations
    manifest: Manifest
    target: str | None = field(repr=False)

    @classmethod
    def recovered(cls, place: Generations) -> Self:
        """Remove what killed writers left: half-built and never-published generations, keys that were to go."""
        (place.root / ".current.next").unlink(missing_ok=True)
        target = place.target() or _adopt_newest(place)
        manifest = place.read_manifest(target) if target else Manifest()
        for name in names_in(place.numbered):
            if name.startswith(_BUILDING) or number_of(name) > manifest.generation:
                _remove(place.numbered / name)
        _purge(place, manifest)
        return cls(place=place, manifest=manifest, target=target)

    def holds(self, label: str, record: Record) -> bool:
        """Whether the standing generation has exactly this object, undamaged."""
        if self.target is None or self.manifest.objects.get(label) != record:
            return False
        with _opened(self.place.root / self.target) as directory:
            found = {name: find(directory, name) for name in record.files}
        return all(_is_intact(found[name], record, name, group_id=self.place.group_id) for name in record.files)

    def put(self, records: Mapping[str, Record], *, content: Mapping[str, bytes]) -> dict[str, bytes]:
        """Publish the next generation with these objects written anew; answers their files as ``current`` has them now.

        Raises:
            Replan: somebody without the lock has moved ``current``; nothing was changed.
            Corrupt: ``current`` does not lead to what was published.
            OutcomeUnknown: an error after the swap.
            OSError: an error before it; nothing was changed.
        """
        self._publish({**self.manifest.objects, **records}, content)
        with _after_swap(self.place.root), _opened(self.place.current) as directory:
            if read_at(directory, MANIFEST) != self.manifest.encoded:
                raise Corrupt(f"{self.place.current} does not lead to what was published.")
            return {name: read_at(directory, name) for name in content}

    def drop(self, label: str) -> None:
        """Publish the next generation without this object; its files also leave the older ones.

        Raises:
            Replan, OutcomeUnknown, OSError: as :meth:`put`.
        """
        self._publish({other: record for other, record in self.manifest.objects.items() if other != label}, {})
        with _after_swap(self.place.root):
            _purge(self.place, self.manifest)

    def _publish(self, objects: Mapping[str, Record], content: Mapping[str, bytes]) -> None:
        following = Manifest(generation=self.manifest.generation + 1, objects=objects)
        target = f"{self.place.numbered.name}/{following.generation}"
        building = _room_for(self.place, following.generation)
        try:
            self._build(building, following, content)
            building.rename(self.place.root / target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        sync_directory(self.place.numbered)
        self._swap(target)
        self.manifest, self.target = following, target

    def _build(self, building: Path, following: Manifest, content: Mapping[str, bytes]) -> None:
        unchanged = following.files.keys() - content.keys()
        _take_over(self.place.root / self.target if self.target else None, building, unchanged)
        for name, data in content.items():
            _put_file(self.place, building / name, data, mode=following.files[name].mode)
        _put_file(self.place, building / MANIFEST, following.encoded, mode=_MANIFEST_MODE)
        set_access(building, mode=_DIRECTORY_MODE, group_id=self.place.group_id)
        sync_directory(building)

    def _swap(self, target: str) -> None:
        standing = self.place.target()
        if standing != self.target:
            raise Replan(f"{self.place.current} was moved to {standing} by somebody who does not hold the lock.")
        _point_current_at(self.place, target)
        with _after_swap(self.place.root):
            sync_directory(self.place.root)


@contextmanager
def _after_swap(place: Path) -> Iterator[None]:
    """From here on clients may see the change: an error no longer means that nothing happened."""
    try:
        yield
    except OSError as error:
        known = driver_error(error, place)
        raise OutcomeUnknown(f"The change was made, then: {known.message}", hint=known.hint) from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(path: Path, group_id: int | None) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if path.is_dir():
            return
        raise
    set_access(path, mode=_DIRECTORY_MODE, group_id=group_id)
    sync_directory(path.parent)


def _adopt_newest(place: Generations) -> str | None:
    """Without ``current``, nothing was published, or somebody removed the link: take the newest complete generation."""
    complete = [number for number in place.numbers() if (place.numbered / str(number) / MANIFEST).exists()]
    if not complete:
        return None
    target = f"{place.numbered.name}/{complete[-1]}"
    _point_current_at(place, target)
    return target


def _point_current_at(place: Generations, target: str) -> None:
    following = place.root / ".current.next"
    following.symlink_to(target)
    following.replace(place.current)


def _is_intact(found: FoundFile, record: Record, name: str, *, group_id: int | None) -> bool:
    facts = record.files[name]
    return found.sha256 == facts.sha256 and found.mode == facts.mode and group_id in (None, found.group_id)


def _room_for(place: Generations, generation: int) -> Path:
    """Where the generation is built: the directory of one that is not kept any longer, or an empty one.

    Whoever still reads the old one there misses its manifest, or a file of it, and begins anew at ``current``; so the
    directory stays open to its readers, and nothing half-written lies in it (:func:`_put_file`).
    """
    building = place.numbered / f"{_BUILDING}{generation}"
    past = [place.numbered / str(number) for number in place.numbers() if number <= generation - place.keep]
    for directory in past[:-1]:
        shutil.rmtree(directory)
    if past and _is_renamed(past[-1], building):
        (building / MANIFEST).unlink(missing_ok=True)
    else:
        building.mkdir(mode=0o700)
    return building


def _is_renamed(directory: Path, following: Path) -> bool:
    """Whether it could be; otherwise it is gone.

    A directory that lies in a lower layer of an overlay, as one in a container's image does, cannot be renamed (Linux,
    Documentation/filesystems/overlayfs, "Renaming directories").
    """
    try:
        directory.rename(following)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(directory)
        return False
    return True


def _take_over(standing: Path | None, building: Path, unchanged: AbstractSet[str]) -> None:
    """Leave in the directory just these files of the standing generation, as hard links.

    One that is gone from the standing generation stays gone, and the next snapshot says so.
    """
    wanted = {name: inode for name, inode in _files(standing).items() if name in unchanged} if standing else {}
    here = {name: inode for name, inode in _files(building).items() if wanted.get(name) == inode}
    for name in set(names_in(building)) - here.keys():
        _remove(building / name)
    if standing is None:
        return
    with _opened(standing) as old, _opened(building) as new:
        for name in wanted.keys() - here.keys():
            with suppress(FileNotFoundError):
                os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)


def _files(directory: Path) -> dict[str, int]:
    """The inode numbers of the files in the directory, by name; a link or directory in a file's place is none."""
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries if entry.is_file(follow_symlinks=False)}


def _put_file(place: Generations, path: Path, content: bytes, *, mode: int) -> None:
    """Write a file beside the generations, and move it to its place in one when it is whole."""
    written = place.numbered / f"{_BUILDING}file"
    try:
        write_new(written, content, mode=mode, group_id=place.group_id)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def _remove(path: Path) -> None:
    """A file of ours, or whatever somebody put there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _purge(place: Generations, standing: Manifest) -> None:
    """Take out of older generations whatever the standing one does not hold: its keys must not lie there."""
    wanted = {*standing.files, MANIFEST}
    for number in place.numbers():
        directory = place.numbered / str(number)
        dropped = set(names_in(directory)) - wanted
        if dropped and number != standing.generation:
            _drop_files(place, directory, dropped)


def _drop_files(place: Generations, directory: Path, dropped: set[str]) -> None:
    """First out of the manifest, then off the disk: the older generation stays one that verifies."""
    try:
        _rewrite_manifest(place, directory, dropped)
    except Corrupt:  # nobody can tell what an older generation without a manifest is: it is not worth keeping
        shutil.rmtree(directory)
        return
    for name in dropped:
        _remove(directory / name)
    sync_directory(directory)


def _rewrite_manifest(place: Generations, directory: Path, dropped: set[str]) -> None:
    old = place.read_manifest(f"{place.numbered.name}/{directory.name}")
    rest = {label: record for label, record in old.objects.items() if not dropped & set(record.files)}
    manifest = Manifest(generation=old.generation, objects=rest)
    _put_file(place, directory / MANIFEST, manifest.encoded, mode=_MANIFEST_MODE)
