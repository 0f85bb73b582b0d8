"""Rows are locked so that others may still point at them: FOR NO KEY UPDATE, never FOR UPDATE.

An insert of a row with a foreign key takes FOR KEY SHARE on the row it points at, which FOR UPDATE keeps waiting: a
transaction that holds a job and waits for the event counter, and one that holds the counter and inserts an attempt of
that job, would wait for each other. No key is ever changed, and no row of these is deleted.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = re.compile(r"with_for_update(?:=(?P<option>[^,)]+)|\((?P<call>[^)]*)\))")


IN_SQL = re.compile(r"\bFOR (?P<strength>NO KEY UPDATE|UPDATE|SHARE|KEY SHARE)\b")


def sources() -> list[Path]:
    return [*ROOT.glob("shared/**/*.py"), *ROOT.glob("services/**/*.py")]


def test_no_row_is_locked_against_foreign_keys() -> None:
    found = [
        (path.relative_to(ROOT), match.group())
        for path in sources()
        for match in LOCK.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 10
    assert [lock for lock in found if "key_share" not in lock[1]] == []


def test_statements_written_out_lock_no_row_against_them_either() -> None:
    found = [
        (path.relative_to(ROOT), match["strength"])
        for path in sources()
        for match in IN_SQL.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 2
    assert [lock for lock in found if lock[1] != "NO KEY UPDATE"] == []
