"""Kept secrets stay readable, whoever writes to them at the same time."""

from __future__ import annotations

import shutil
from pathlib import Path

from shared.crypto.vault import Binding, add_kek, load_vault
from shared.models import Purpose
from shared.usecases import secrets
from tests.support.fleet import build_fleet


def test_a_secret_that_is_replaced_while_keys_rotate_can_be_read(database_url: str, tmp_path: Path) -> None:
    """A machine that has not got the new key file yet replaces it; another one wraps it anew at that moment."""
    fleet = build_fleet(database_url, tmp_path)
    kek_file = fleet.context.settings.kek_file
    behind = load_vault(Path(shutil.copy(kek_file, tmp_path / "behind.json")))
    add_kek(kek_file, now=fleet.now)
    vault = load_vault(kek_file)
    account_id = fleet.caller.account_id
    binding = Binding(account_id=account_id, subject_id=account_id, purpose=Purpose.CALLBACK_SECRET)

    with fleet.transaction() as session:
        secrets.keep(session, behind, binding, b"second")
        with fleet.transaction() as another:
            secrets.rewrap_batch(another, vault)

    with fleet.transaction() as session:
        assert secrets.read(session, vault, binding) == b"second"
        assert secrets.rewrap_batch(session, vault) == 1
    fleet.context.database.close()
