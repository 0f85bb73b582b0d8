"""A balancer's own record of its newest writer, so that one who was paused for too long changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.worker.drivers.disk import overwrite, write_new
from shared.errors import Corrupt, Replan

_MODE: Final = 0o600
_LONGEST: Final = 20
"""Digits: more than any 64-bit number has."""


def admit(record: Path, fence: int | None) -> None:
    """Compare with, and raise, the number in the file ``record``; the caller holds the balancer's lock.

    The record is on the disk before it counts, so no power cut leaves half a number; its directory is not synced: a
    cut may take the newest number back, and nobody of before the cut is still at work.

    Raises:
        Replan: the balancer has seen a higher number; nothing was changed.
        Corrupt: the record holds no number.
        OSError: it cannot be read or written; nothing was changed.
    """
    if fence is None:
        return
    content = _read(record)
    seen = _number(content, record)
    if seen > fence:
        raise Replan(
            f"A newer writer ({seen}) has taken over from this one ({fence}).",
            hint=f"If no worker is at work (the database was restored from a backup), remove {record}.",
        )
    if seen < fence:
        _write(record, f"{fence}\n".encode("ascii"), over=content)


def _read(record: Path) -> bytes | None:
    try:
        return record.read_bytes()
    except FileNotFoundError:
        return None


def _number(content: bytes | None, record: Path) -> int:
    if content is None:
        return 0
    text = content.strip()
    if not text.isdigit() or len(text) > _LONGEST:
        raise Corrupt(f"{record} holds no fencing number; remove it when no worker is at work.")
    return int(text)


def _write(record: Path, content: bytes, *, over: bytes | None) -> None:
    """Over the old number where that is as long, which is most often: no file is made and removed for each writer.

    It is far less than a sector, which a disk writes whole or not at all.
    """
    if over is not None and len(over) == len(content):
        overwrite(record, content)
        return
    following = record.with_name(record.name + ".next")
    following.unlink(missing_ok=True)
    write_new(following, content, mode=_MODE)
    following.replace(record)
