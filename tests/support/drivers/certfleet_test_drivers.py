"""Drivers for tests and benchmarks: the ``directory`` driver, late (``slow``) or failing to order (``faulty``).

They register by entry points, as anybody's driver does: put this file's directory on ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from services.worker.drivers.directory import DirectoryDriver
from services.worker.drivers.disk import exclusive_lock
from shared.config.regions import Region
from shared.domain.certificates import Material
from shared.errors import DriverError, Misconfigured
from shared.usecases.driver import Capabilities, Driver, Listener, Owner, Ref, Snapshot, Staged

KINDS: Final[dict[str, type[Exception]]] = {
    **{kind.__name__: kind for kind in DriverError.__subclasses__()},
    "RuntimeError": RuntimeError,
}
"""What a fault may raise, by class name; ``RuntimeError`` is a driver that breaks the contract."""

_LOCK_TIMEOUT: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``verb`` raises ``error`` the next ``times`` times (``None``: until the file changes).

    ``after`` does the work first: the change is made and its answer lost, as in ``OutcomeUnknown``.
    """

    error: str
    verb: str = "stage"
    times: int | None = 1
    after: bool = False


def write_faults(path: Path, *faults: Fault) -> None:
    """Replace what a region's ``fault_file`` orders; no faults: the driver works again."""
    with _locked(path):
        _store(path, list(faults))


def read_faults(path: Path) -> list[Fault]:
    """What is still to be raised."""
    return [Fault(**one) for one in json.loads(path.read_text())] if path.exists() else []


class SlowDriver:
    """Setting ``delay_seconds`` (default 0), waited before every verb; the others are the directory driver's."""

    def __init__(self, inner: Driver, *, delay: timedelta) -> None:
        self._inner = inner
        self._delay = delay

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Raises Misconfigured as the directory driver does."""
        delay, rest = _taken(region, "delay_seconds", default=0)
        if not isinstance(delay, int | float) or delay < 0:
            raise Misconfigured(("delay_seconds takes seconds from 0",))
        return cls(DirectoryDriver.for_region(rest), delay=timedelta(seconds=delay))

    def fenced(self, fence: int) -> SlowDriver:
        return SlowDriver(self._inner.fenced(fence), delay=self._delay)

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def snapshot(self) -> Snapshot:
        self._wait()
        return self._inner.snapshot()

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        self._wait()
        return self._inner.stage(material, owner=owner)

    def bind(self, listener: Listener) -> bool:
        self._wait()
        return self._inner.bind(listener)

    def unbind(self, listener: Listener) -> bool:
        self._wait()
        return self._inner.unbind(listener)

    def retire(self, ref: Ref) -> bool:
        self._wait()
        return self._inner.retire(ref)

    def _wait(self) -> None:
        time.sleep(self._delay.total_seconds())


class FaultyDriver:
    """Setting ``fault_file``: a file of :func:`write_faults`; without it, or when it is used up, nothing fails."""

    def __init__(self, inner: Driver, *, fault_file: Path) -> None:
        self._inner = inner
        self._fault_file = fault_file

    @classmethod
    def for_region(cls, region: Region) -> Self:
        """Raises Misconfigured as the directory driver does."""
        fault_file, rest = _taken(region, "fault_file", default=None)
        if not isinstance(fault_file, str):
            raise Misconfigured(("fault_file is missing",))
        return cls(DirectoryDriver.for_region(rest), fault_file=Path(fault_file))

    def fenced(self, fence: int) -> FaultyDriver:
        return FaultyDriver(self._inner.fenced(fence), fault_file=self._fault_file)

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def snapshot(self) -> Snapshot:
        self._raise_due("snapshot", after=False)
        snapshot = self._inner.snapshot()
        self._raise_due("snapshot", after=True)
        return snapshot

    def stage(self, material: Material, *, owner: Owner) -> Staged:
        self._raise_due("stage", after=False)
        staged = self._inner.stage(material, owner=owner)
        self._raise_due("stage", after=True)
        return staged

    def bind(self, listener: Listener) -> bool:
        self._raise_due("bind", after=False)
        is_changed = self._inner.bind(listener)
        self._raise_due("bind", after=True)
        return is_changed

    def unbind(self, listener: Listener) -> bool:
        self._raise_due("unbind", after=False)
        is_changed = self._inner.unbind(listener)
        self._raise_due("unbind", after=True)
        return is_changed

    def retire(self, ref: Ref) -> bool:
        self._raise_due("retire", after=False)
        is_changed = self._inner.retire(ref)
        self._raise_due("retire", after=True)
        return is_changed

    def _raise_due(self, verb: str, *, after: bool) -> None:
        with _locked(self._fault_file):
            faults = read_faults(self._fault_file)
            due = next((fault for fault in faults if (fault.verb, fault.after) == (verb, after)), None)
            if due is None:
                return
            if due.times is not None:
                left = [replace(due, times=due.times - 1)] if due.times > 1 else []
                _store(self._fault_file, left + [fault for fault in faults if fault is not due])
        raise KINDS[due.error](f"The faulty driver was told to fail {verb} with {due.error}.")


def _taken(region: Region, setting: str, *, default: Any) -> tuple[Any, Region]:
    settings = dict(region.settings)
    value = settings.pop(setting, default)
    return value, replace(region, settings=settings)


def _locked(path: Path) -> Any:
    return exclusive_lock(path.with_name(path.name + ".lock"), timeout=_LOCK_TIMEOUT)


def _store(path: Path, faults: list[Fault]) -> None:
    rows = [{"verb": f.verb, "error": f.error, "times": f.times, "after": f.after} for f in faults]
    following = path.with_name(path.name + ".next")
    following.write_text(json.dumps(rows))
    following.replace(path)
