"""The default regions file: three load balancers of this machine, whose addresses stay the same from start to start."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.cli.embedded import envoy
from services.cli.embedded.connection import write_private
from services.cli.embedded.layout import StateDir
from services.cli.embedded.ports import Ports
from shared.config.regions import parse_regions

HOST: Final = "127.0.0.1"

_DEFAULTS: Final = {
    "cn-hangzhou": "China (Hangzhou)",
    "eu-central-1": "Germany (Frankfurt)",
    "us-west-1": "US (Silicon Valley)",
}
"""Ids and names as Alibaba Cloud's "Regions and zones" has them."""

_HEAD: Final = (
    "# Written by certfleet up, which starts an Envoy for each of these regions and keeps the file up to date.\n"
    "# Change anything below and it is yours: certfleet up then only reads it. (Its checksum: {checksum}.)\n\n"
)
_CHECKSUM: Final = re.compile(r"\(Its checksum: ([0-9a-f]{16})\.\)\n\n")


def keep_regions_file(state: StateDir, *, sockets: Path, ports: Ports, say: Callable[[str], None]) -> None:
    """Write the regions file where there is none; bring our own up to date; touch nobody else's.

    Kept ports stay, unless somebody else took one and the region serves nothing yet: then nobody knows the address,
    and another is chosen. (For a region that serves something, ``envoy.find_balancers`` refuses.)
    """
    found = _read(state.regions_file)
    if found is not None and not is_ours(found):
        return
    kept = _ports_in(found) if found else {}
    chosen = {region: _port(state, region, kept.get(region), ports=ports, say=say) for region in _DEFAULTS}
    text = _sealed("\n".join(_entry(state, region, sockets=sockets, port=chosen[region]) for region in _DEFAULTS))
    if text != found:
        write_private(state.regions_file, text)


def is_ours(text: str) -> bool:
    """Whether nobody changed the file since we wrote it."""
    head, mark, body = _split(text)
    return bool(mark) and _HEAD.format(checksum=mark) == head and mark == _digest(body)


def _port(state: StateDir, region: str, kept: int | None, *, ports: Ports, say: Callable[[str], None]) -> int:
    if kept is not None:
        try:
            ports.take(HOST, kept, owner=region)
        except OSError as error:
            if envoy.is_serving(state.regions / region):
                return kept
            say(f"Port {kept} of {region} cannot be used any more ({error.strerror}); choosing another")
        else:
            return kept
    return ports.choose(HOST, seed=f"{state.root}/{region}", owner=region)


def _entry(state: StateDir, region: str, *, sockets: Path, port: int) -> str:
    # A TOML basic string takes JSON's escapes (toml.io 1.0.0, "String").
    path, admin = (
        json.dumps(text, ensure_ascii=False)
        for text in (str(state.regions / region), f"unix:{envoy.admin_socket(sockets, region)}")
    )
    return (
        f'[[region]]\nid = "{region}"\nname = "{_DEFAULTS[region]}"\ndriver = "envoy"\n'
        f'listener_address = "{HOST}:{port}"\nrepair = true\n[region.settings]\npath = {path}\nadmin = {admin}\n'
    )


def _ports_in(text: str) -> dict[str, int]:
    """Of a file that is ours, so that it parses; regions that this release does not have are left out."""
    regions = parse_regions(tomllib.loads(text), origin="the default regions").values()
    addresses = {region.id: region.listener_address for region in regions}
    return {region: int(address.rpartition(":")[2]) for region, address in addresses.items() if address}


def _sealed(body: str) -> str:
    return _HEAD.format(checksum=_digest(body)) + body


def _split(text: str) -> tuple[str, str, str]:
    found = _CHECKSUM.search(text)
    return (text[: found.end()], found[1], text[found.end() :]) if found else ("", "", text)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _read(path: Path) -> str | None:
    """Undecodable or unreadable is not ours; whoever loads the regions says what is wrong."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""
