"""The certificate service of ``certfleet up``: there from the start, the same from start to start, yours if changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.embedded.layout import StateDir, prepare
from services.cli.embedded.sources import keep_sources_file, place_orders
from shared.config.sources import load_sources
from shared.usecases.source_registry import build_source

pytestmark = pytest.mark.unit


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return prepare(tmp_path / "state")


def test_a_couple_of_certificates_are_there_and_are_issued_once(state: StateDir) -> None:
    keep_sources_file(state, account="default")
    services = load_sources(state.sources_file)
    place_orders(services)
    source = build_source(services["local-ca"])
    offers = source.list_offers().offers
    assert {offer.name for offer in offers} == {"shop.example.test", "legacy.example.test"}
    place_orders(services)
    assert source.list_offers().offers == offers


def test_the_file_follows_a_directory_that_was_moved(state: StateDir, tmp_path: Path) -> None:
    keep_sources_file(state, account="default")
    moved = prepare(tmp_path / "moved")
    moved.sources_file.write_text(state.sources_file.read_text(encoding="utf-8"), encoding="utf-8")
    keep_sources_file(moved, account="default")
    assert load_sources(moved.sources_file)["local-ca"].settings == {"path": str(moved.local_ca)}


def test_a_file_without_our_mark_is_left_alone(state: StateDir) -> None:
    state.sources_file.write_text("# mine\n", encoding="utf-8")
    keep_sources_file(state, account="default")
    assert state.sources_file.read_text(encoding="utf-8") == "# mine\n"
    place_orders(load_sources(state.sources_file))
    assert not state.local_ca.exists()
