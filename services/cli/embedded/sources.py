"""The default sources file: a certificate service of this machine, so that the managed path can be tried at once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.cli.embedded.connection import write_private
from services.cli.embedded.layout import StateDir
from shared.config.sources import CertificateService
from shared.usecases.source import Issues
from shared.usecases.source_registry import build_source

LOCAL_CA: Final = "local-ca"

_MARK: Final = "# Written by certfleet up, which keeps it up to date. Remove this line, and the file is yours.\n"

_ORDERS: Final = (
    (("shop.example.test", "www.shop.example.test"), timedelta(days=90)),
    (("legacy.example.test",), timedelta(days=20)),
)
"""What is there from the start: one to deploy, and one whose renewal is due. The names are nobody's (RFC 6761 §6.2)."""


def keep_sources_file(state: StateDir, *, account: str) -> None:
    """Write the sources file where there is none; bring our own up to date; touch nobody else's."""
    text = _text(state.local_ca, account)
    found = _read(state.sources_file)
    if found is None or (found.startswith(_MARK) and found != text):
        write_private(state.sources_file, text)


def place_orders(services: dict[str, CertificateService]) -> None:
    """Have the local authority issue what is there from the start; what it has issued already stays as it is."""
    service = services.get(LOCAL_CA)
    source = build_source(service) if service else None
    if isinstance(source, Issues):
        for names, life in _ORDERS:
            source.order(names, reference=f"first-{names[0]}", days=life.days)


def _text(place: Path, account: str) -> str:
    # A TOML basic string takes JSON's escapes (toml.io 1.0.0, "String").
    path, owner = (json.dumps(text, ensure_ascii=False) for text in (str(place), account))
    return (
        f'{_MARK}\n[[source]]\nid = "{LOCAL_CA}"\nname = "Local certificate authority"\nkind = "local_ca"\n'
        f"account = {owner}\n[source.settings]\npath = {path}\n"
    )


def _read(path: Path) -> str | None:
    """Undecodable or unreadable is not ours; whoever loads the sources says what is wrong."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""
