"""Kills and failures of the directory driver at every file system call, run as a process of its own.

``python -m tests.support.drivers.directory_rounds KIND DIRECTORY`` prints one JSON object a round;
the kinds are functions of this module: ``kill``, ``fail``, ``tamper``, ``race``, ``read``.
Calls are counted by CPython's audit events (``sys.addaudithook``), which come just before the call.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from services.worker.drivers.directory import DirectoryDriver, DirectorySettings
from services.worker.drivers.generations import MANIFEST, find, parse_manifest
from shared.errors import DriverError
from shared.usecases.driver import Staged
from tests.contract.driver_kit import owner, server_material

CALLS: Final = frozenset(
    {"open", "fcntl.flock", "shutil.rmtree"}
    | {f"os.{call}" for call in ("chmod", "chown", "link", "listdir", "mkdir", "remove", "rename", "rmdir", "scandir")}
    | {"os.symlink"}
)
MOST_POINTS: Final = 500
RACERS: Final = 8
EACH: Final = 3
NOBODY: Final = 65534

Row = dict[str, Any]


class Saboteur:
    """Does ``action`` at the ``point``-th file system call after being armed."""

    def __init__(self) -> None:
        self._left = 0
        self._action: Callable[[], None] = _input_output_error
        sys.addaudithook(self._called)

    def arm(self, point: int, action: Callable[[], None]) -> None:
        self._left, self._action = point, action

    def is_armed(self) -> bool:
        return self._left > 0

    def disarm(self) -> None:
        self._left = 0

    def _called(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self._left == 0 or event not in CALLS:
            return
        self._left -= 1
        if self._left == 0:
            self._action()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One directory, and a saboteur."""

    path: Path
    saboteur: Saboteur

    def driver(self) -> DirectoryDriver:
        return DirectoryDriver(DirectorySettings(path=self.path, lock_timeout=timedelta(seconds=60)))

    def stage(self, number: int) -> Staged:
        return self.driver().stage(server_material(), owner=owner(certificate_id=f"cert_{number}"))

    def labels(self) -> set[str]:
        return {held.ref.name.label for held in self.driver().snapshot().objects}


def kill(bench: Bench) -> Iterator[Row]:
    """Kill a child with signal 9 before every call of ``stage``, then of ``retire``; repeat the verb each time."""
    for verb in ("stage", "retire"):
        for point in range(1, MOST_POINTS):
            prepared = bench.stage(point) if verb == "retire" else None
            before = bench.labels()
            is_killed = _killed_in_child(bench, point, prepared)
            yield _row(bench, before, verb=verb, point=point, is_stopped=is_killed, error=None)
            _do(bench, point, prepared)
            yield {"verb": verb, "point": point, "repeated": True, **_state(bench)}
            _empty(bench, keep=2)
            if not is_killed:
                break


def fail(bench: Bench) -> Iterator[Row]:
    """Make every call of ``stage``, then of ``retire``, fail with EIO."""
    for verb in ("stage", "retire"):
        for point in range(1, MOST_POINTS):
            prepared = bench.stage(point) if verb == "retire" else None
            before = bench.labels()
            bench.saboteur.arm(point, _input_output_error)
            error = _error_of(lambda: _do(bench, point, prepared))  # noqa: B023  # called at once
            is_stopped = not bench.saboteur.is_armed()
            bench.saboteur.disarm()
            yield _row(bench, before, verb=verb, point=point, is_stopped=is_stopped, error=error)
            _do(bench, point, prepared)
            yield {"verb": verb, "point": point, "repeated": True, **_state(bench)}
            _empty(bench, keep=2)
            if not is_stopped:
                break


def tamper(bench: Bench) -> Iterator[Row]:
    """Alter what was written between the writing and the swap, as a sick disk would."""

    def alter() -> None:
        for key in bench.path.glob("generations/*/*.key"):
            if key.stat().st_size:
                key.write_bytes(b"altered")
                return
        bench.saboteur.arm(1, alter)

    bench.saboteur.arm(1, alter)
    yield {"error": _error_of(lambda: bench.stage(1)), "altered": not bench.saboteur.is_armed()}


def race(bench: Bench) -> Iterator[Row]:
    """Stage from many processes at once."""
    children = [_forked(lambda: _stage_each(bench, racer)) for racer in range(RACERS)]  # noqa: B023  # runs in the child
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    yield {"exit_codes": codes, "objects": sorted(bench.labels()), **_state(bench)}


def read(bench: Bench) -> Iterator[Row]:
    """At every call of ``stage``, read what lies in the directory that the new generation is built in.

    Through a descriptor from when it was the current one, as a balancer that has not come back for long; it is in the
    files' group only.
    """
    for number in range(4):
        bench.stage(number)
    whole = {server_material().certificate_pem, server_material().private_key_pem}
    for point in range(1, MOST_POINTS):
        oldest = min((bench.path / "generations").iterdir(), key=lambda each: int(each.name))
        directory = os.open(oldest, os.O_RDONLY)
        met: dict[str, str] = {}
        bench.saboteur.arm(point, lambda: met.update(_read_all(directory)))  # noqa: B023  # called in this round
        bench.stage(point + 4)
        is_read = not bench.saboteur.is_armed()
        bench.saboteur.disarm()
        os.close(directory)
        yield {"point": point, "count": len(met), "halves": sorted(each for each in met if met[each] not in whole)}
        _empty(bench, keep=2)
        if not is_read:
            break


def _read_all(directory: int) -> dict[str, str]:
    found = {}
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        for name in os.listdir(directory):
            if name.endswith((".pem", ".key")):
                with suppress(FileNotFoundError), os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory)) as file:
                    found[name] = file.read()
    finally:
        os.seteuid(before)
    return found


def _stage_each(bench: Bench, racer: int) -> None:
    for number in range(EACH):
        bench.stage(racer * EACH + number)


def _do(bench: Bench, number: int, prepared: Staged | None) -> None:
    if prepared is None:
        bench.stage(number)
    else:
        bench.driver().retire(prepared.ref)


def _killed_in_child(bench: Bench, point: int, prepared: Staged | None) -> bool:
    def run() -> None:
        bench.saboteur.arm(point, lambda: os.kill(os.getpid(), signal.SIGKILL))
        _do(bench, point, prepared)

    code = os.waitstatus_to_exitcode(os.waitpid(_forked(run), 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"the child ended with {code}")
    return code != 0


def _forked(run: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run()
    except BaseException as error:  # noqa: BLE001  # a child must never return into the parent's code
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def _input_output_error() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _error_of(run: Callable[[], object]) -> Row | None:
    try:
        run()
    except DriverError as error:
        return {"kind": type(error).__name__, "may_have_happened": error.may_have_happened}
    except OSError as error:
        return {"kind": type(error).__name__, "may_have_happened": False}
    return None


def _row(bench: Bench, before: set[str], **facts: Any) -> Row:
    return {**facts, "changed": sorted(before ^ bench.labels()), **_anomalies(bench)}


def _state(bench: Bench) -> Row:
    held = bench.labels()
    keys = [path.stem for path in bench.path.rglob("*.key")]
    return {
        **_anomalies(bench),
        "leftovers": sorted(path.name for path in bench.path.rglob(".*")),
        "stray_keys": sorted(key for key in set(keys) if key not in held),
        "faulty_generations": [path.name for path in bench.path.glob("generations/*") if not _verifies(path)],
    }


def _anomalies(bench: Bench) -> Row:
    return {"anomalies": [f"{one.kind} {one.subject}" for one in bench.driver().snapshot().anomalies]}


def _verifies(generation: Path) -> bool:
    manifest, _ = parse_manifest((generation / MANIFEST).read_bytes(), known={})
    directory = os.open(generation, os.O_RDONLY)
    try:
        same = all(find(directory, name).sha256 == facts.sha256 for name, facts in manifest.files.items())
    finally:
        os.close(directory)
    return same and {path.name for path in generation.iterdir()} == {*manifest.files, MANIFEST}


def _empty(bench: Bench, *, keep: int) -> None:
    for held in bench.driver().snapshot().objects[keep:]:
        bench.driver().retire(held.ref)


def main() -> None:
    """Run one kind of round."""
    kinds = {"kill": kill, "fail": fail, "tamper": tamper, "race": race, "read": read}
    server_material()
    for row in kinds[sys.argv[1]](Bench(path=Path(sys.argv[2]), saboteur=Saboteur())):
        print(json.dumps(row), flush=True)  # noqa: T201  # the report


if __name__ == "__main__":
    main()
