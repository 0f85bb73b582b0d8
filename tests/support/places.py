"""Directories for servers of tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory straight below the temporary one, removed at the end.

    Not pytest's ``tmp_path``: each pytest session closes the directory of all sessions to other users again, while
    root's PostgreSQL of an earlier session, which runs as another user, still has to pass through it.
    """
    place = Path(tempfile.mkdtemp(prefix="certfleet-test-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)
