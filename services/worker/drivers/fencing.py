"""A balancer's own record of its newest writer, so that one who was paused for too long changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import Corrupt, Replan


def admit(record: Path, fence: int | None) -> None:
    """Compare with, and raise, the number in the file ``record``; the caller holds the balancer's lock.

    Kept over a crash of the writer, not over a power cut (no fsync): nobody of before the cut is still at work.

    Raises:
        Replan: the balancer has seen a higher number; nothing was changed.
        Corrupt: the record holds no number.
    """
    if fence is None:
        return
    seen = _read(record)
    if seen > fence:
        raise Replan(f"A newer writer ({seen}) has taken over from this one ({fence}).")
    if seen < fence:
        following = record.with_name(record.name + ".next")
        following.write_text(f"{fence}\n", encoding="ascii")
        os.replace(following, record)  # noqa: PTH105 - one call, atomic


def _read(record: Path) -> int:
    try:
        return int(record.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise Corrupt(f"{record} holds no fencing number; remove it when no worker is at work.") from error
