"""The right to change one HAProxy: the lock is held, what a killed writer left is put right, files come first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.worker.drivers.disk import driver_error
from services.worker.drivers.haproxy_files import Damaged, Place
from services.worker.drivers.haproxy_list import NOBODY, CrtList, Entry, Line, RunningLine
from services.worker.drivers.haproxy_runtime import UNUSED, HaproxyRuntime, Wanted
from shared.errors import Busy, Corrupt, InUse, InvalidMaterial, OutcomeUnknown, Replan, Unreachable
from shared.usecases.driver import ObjectName


@dataclass(slots=True, kw_only=True)
class Session:
    """One writer at work.

    Attributes:
        crt_list: what the file says.
        running: what HAProxy serves, each line with its number.
        recovered: accounts and listeners of lines that a killed writer had left in the running HAProxy.
        is_changing: whether anything was changed, so that an error no longer means that nothing happened.
    """

    place: Place
    runtime: HaproxyRuntime
    crt_list: CrtList
    running: tuple[RunningLine, ...]
    recovered: frozenset[tuple[str, str]] = frozenset()
    is_changing: bool = field(default=False)

    def begin(self) -> None:
        """From here on something is changed."""
        if not self.is_changing:
            self.place.count_change()
            self.is_changing = True

    def recover(self) -> None:
        """End open transactions, and delete lines on trial and lines whose listener has left."""
        self.runtime.abort(self.runtime.files().open)
        self.delete([one for one in self.running if one.line.filters == NOBODY and self.is_ours(one.line)])
        current = set(self.crt_list.lines)
        served = {one.line for one in self.running}
        leaving = [entry for entry in self.crt_list.leaving if entry.line in served - current]
        resolved = [entry for entry in leaving if self._has_follower(entry)]
        gone = {entry.line for entry in resolved}
        self.delete([one for one in self.running if one.line in gone])
        self.recovered = frozenset(entry.key for entry in resolved)
        unresolved = tuple(entry for entry in leaving if entry not in resolved)
        self.crt_list = replace(self.crt_list, leaving=unresolved)

    def stored(self, name: ObjectName) -> Wanted:
        """A staged object, undamaged.

        Raises:
            Replan: it is not; stage it again.
        """
        try:
            return self.place.read_object(name).wanted
        except (Damaged, FileNotFoundError):
            raise Replan(f"{name.label} is not staged, or damaged; stage it again.") from None

    def ensure_loaded(self, wanted: Wanted) -> bool:
        """Load an object into the running HAProxy unless it holds exactly that; whether it had to."""
        held = self.runtime.held(wanted.path, is_ca=wanted.is_ca)
        if wanted.is_in(held):
            return False
        self.runtime.check_size(wanted)
        self.begin()
        self.runtime.load(wanted)
        return True

    def check_alive(self, lines: list[RunningLine]) -> None:
        """Refuse to work on a line whose certificate HAProxy has lost track of (its issue 3165).

        Raises:
            Corrupt: it says ``Unused`` of a certificate that a line serves; a commit would change nothing, a deletion
                would leave a pointer into freed memory.
        """
        for certificate in sorted({running.line.certificate for running in lines}):
            held = self.runtime.held(Path(certificate), is_ca=False)
            if held is None or held.status == UNUSED:
                raise Corrupt(
                    f"HAProxy serves {certificate} and has lost track of it: somebody changed a CA file in use.",
                    hint="Reload HAProxy: it reads everything anew from the files, which are right.",
                )

    def try_out(self, line: Line) -> None:
        """Let HAProxy build what it would serve, for no host name; a line that it refuses never gets into the file.

        Raises:
            InvalidMaterial: refused; nothing was changed.
        """
        self.runtime.check_line(line)
        trial = line.on_trial()
        self.begin()
        self.runtime.add(trial)
        self.delete([running for running in self.runtime.lines() if running.line == trial])

    def serve(self, entry: Entry) -> None:
        """Load what an entry refers to, and add its line.

        Raises:
            Replan: an object is not staged, or damaged.
            InvalidMaterial: HAProxy refuses; nothing was changed.
        """
        for path in filter(None, (entry.line.certificate, entry.line.ca)):
            name = self.place.name_of(Path(path))
            if name is not None:
                self.ensure_loaded(self.stored(name))
        self.begin()
        self.runtime.add(entry.line)
        self.running = self.runtime.lines()

    def write(self, crt_list: CrtList) -> None:
        """What is served from HAProxy's next start on."""
        self.begin()
        self.place.write_crt_list(crt_list)
        self.crt_list = crt_list

    def delete(self, lines: list[RunningLine]) -> None:
        """Stop serving these lines."""
        for running in lines:
            self.begin()
            self.runtime.delete(running)
        if lines:
            self.running = self.runtime.lines()

    def strays(self, hosts: frozenset[str]) -> list[RunningLine]:
        """Served lines with our objects that the file does not have, or has once only, and that touch these hosts."""
        known = set(self.crt_list.lines)
        found, seen = [], set()
        for running in self.running:
            is_known = running.line in known and running.line not in seen
            seen.add(running.line)
            if not is_known and self.is_ours(running.line) and hosts & set(running.line.filters):
                found.append(running)
        return found

    def is_ours(self, line: Line) -> bool:
        """Whether a line serves one of our objects."""
        return self.place.name_of(Path(line.certificate)) is not None

    def check_free(self, entry: Entry) -> None:
        """Refuse host names that somebody else answers for.

        Raises:
            InUse: another listener of ours, or a line that an operator wrote.
        """
        hosts = set(entry.line.filters)
        others = [one.line for one in self.crt_list.entries if one.key != entry.key]
        others += [one.line for one in self.running if not self.is_ours(one.line)]
        taken = sorted({host for line in others for host in line.filters} & hosts)
        if taken:
            raise InUse(f"Another listener answers for {', '.join(taken)}.")

    def _has_follower(self, left: Entry) -> bool:
        """Whether what the file has in place of a line is served, too, so that the line can go without a gap."""
        following = self.crt_list.find(left.key)
        if following is None or any(one.line == following.line for one in self.running):
            return True
        try:
            self.serve(following)
        except (Replan, InvalidMaterial):  # its files were damaged meanwhile: the old line goes on until that is healed
            return False
        return True


@contextmanager
def session(place: Place, runtime: HaproxyRuntime, fence: int | None) -> Iterator[Session]:
    """Become the only writer of a HAProxy.

    Raises:
        Busy: another writer holds the lock for too long.
        Replan: a newer writer has taken over.
        OutcomeUnknown: what went wrong, went wrong after the first change.
    """
    with place.writing(fence):
        work = Session(place=place, runtime=runtime, crt_list=place.read_crt_list(), running=runtime.lines())
        try:
            work.recover()
            yield work
        except (Busy, Unreachable) as error:
            if not work.is_changing:
                raise
            raise OutcomeUnknown(f"A change was begun, then: {error.message}", hint=error.hint) from error
        except OSError as error:
            if not work.is_changing:
                raise
            known = driver_error(error, place.root)
            raise OutcomeUnknown(f"A change was begun, then: {known.message}", hint=known.hint) from error
