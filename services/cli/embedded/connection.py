"""``connection.json``: how to reach a running stack, and whether one runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.cli.embedded.layout import StateDir, is_alive, is_locked, locate
from shared.errors import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a client on the same machine needs. ``pid`` is the process of ``certfleet up``."""

    url: str
    token: str = field(repr=False)
    mailbox: str
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    smtp_url: str = field(repr=False)
    regions_file: str
    kek_file: str
    state_dir: str
    pid: int
    sources_file: str = ""

    def environment(self) -> dict[str, str]:
        """The settings of the stack's programs, for commands that work on the same data."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SMTP_URL": self.smtp_url,
            "CERTFLEET_REGIONS": self.regions_file,
            "CERTFLEET_KEK_FILE": self.kek_file,
            "CERTFLEET_PUBLIC_URL": self.url,
            "CERTFLEET_SOURCES": self.sources_file,
        }


def read_connection(state_dir: Path) -> Connection | None:
    """How to reach the stack of ``state_dir``; None when it does not run or is not ready.

    A file that a killed run left behind is not believed: the directory's lock tells whether anybody runs, and the
    process id whether that is the one that wrote the file (what it started may still be ending).

    Raises:
        Misconfigured: the file is there and is not ours.
    """
    state = locate(state_dir)
    try:
        if not is_locked(state):
            return None
        found = Connection(**json.loads(state.connection.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured((f"{state.connection} cannot be read; restart certfleet up.",)) from error
    return found if is_alive(found.pid) else None


def write_connection(state: StateDir, connection: Connection) -> None:
    """Announce a ready stack: the file appears whole, mode 0600."""
    write_private(state.connection, json.dumps(asdict(connection), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step, readable by us alone."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
